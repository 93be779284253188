"""Rows of the report's tables as plain text, shared by the page and the card."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from mindarmour.privacy.reporting.numbers import as_float, percent, short
from mindarmour.privacy.reporting.texts import Texts

_MOST_ROWS = 12


@dataclass(frozen=True)
class AttackRow:
    """One metric of an attack beside its ceiling, as text.

    Args:
        name (str): The metric.
        value (str): What the attack reached.
        interval (str): Its interval.
        ceiling (str): What the ledger's curve allows in expectation.
        above (bool): Whether even the interval's lower end lies above the ceiling: a reason to look.
    """

    name: str
    value: str
    interval: str
    ceiling: str
    above: bool


def attack_rows(attack: dict[str, Any], ceilings: dict[str, Any], say: Texts) -> list[AttackRow]:
    """Every metric of an attack beside its ceiling."""
    rows = []
    for name, metric in attack["metrics"].items():
        limit = ceiling_of(name, ceilings)
        if metric is None:
            rows.append(AttackRow(metric_name(name, say), "–", "–", _rate(name, limit), False))
            continue
        interval = metric["interval"]
        text = "–" if interval is None else " – ".join(_rate(name, end) for end in interval)
        above = limit is not None and (interval[0] if interval else metric["value"]) > limit
        value = _rate(name, metric["value"]) + (" ▲" if above else "")
        rows.append(AttackRow(metric_name(name, say), value, text, _rate(name, limit), above))
    return rows


def ceiling_of(name: str, ceilings: dict[str, Any]) -> Optional[float]:
    """The ceiling of a metric by its name; None where there is none."""
    known = {"auc": ceilings["auc"], "balanced_accuracy": ceilings["accuracy"], "advantage": ceilings["advantage"],
             **{f"tpr@{100 * float(rate):g}%fpr": value for rate, value in ceilings["tpr"].items()}}
    return known.get(name)


def ceiling_rows(ceilings: dict[str, Any], say: Texts) -> list[tuple[str, str]]:
    """What any attack can reach at most."""
    rows = [(metric_name(name, say), _rate(name, ceiling_of(name, ceilings)))
            for name in ("auc", "balanced_accuracy", "advantage", *(f"tpr@{100 * float(r):g}%fpr"
                                                                  for r in ceilings["tpr"]))]
    return rows + [(say("metric_reconstruction", rate=percent(prior)), percent(value))
                   for prior, value in ceilings["reconstruction"].items()]


def metric_name(name: str, say: Texts) -> str:
    """A metric in words."""
    if name.startswith("tpr@"):
        return say("metric_tpr", rate=name[4:].replace("%fpr", "\u00a0%"))
    return say.word("metric", name)


def training_rows(training: dict[str, Any], say: Texts) -> tuple[list[str], list[list[str]], int]:
    """(header, rows, rows left out) of what ran; equal steps of many epochs share a row."""
    names = [say(name) for name in ("run", "steps", "sampling", "relation", "batch", "noise", "unit", "source")]
    merged: dict[tuple, int] = {}
    for run in training["runs"]:
        for entry in run["entries"]:
            batch = f"{short(entry['batch_size'], 6)} / {short(entry['num_examples'], 9)}"
            noise = (short(entry["effective_multiplier"], 4) if "effective_multiplier" in entry
                     else say("release", epsilon=short(entry.get("epsilon"))))
            key = (run["run"][:8], say.word("sampling", entry["sampling"]), say.word("relation", entry["relation"]),
                   batch, noise, entry["unit"], entry["noise_source"])
            merged[key] = merged.get(key, 0) + entry["steps"]
    rows = [[key[0], str(steps), *map(str, key[1:])] for key, steps in merged.items()]
    return names, rows[:_MOST_ROWS], max(0, len(rows) - _MOST_ROWS)


def fact_rows(data: dict[str, Any], say: Texts) -> list[tuple[str, str]]:
    """What must be disclosed beside the numbers."""
    facts, missing = data["disclosure"], say("not_stated")
    runs = data["training"]["runs"]
    rows = [(say("tuning_runs"), missing if facts["tuning_runs"] is None else str(facts["tuning_runs"])),
            (say("access"), facts["access"] or missing),
            (say("fixed_seed"), say("yes" if facts["fixed_seed"] else "no")),
            (say("data"), ", ".join(dict.fromkeys(run["data"][:16] for run in runs if run["data"])) or missing)]
    notes = [run["acknowledged"] for run in runs if run["acknowledged"]]
    if notes:
        rows.append((say("acknowledged"), "; ".join(notes)))
    return [*rows, (say("versions"), ", ".join(f"{name} {version}" for name, version in data["tool"].items()))]


def _rate(name: str, value: Optional[float]) -> str:
    if value is None:
        return "–"
    return percent(value) if name.startswith("tpr@") else short(as_float(value))
