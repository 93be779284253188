"""Flags that several commands share, and refusals that name flags."""
from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn, Optional

from mindarmour.privacy.accounting import calibration, pld
from mindarmour.privacy.accounting.accountant import ACCOUNTANTS
from mindarmour.privacy.accounting.events import RELATIONS, SAMPLINGS, Sampling
from mindarmour.privacy.accounting.planning import UNITS, plan_sampling
from mindarmour.utils import _validate

EXIT_CODES = ("exit status: 0 done; 1 'ledger diff' found a difference, or 'audit' a claim that is contradicted; 2 bad "
              "input, or a ledger that cannot be read")
TIGHTEST = "tightest"
_FLAGS = {"num_examples": "--num-samples", "noise_multiplier": "--noise-multiplier", "batch_size": "--batch-size",
          "false_positive_rate": "--fpr", "true_positive_rate": "--max-tpr", "advantage": "--max-advantage",
          "epsilon": "--epsilon", "delta": "--delta", "steps": "--steps", "epochs": "--epochs", "unit": "--unit",
          "relation": "--relation", "sampling": "--sampling", "fpr": "--fpr", "group_size": "--group-size",
          "examples_per_user": "--examples-per-user", "prefix": "--prefix", "prior": "--prior",
          "bayes_risk": "--min-bayes-risk"}


class Parser(argparse.ArgumentParser):
    """Refuses in one line and with exit status 2."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and stop."""
        self.exit(2, f"{self.prog}: error: {' '.join(str(message).split())}\n")


def parser_options(description: str, examples: Sequence[str]) -> dict[str, Any]:
    """Arguments of a parser that shows examples below its flags."""
    return {"description": description, "epilog": "\n".join(["examples:", *(f"  {line}" for line in examples)]),
            "formatter_class": argparse.RawDescriptionHelpFormatter}


def in_flags(message: str) -> str:
    """An error message that names the flag instead of the argument of the function behind it."""
    first, _, rest = message.partition(" ")
    return f"{_FLAGS.get(first, first)} {rest}".rstrip()


def add_data(parser: argparse.ArgumentParser) -> None:
    """What is sampled, how, and for whom the statement holds."""
    parser.add_argument("--num-samples", type=int, required=True, help="records in the data set")
    parser.add_argument("--sampling", choices=SAMPLINGS, default="poisson",
                        help="how batches are drawn (default: poisson)")
    parser.add_argument("--unit", choices=UNITS, default="example",
                        help="what one clipping factor applies to; a micro-batch of several examples counts with "
                             "half the noise (default: example)")
    parser.add_argument("--relation", choices=RELATIONS,
                        help="neighbouring relation (default: what the sampling proves)")
    add_neighbours(parser)
    parser.add_argument("--json", action="store_true", help="print JSON; an infinite number is the string inf")


def add_neighbours(parser: argparse.ArgumentParser) -> None:
    """How much neighbouring data sets differ in."""
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--group-size", type=int, default=1,
                     help="records that neighbouring data sets may differ in (default: 1)")
    who.add_argument("--examples-per-user", type=int,
                     help="state it for users who own up to so many examples (Poisson sampling of single examples)")


def add_length(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Length of a run."""
    length = parser.add_mutually_exclusive_group(required=required)
    length.add_argument("--steps", type=int, help="optimizer steps")
    length.add_argument("--epochs", type=int, help="epochs")


def add_accountant(parser: argparse.ArgumentParser, several: bool = True) -> None:
    """Which argument bounds the cost."""
    names = (TIGHTEST, *ACCOUNTANTS, "all") if several else (TIGHTEST, *ACCOUNTANTS)
    parser.add_argument("--accountant", choices=names, default=TIGHTEST,
                        help="argument that bounds the cost (default: tightest, which is pld where dp-accounting is "
                             "installed, else rdp; what was used is printed)")


def accountants(name: str) -> tuple[str, ...]:
    """Names of accountants behind the flag's value."""
    if name == "all":
        return ACCOUNTANTS
    return (("pld" if pld.available() else "rdp") if name == TIGHTEST else name,)


def unit_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Keywords of an accountant: whom the statement is about."""
    if arguments.examples_per_user is None:
        return {"group_size": arguments.group_size}
    return {"unit": "user", "examples_per_user": arguments.examples_per_user}


def sampling_of(arguments: argparse.Namespace, batch_size: Optional[int] = None) -> Sampling:
    """Sampling that the flags describe."""
    return plan_sampling(arguments.sampling, arguments.num_samples, batch_size or arguments.batch_size,
                         arguments.relation, arguments.unit)


def steps_of(arguments: argparse.Namespace, sampling: Sampling) -> int:
    """Length of the run in steps."""
    if arguments.steps is not None:
        return _validate.integer("steps", arguments.steps, low=1)
    if arguments.epochs is None:
        raise ValueError("steps or --epochs must be given.")
    return _validate.integer("epochs", arguments.epochs, low=1) * calibration.plan_steps(sampling)
