"""`mindarmour plan`: a table of epsilon for choosing noise, epochs and batch size."""
from __future__ import annotations

import argparse
import importlib.util
import itertools
from collections.abc import Sequence
from typing import Any

from mindarmour.cli import options, output, progress
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.planning import planned_entries
from mindarmour.utils import _validate

_AXES = ("noise_multiplier", "batch_size", "epochs")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("plan", help="table of epsilon over noise, batch size and epochs",
                                 **options.parser_options("Epsilon over noise, batch size and epochs.", (
                                     "mindarmour plan --num-samples 60000 --batch-size 256 1024 "
                                     "--noise-multiplier 0.8 1.1 --epochs 10 30 --delta 1e-5 --plot plan.png",)))
    options.add_data(parser)
    parser.add_argument("--batch-size", type=int, nargs="+", required=True, help="expected batch sizes")
    parser.add_argument("--noise-multiplier", type=float, nargs="+", required=True, help="noise multipliers")
    parser.add_argument("--epochs", type=int, nargs="+", required=True, help="epochs")
    parser.add_argument("--delta", type=float, required=True, help="probability with which epsilon may fail")
    options.add_accountant(parser, several=False)
    parser.add_argument("--plot", metavar="FILE", help="draw the table too; needs matplotlib")
    parser.set_defaults(run=_run, parser=parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs matplotlib. Install it, or leave --plot out.")
    cells = list(itertools.product(*(getattr(arguments, axis) for axis in _AXES)))
    accountant, = options.accountants(arguments.accountant)
    rows = []
    for done, cell in enumerate(cells):
        progress.stage(f"{done} of {len(cells)} runs")
        rows.append({**dict(zip(_AXES, cell)), "epsilon": _epsilon(arguments, accountant, *cell)})
    if arguments.plot:
        _draw(rows, arguments.plot)
    if arguments.json:
        output.print_json({"delta": arguments.delta, "accountant": accountant, "rows": rows})
    else:
        print(f"epsilon at delta {arguments.delta:g}, accountant {accountant}")
        output.print_table((*_AXES, "epsilon"), [[output.short(item) for item in row.values()] for row in rows])
    return 0


def _epsilon(arguments: argparse.Namespace, accountant: str, multiplier: float, batch_size: int, epochs: int) -> float:
    length = argparse.Namespace(steps=None, epochs=epochs)
    sampling = options.sampling_of(arguments, batch_size)
    multiplier = _validate.real("noise_multiplier", multiplier, low=0)
    entries = planned_entries(sampling, multiplier, options.steps_of(length, sampling), arguments.unit)
    return privacy_spent(entries, arguments.delta, accountant, **options.unit_of(arguments)).epsilon


def _draw(rows: Sequence[dict[str, Any]], path: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for (batch_size, epochs), group in itertools.groupby(
            sorted(rows, key=lambda row: (row["batch_size"], row["epochs"], row["noise_multiplier"])),
            key=lambda row: (row["batch_size"], row["epochs"])):
        line = list(group)
        axes.plot([row["noise_multiplier"] for row in line], [row["epsilon"] for row in line], marker="o",
                  label=f"batch {batch_size}, {epochs} epochs")
    axes.set(xlabel="noise multiplier", ylabel="epsilon", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=150)
