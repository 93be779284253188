"""`mindarmour calibrate --compare`: independent beside correlated noise at one epsilon."""
from __future__ import annotations

import argparse

from mindarmour.cli import options, output

_COLUMNS = ("noise", "sampling", "noise_multiplier", "error", "of_independent", "buffers", "accountant")
_FOOTNOTE = "error: noise in the iterates of SGD at rate 1, over the clipping bound; tune the learning rate anew"


def run(arguments: argparse.Namespace) -> int:
    """Print what each strategy leaves in the model, least error first."""
    # its optimisers take a second to load
    from mindarmour.privacy.accounting.recommendation import compared_strategies

    _refuse_others(arguments)
    # a table takes dozens of calibrations: the quick accountant, unless another one is asked for
    accountant = "rdp" if arguments.accountant == options.TIGHTEST else arguments.accountant
    sampling = options.sampling_of(arguments)
    choices = compared_strategies(sampling, options.steps_of(arguments, sampling), arguments.epsilon, arguments.delta,
                                  accountant)
    base = next(choice.error for choice in choices if choice.name == "independent")
    rows = [{"noise": choice.name, "sampling": str(choice.sampling.kind), "noise_multiplier": choice.noise_multiplier,
             "error": choice.error, "of_independent": choice.error / base, "buffers": choice.buffers,
             "accountant": accountant} for choice in choices]
    if arguments.json:
        output.print_json(rows)
    else:
        output.print_table(_COLUMNS, [[output.short(row[column]) for column in _COLUMNS] for row in rows])
        print(_FOOTNOTE)
    return 0


def _refuse_others(arguments: argparse.Namespace) -> None:
    """Every flag that is given means something; the others are refused."""
    for name in ("epsilon", "delta", "batch_size"):
        if getattr(arguments, name) is None:
            raise ValueError(f"{name} must be given for --compare.")
    others = {"--find": arguments.find != "noise-multiplier", "--unit": arguments.unit != "example",
              "--noise-multiplier": arguments.noise_multiplier is not None, "--fpr": arguments.fpr is not None,
              "--prefix": arguments.prefix is not None, "--group-size": arguments.group_size != 1,
              "--examples-per-user": arguments.examples_per_user is not None}
    for flag in (flag for flag, given in others.items() if given):
        raise ValueError(f"{flag} must be left out with --compare, which finds the noise for single examples.")
