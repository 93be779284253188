"""Tables of the documentation as the examples print them: Markdown, mean and standard deviation of several runs."""
import json
from pathlib import Path

import numpy as np

from mindarmour.utils.files import replacing


def markdown(columns, rows):
    """A table in Markdown.

    Args:
        columns (Sequence[str]): Headings.
        rows (Sequence): Cells of each line, as text or as what `str` shows.
    """
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def spread(values, form=".3f"):
    """Mean and standard deviation of runs as text: '0.913 ± 0.008'; one run alone has no standard deviation.

    Args:
        values (Sequence[float]): One figure per run; None or NaN, where a run has none, gives 'n/a'.
        form (str): Format of both.
    """
    values = np.array(values, float)
    if np.isnan(values).any():
        return "n/a"
    mean = format(values.mean(), form)
    return mean if len(values) == 1 else f"{mean} ± {format(values.std(ddof=1), form)}"


def over_seeds(run, seeds, folder, settings):
    """Figures of one run per seed, each kept in a file, so that a comparison that was stopped goes on where it was.

    Args:
        run (Callable): `run(seed)` yields pairs (key of a line, {name: figure}).
        seeds (int): Runs; the seeds are 0, 1, ...
        folder (str): Where the files are.
        settings (dict): What the figures depend on besides the seed; files of other settings are not read.

    Returns:
        dict from key, a tuple, to {name: [figure of each run]}.
    """
    table = {}
    for seed in range(seeds):
        for key, figures in _kept(Path(folder) / f"seed_{seed}.json", settings, lambda: run(seed)):  # noqa: B023
            line = table.setdefault(tuple(key), {})
            for name, figure in figures.items():
                line.setdefault(name, []).append(figure)
    return table


def _kept(path, settings, compute):
    settings = json.loads(json.dumps(settings))
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"] == settings:
            return content["figures"]
    figures = json.loads(json.dumps(list(compute())))
    with replacing(path) as temporary:
        Path(temporary).write_text(json.dumps({"settings": settings, "figures": figures}, indent=1), encoding="utf-8")
    return figures
