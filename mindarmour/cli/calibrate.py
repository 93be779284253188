"""`mindarmour calibrate`: what keeps a run inside a budget."""
from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Union

from mindarmour.cli import compare, options, output
from mindarmour.privacy.accounting import calibration, ledger_file
from mindarmour.privacy.accounting.accountant import GUARANTEE, Accountant
from mindarmour.privacy.accounting.events import Sampling
from mindarmour.privacy.accounting.ledger import Ledger, LedgerEntry, Segment
from mindarmour.privacy.accounting.planning import planned_entries
from mindarmour.utils import _validate

_FIND = ("noise-multiplier", "steps", "epochs", "batch-size", "delta")
_EXAMPLES = (
    "mindarmour calibrate --num-samples 60000 --batch-size 256 --epochs 60 --epsilon 3 --delta 1e-5",
    "mindarmour calibrate --num-samples 60000 --batch-size 256 --epochs 10 --max-tpr 0.05 --fpr 0.01",
    "mindarmour calibrate --num-samples 60000 --batch-size 256 --epochs 10 --min-bayes-risk 0.04 --prior 0.05",
    "mindarmour calibrate --num-samples 60000 --batch-size 256 --epochs 5 --epsilon 3 --delta 1e-5 "
    "--prefix first-phase.ckpt",
    "mindarmour calibrate --compare --sampling fixed-order --num-samples 60000 --batch-size 256 --epochs 8 "
    "--epsilon 2 --delta 1e-5")
