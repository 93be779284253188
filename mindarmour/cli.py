"""Command line: arguments in, text out. Imports no MindSpore."""
import argparse
import json
import math
import sys
from dataclasses import asdict, replace

from mindarmour import cli_audit
from mindarmour.privacy.accounting import calibration, ledger_file
from mindarmour.privacy.accounting.accountant import ACCOUNTANTS, GUARANTEE, privacy_spent
from mindarmour.privacy.accounting.events import RELATIONS, SAMPLINGS, SHUFFLE
from mindarmour.privacy.accounting.ledger import combine
from mindarmour.privacy.accounting.lower_bound import shuffle_lower_bound
from mindarmour.privacy.accounting.planning import UNITS, plan_sampling, planned_entries
from mindarmour.utils import _validate

_FIND = ("noise-multiplier", "steps", "epochs", "batch-size", "delta")
_FLAGS = {"num_examples": "--num-samples", "noise_multiplier": "--noise-multiplier", "batch_size": "--batch-size",
          "false_positive_rate": "--fpr", "true_positive_rate": "--max-tpr", "advantage": "--max-advantage",
          "epsilon": "--epsilon", "delta": "--delta", "steps": "--steps", "epochs": "--epochs",
          "relation": "--relation", "sampling": "--sampling", "fpr": "--fpr", "group_size": "--group-size"}
_ENTRY = ("steps", "epoch", "sampling", "samples", "batch", "noise", "unit", "relation", "source")
_COLUMNS = ("epsilon", "delta", "accountant", "sampling", "relation", "kind", "note")