_ATTACKS = ("max_advantage", "max_tpr", "fpr", "min_bayes_risk", "prior")
_TOLERANCE = {"rdp": 1e-4, "zcdp": 1e-4, "pld": 2e-3}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "calibrate", help="noise, length, batch size or delta for a budget", **options.parser_options(
            "What keeps a training run inside a budget: an epsilon, or a bound on every membership attack.", _EXAMPLES))
    options.add_data(parser)
    parser.add_argument("--find", choices=_FIND, default="noise-multiplier",
                        help="the unknown (default: noise-multiplier)")
    parser.add_argument("--batch-size", type=int, help="expected batch size")
    parser.add_argument("--noise-multiplier", type=float, help="needed unless it is the unknown")
    options.add_length(parser, required=False)
    parser.add_argument("--delta", type=float, help="needed with --epsilon unless it is the unknown")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--epsilon", type=float, help="budget")
    budget.add_argument("--max-advantage", type=float,
                        help="budget: true minus false positive rate of the best membership attack")
    budget.add_argument("--max-tpr", type=float, help="budget: true positive rate at --fpr of the best attack")
    budget.add_argument("--min-bayes-risk", type=float,
                        help="budget: least error of the best guess about membership, for --prior")
    parser.add_argument("--fpr", type=float, help="false positive rate for --max-tpr")
    parser.add_argument("--prior", type=float,
                        help="probability of membership before the attack, for --min-bayes-risk")
    parser.add_argument("--prefix", metavar="LEDGER",
                        help="ledger or checkpoint of an earlier run on the same data, which the budget pays for too")
    options.add_accountant(parser, several=False)
    parser.add_argument("--compare", action="store_true",
                        help="independent beside correlated noise at --epsilon: what each leaves in the model")
    parser.set_defaults(run=_run, parser=parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.compare:
        return compare.run(arguments)
    arguments.accountant, = options.accountants(arguments.accountant)
    arguments.history = Ledger() if arguments.prefix is None else ledger_file.load(arguments.prefix)
    _refuse_unused(arguments)
    name, value = arguments.find, _calibrated(arguments)
    verdict = _verdict(arguments, name, value)
    if arguments.json:
        output.print_json({name.replace("-", "_"): value, **verdict})
        return 0
    for key, item in {name: value, **verdict}.items():
        print(f"{key:<18}{output.short(item)}".rstrip())
    return 0


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Every flag that is given means something; the others are refused."""
    attack = arguments.epsilon is None
    if attack and arguments.find != "noise-multiplier":
        raise ValueError(f"--max-advantage, --max-tpr and --min-bayes-risk find the noise multiplier only, but got "
                         f"--find {arguments.find}.")
    unused = {arguments.find: "it is the unknown", **({"delta": "a bound on attacks needs none"} if attack else {}),
              **({} if arguments.max_tpr is not None else {"fpr": "it belongs to --max-tpr"}),
              **({} if arguments.min_bayes_risk is not None else {"prior": "it belongs to --min-bayes-risk"})}
    if arguments.find in ("steps", "epochs"):
        unused.update(dict.fromkeys(("steps", "epochs"), "the length is the unknown"))
    for flag, why in unused.items():
        if getattr(arguments, flag.replace("-", "_")) is not None:
            raise ValueError(f"--{flag} must be left out, because {why}.")
    special = [flag for flag, given in (("--prefix", arguments.prefix), ("--group-size", arguments.group_size > 1),
                                        ("--examples-per-user", arguments.examples_per_user)) if given]
    if special and arguments.find != "noise-multiplier":
        raise ValueError(f"{special[0]} goes with --find noise-multiplier only, but got --find {arguments.find}.")
    if attack and arguments.group_size > 1:
        raise ValueError("group_size must be 1 for a bound on attacks, which are stated for one record.")


def _calibrated(arguments: argparse.Namespace) -> Union[float, int]:
    unknown, judge = arguments.find, arguments.accountant
    if unknown == "batch-size":
        for name in ("epsilon", "noise_multiplier", "delta"):
            _need(arguments, name)
        return calibration.batch_size_for(
            arguments.epsilon, arguments.delta, options.sampling_of(arguments, 1), arguments.noise_multiplier,
            arguments.steps, arguments.epochs, judge, arguments.unit)
    _need(arguments, "batch_size")
    sampling = options.sampling_of(arguments)
    if unknown == "noise-multiplier":
        return _noise_multiplier(arguments, sampling)
    _need(arguments, "noise_multiplier")
    if unknown == "delta":
        return calibration.delta_for(arguments.epsilon, sampling, arguments.noise_multiplier,
                                     options.steps_of(arguments, sampling), judge, arguments.unit)
    _need(arguments, "delta")
    search = calibration.steps_for if unknown == "steps" else calibration.epochs_for
    return search(arguments.epsilon, arguments.delta, sampling, arguments.noise_multiplier, judge, arguments.unit)


def _noise_multiplier(arguments: argparse.Namespace, sampling: Sampling) -> float:
    """Smallest noise with which the earlier run and this one together keep the budget."""
    if arguments.epsilon is not None:
        _need(arguments, "delta")
    elif arguments.max_advantage is None:
        _need(arguments, "fpr" if arguments.min_bayes_risk is None else "prior")
    steps = options.steps_of(arguments, sampling)
    cost, limit = _cost(arguments, arguments.accountant)
    spent = cost(arguments.history.entries) if arguments.prefix else 0.0
    if spent >= limit:
        raise ValueError(f"prefix must leave something of the budget {limit}, but it already spent {spent:.6g}.")

    def total(cost: Callable[..., float], multiplier: float) -> float:
        return cost(_after(arguments.history, planned_entries(sampling, multiplier, steps, arguments.unit)))

    if arguments.accountant != "pld":
        return calibration.smallest_multiplier(partial(total, cost), limit, _TOLERANCE[arguments.accountant])
    # PLD never says more than RDP, so the quick search bounds the slow one from above
    start = calibration.smallest_multiplier(partial(total, _cost(arguments, "rdp")[0]), limit, _TOLERANCE["rdp"])
    return calibration.smallest_multiplier(partial(total, cost), limit, _TOLERANCE["pld"], start)


def _cost(arguments: argparse.Namespace, accountant: str) -> tuple[Callable[..., float], float]:
    """(cost of entries, the budget), both in the budget's own measure."""
    judge = Accountant(arguments.delta or 0.5, accountant, **options.unit_of(arguments))
    if arguments.epsilon is not None:
        Accountant(arguments.delta, accountant)
        return judge.epsilon_after, _validate.real("epsilon", arguments.epsilon, low=0)
    if arguments.max_advantage is not None:
        return judge.advantage, _validate.real("advantage", arguments.max_advantage, low=0, high=1)
    if arguments.min_bayes_risk is not None:
        epsilon, delta = calibration.bayes_budget(arguments.min_bayes_risk, arguments.prior)
        return lambda entries: judge.delta_at(entries, epsilon).delta, delta
    fpr = _validate.real("false_positive_rate", arguments.fpr, low=0, high=1)
    if not fpr < _validate.real("true_positive_rate", arguments.max_tpr, low=0, high=1):
        raise ValueError(f"true_positive_rate must be above --fpr, but got {arguments.max_tpr} and {fpr}.")
    return lambda entries: judge.true_positive_rate(entries, fpr), arguments.max_tpr


def _after(history: Ledger, entries: tuple[LedgerEntry, ...]) -> tuple[LedgerEntry, ...]:
    """Entries of an earlier run and a planned one, epochs numbered through."""
    return Ledger((*history.segments, Segment("planned", entries=list(entries)))).entries


def _verdict(arguments: argparse.Namespace, name: str, value: Union[float, int]) -> dict[str, Any]:
    """What the calibrated run spends, where epsilon and delta are known."""
    if arguments.epsilon is None:
        limits = {name: getattr(arguments, name) for name in _ATTACKS if getattr(arguments, name) is not None}
        return {**limits, "accountant": arguments.accountant, "sampling": arguments.sampling,
                "relation": options.sampling_of(arguments).relation, "kind": GUARANTEE}
    known = {"batch-size": arguments.batch_size, "noise-multiplier": arguments.noise_multiplier,
             "steps": arguments.steps, "epochs": arguments.epochs, "delta": arguments.delta, name: value}
    if value == 0:
        return {"note": f"not one of the {name} fits into the budget" if name != "delta" else ""}
    sampling = options.sampling_of(arguments, known["batch-size"])
    steps = known["steps"] or known["epochs"] * calibration.plan_steps(sampling)
    entries = _after(arguments.history, planned_entries(sampling, known["noise-multiplier"], steps, arguments.unit))
    spent = asdict(Accountant(known["delta"], arguments.accountant, **options.unit_of(arguments)).spent(entries))
    return {key: item for key, item in spent.items() if key.replace("_", "-") != name}


def _need(arguments: argparse.Namespace, name: str) -> None:
    if getattr(arguments, name) is None:
        raise ValueError(f"{name} must be given to find {arguments.find}.")