class _Parser(argparse.ArgumentParser):
    """Refuses in one line and with exit status 2."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {' '.join(str(message).split())}\n")


def main(argv=None):
    """Run one command.

    Args:
        argv (list[str], optional): Arguments; None takes those of the process.

    Returns:
        int, the exit status 0. Bad input, also a ledger that is missing, cut short or edited, exits with 2.
    """
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (ValueError, TypeError, OSError, OverflowError) as error:
        return arguments.parser.error(_in_flags(str(error)))


def build_parser():
    """The parser, for documentation and tests."""
    parser = _Parser(prog="mindarmour", description="Differential privacy: account, calibrate, inspect ledgers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_epsilon(commands)
    _add_calibrate(commands)
    _add_ledger(commands)
    cli_audit.add_audit(commands)
    cli_audit.add_report(commands)
    return parser


def _add_run(parser):
    parser.add_argument("--num-samples", type=int, required=True, help="records in the data set")
    parser.add_argument("--sampling", choices=SAMPLINGS, default="poisson",
                        help="how batches are drawn (default: poisson)")
    parser.add_argument("--unit", choices=UNITS, default="example",
                        help="what one clipping factor applies to; a micro-batch of several examples counts with "
                             "half the noise (default: example)")
    parser.add_argument("--relation", choices=RELATIONS,
                        help="neighbouring relation (default: what the sampling proves)")
    parser.add_argument("--json", action="store_true", help="print JSON; an infinite number is the string inf")


def _add_epsilon(commands):
    parser = commands.add_parser("epsilon", help="epsilon of a run", description="Epsilon of a training run.")
    _add_run(parser)
    parser.add_argument("--batch-size", type=int, required=True, help="expected batch size")
    parser.add_argument("--noise-multiplier", type=float, required=True,
                        help="standard deviation of the noise divided by the clipping bound")
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="optimizer steps")
    length.add_argument("--epochs", type=int, help="epochs")
    parser.add_argument("--delta", type=float, required=True, help="probability with which epsilon may fail")
    parser.add_argument("--accountant", choices=(*ACCOUNTANTS, "all"), default="rdp",
                        help="argument that bounds epsilon (default: rdp)")
    parser.add_argument("--group-size", type=int, default=1,
                        help="records that neighbouring data sets may differ in (default: 1)")
    parser.set_defaults(run=_run_epsilon, parser=parser)


def _add_calibrate(commands):
    parser = commands.add_parser(
        "calibrate", help="noise, length, batch size or delta for a budget",
        description="What keeps a training run inside a budget: an epsilon, or a bound on every membership attack.")
    _add_run(parser)
    parser.add_argument("--find", choices=_FIND, default="noise-multiplier",
                        help="the unknown (default: noise-multiplier)")
    parser.add_argument("--batch-size", type=int, help="expected batch size")
    parser.add_argument("--noise-multiplier", type=float, help="needed unless it is the unknown")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimizer steps")
    length.add_argument("--epochs", type=int, help="epochs")
    parser.add_argument("--delta", type=float, help="needed with --epsilon unless it is the unknown")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--epsilon", type=float, help="budget")
    budget.add_argument("--max-advantage", type=float,
                        help="budget: true minus false positive rate of the best membership attack")
    budget.add_argument("--max-tpr", type=float, help="budget: true positive rate at --fpr of the best attack")
    parser.add_argument("--fpr", type=float, help="false positive rate for --max-tpr")
    parser.add_argument("--accountant", choices=ACCOUNTANTS,
                        help="argument that bounds the cost (default: rdp; pld where installed for attacks)")
    parser.set_defaults(run=_run_calibrate, parser=parser)


def _add_ledger(commands):
    ledger = commands.add_parser("ledger", help="ledgers in checkpoints", description="Ledgers in checkpoints.")
    actions = ledger.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_Parser)
    for name, run, text in (
            ("show", _run_show, "what ran, and what it spent"),
            ("verify", _run_verify, "whether ledgers are complete and unedited"),
            ("add", _run_add, "what several checkpoints spent together, shared history counted once")):
        parser = actions.add_parser(name, help=text, description=f"Print {text}.")
        parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="checkpoint or ledger file")
        parser.add_argument("--json", action="store_true", help="print JSON")
        if name != "verify":
            parser.add_argument("--delta", type=float, default=1e-5, help="default: 1e-5")
            parser.add_argument("--accountant", choices=(*ACCOUNTANTS, "all"), default="rdp", help="default: rdp")
        if name == "add":
            parser.add_argument("--output", metavar="FILE", help="write the combined ledger to a file")
        parser.set_defaults(run=run, parser=parser)


def _run_show(arguments):
    reports = []
    for path in arguments.checkpoints:
        ledger = ledger_file.load(path)
        reports.append({"file": path, "steps": ledger.steps, "segments": [_segment(s) for s in ledger.segments],
                        "spent": _spent(ledger, arguments)})
    if arguments.json:
        print(json.dumps(_finite(reports)))
        return 0
    for report in reports:
        print(f"{report['file']}: {report['steps']} steps in {len(report['segments'])} run(s)")
        rows = [[segment["run"], *(_short(entry[key]) for key in _ENTRY)]
                for segment in report["segments"] for entry in segment["entries"]]
        _print_table(("run", *_ENTRY), rows)
        notes = [f"run {segment['run']}: {segment['note']}" for segment in report["segments"] if segment["note"]]
        print("\n".join([*notes, ""]))
        _print_statements(report["spent"])
    return 0


def _run_verify(arguments):
    verdicts = []
    for path in arguments.checkpoints:
        try:
            verdicts.append({"file": path, "valid": True, "steps": ledger_file.load(path).steps, "reason": ""})
        except (ValueError, OSError) as error:
            verdicts.append({"file": path, "valid": False, "steps": None, "reason": str(error)})
    if arguments.json:
        print(json.dumps(verdicts))
    for verdict in verdicts:
        if not verdict["valid"]:
            print(f"{arguments.parser.prog}: error: {verdict['reason']}", file=sys.stderr)
        elif not arguments.json:
            print(f"{verdict['file']}: complete and unedited, {verdict['steps']} steps")
    return 0 if all(verdict["valid"] for verdict in verdicts) else 2


def _run_add(arguments):
    total = combine([ledger_file.load(path) for path in arguments.checkpoints])
    spent = _spent(total, arguments)
    if arguments.output:
        ledger_file.save(total, arguments.output)
    if arguments.json:
        print(json.dumps(_finite({"files": arguments.checkpoints, "steps": total.steps,
                                  "runs": [segment.run for segment in total.segments], "spent": spent})))
    else:
        print(f"{len(arguments.checkpoints)} file(s): {total.steps} steps in {len(total.segments)} run(s)\n")
        _print_statements(spent)
    return 0


def _segment(segment):
    """A segment as plain data, each entry flat."""
    return {"run": segment.run, "data": segment.data, "note": segment.note, "epochs": segment.epochs,
            "entries": [_entry(entry) for entry in segment.entries]}


def _entry(entry):
    event, sampling = entry.event, entry.event.sampling
    return {"steps": entry.steps, "epoch": entry.epoch, "sampling": sampling.kind, "samples": sampling.num_examples,
            "batch": sampling.batch_size, "noise": event.noise, "unit": event.unit, "relation": sampling.relation,
            "source": event.noise_source}


def _spent(ledger, arguments):
    names = ACCOUNTANTS if arguments.accountant == "all" else (arguments.accountant,)
    return [asdict(privacy_spent(ledger.entries, arguments.delta, name)) for name in names]


def _run_epsilon(arguments):
    sampling = plan_sampling(arguments.sampling, arguments.num_samples, arguments.batch_size, arguments.relation,
                             arguments.unit)
    _validate.real("noise_multiplier", arguments.noise_multiplier, low=0)
    entries = planned_entries(sampling, arguments.noise_multiplier, _steps(arguments, sampling), arguments.unit)
    names = ACCOUNTANTS if arguments.accountant == "all" else (arguments.accountant,)
    statements = [privacy_spent(entries, arguments.delta, name, group_size=arguments.group_size) for name in names]
    if arguments.accountant == "all" and sampling.kind == SHUFFLE and arguments.group_size == 1:
        statements.append(privacy_spent(entries, arguments.delta, assume="poisson"))
        statements.append(shuffle_lower_bound(entries, arguments.delta))
    statements = [asdict(_with_remarks(statement, sampling)) for statement in statements]
    if arguments.json:
        print(json.dumps(_finite(statements if arguments.accountant == "all" else statements[0])))
    else:
        _print_statements(statements)
    return 0


def _with_remarks(statement, sampling):
    if statement.delta < 1 / sampling.num_examples:
        return statement
    remark = f"delta is not below 1/{sampling.num_examples}: it allows to publish a record"
    return replace(statement, note="; ".join(filter(None, (statement.note, remark))))


def _steps(arguments, sampling):
    if arguments.steps is not None:
        return _validate.integer("steps", arguments.steps, low=1)
    if arguments.epochs is None:
        raise ValueError("steps or --epochs must be given.")
    return _validate.integer("epochs", arguments.epochs, low=1) * calibration.plan_steps(sampling)


def _run_calibrate(arguments):
    name, value = _calibrated(arguments)
    verdict = _verdict(arguments, name, value)
    if arguments.json:
        print(json.dumps(_finite({name.replace("-", "_"): value, **verdict})))
    else:
        print(f"{name:<18}{_short(value)}")
        for key, item in verdict.items():
            print(f"{key:<18}{_short(item)}")
    return 0


def _calibrated(arguments):
    """(name of the unknown, its value)."""
    unknown = arguments.find
    if unknown == "batch-size":
        return unknown, _batch_size(arguments)
    _need(arguments, "batch_size")
    sampling = _sampling(arguments)
    if arguments.epsilon is None:
        return unknown, _against_attacks(arguments, sampling)
    accountant = arguments.accountant or "rdp"
    if unknown == "delta":
        _need(arguments, "noise_multiplier")
        return unknown, calibration.delta_for(arguments.epsilon, sampling, arguments.noise_multiplier,
                                              _steps(arguments, sampling), accountant, arguments.unit)
    _need(arguments, "delta")
    if unknown == "noise-multiplier":
        return unknown, calibration.noise_multiplier_for(
            arguments.epsilon, arguments.delta, sampling, _steps(arguments, sampling), accountant, arguments.unit)
    _need(arguments, "noise_multiplier")
    search = calibration.steps_for if unknown == "steps" else calibration.epochs_for
    return unknown, search(arguments.epsilon, arguments.delta, sampling, arguments.noise_multiplier, accountant,
                           arguments.unit)


def _batch_size(arguments):
    for name in ("epsilon", "noise_multiplier", "delta"):
        _need(arguments, name)
    sampling = plan_sampling(arguments.sampling, arguments.num_samples, 1, arguments.relation, arguments.unit)
    return calibration.batch_size_for(arguments.epsilon, arguments.delta, sampling, arguments.noise_multiplier,
                                      arguments.steps, arguments.epochs, arguments.accountant or "rdp",
                                      arguments.unit)


def _against_attacks(arguments, sampling):
    if arguments.find != "noise-multiplier":
        raise ValueError(f"--max-advantage and --max-tpr find the noise multiplier only, but got "
                         f"--find {arguments.find}.")
    steps = _steps(arguments, sampling)
    if arguments.max_advantage is not None:
        return calibration.noise_multiplier_for_advantage(arguments.max_advantage, sampling, steps,
                                                          arguments.accountant, arguments.unit)
    _need(arguments, "fpr")
    return calibration.noise_multiplier_for_rates(arguments.max_tpr, arguments.fpr, sampling, steps,
                                                  arguments.accountant, arguments.unit)


def _verdict(arguments, name, value):
    """What the calibrated run spends, where epsilon and delta are known."""
    if arguments.epsilon is None:
        limit = {"max_advantage": arguments.max_advantage} if arguments.max_tpr is None else {
            "max_tpr": arguments.max_tpr, "fpr": arguments.fpr}
        return {**limit, "accountant": arguments.accountant or calibration.attack_accountant(),
                "sampling": arguments.sampling, "relation": _sampling(arguments).relation, "kind": GUARANTEE}
    known = {"batch-size": arguments.batch_size, "noise-multiplier": arguments.noise_multiplier,
             "steps": arguments.steps, "epochs": arguments.epochs, "delta": arguments.delta, name: value}
    if name in ("steps", "epochs"):
        known["epochs" if name == "steps" else "steps"] = None
    if value == 0:
        return {"note": f"not one of the {name} fits into the budget" if name != "delta" else ""}
    sampling = plan_sampling(arguments.sampling, arguments.num_samples, known["batch-size"], arguments.relation,
                             arguments.unit)
    steps = known["steps"] or known["epochs"] * calibration.plan_steps(sampling)
    entries = planned_entries(sampling, known["noise-multiplier"], steps, arguments.unit)
    spent = asdict(privacy_spent(entries, known["delta"], arguments.accountant or "rdp"))
    return {key: item for key, item in spent.items() if key.replace("_", "-") != name}


def _sampling(arguments):
    return plan_sampling(arguments.sampling, arguments.num_samples, arguments.batch_size, arguments.relation,
                         arguments.unit)


def _need(arguments, name):
    if getattr(arguments, name) is None:
        raise ValueError(f"{name} must be given to find {arguments.find}.")


def _in_flags(message):
    """An error message that names the flag instead of the argument of the function behind it."""
    first, _, rest = message.partition(" ")
    return f"{_FLAGS.get(first, first)} {rest}".rstrip()


def _print_statements(statements):
    _print_table(_COLUMNS, [[_short(statement[column]) for column in _COLUMNS] for statement in statements])


def _print_table(header, rows):
    widths = [max(len(row[i]) for row in [list(header), *rows]) for i in range(len(header))]
    for row in [list(header), *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _short(value):
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _finite(data):
    """The same data with infinite numbers as strings, so that every JSON reader takes it."""
    if isinstance(data, dict):
        return {key: _finite(item) for key, item in data.items()}
    if isinstance(data, list):
        return [_finite(item) for item in data]
    return "inf" if isinstance(data, float) and math.isinf(data) else data
