"""Results of attacks and audits as they come: objects or JSON files, checked before anything is drawn from them."""
from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Optional

from mindarmour.privacy.auditing.result import VERDICTS

ATTACK_METRICS = ("auc", "balanced_accuracy", "advantage", "tpr@10%fpr", "tpr@1%fpr", "tpr@0.1%fpr")
_NOT_AVAILABLE = "n/a"
_MOST_POINTS = 400
_LONGEST_TEXT = 2000


def attack_data(attack: Any, where: str = "attack") -> dict[str, Any]:
    """A membership attack as plain data.

    Args:
        attack (AttackResult, dict, str, PathLike): A result, what its `to_dict` returned, or the path of its JSON.
        where (str): What to call it in errors.

    Returns:
        dict with attack, threat_model, members, non_members, metrics (value and interval, or None) and roc (points or
        None).
    """
    data = _loaded(attack, where)
    metrics = _member(data, "metrics", dict, where)
    return {
        "attack": _text(data.get("attack", ""), where) or "attack",
        "threat_model": _text(data.get("threat_model", ""), where),
        "members": _count(data, "members", where), "non_members": _count(data, "non_members", where),
        "confidence": _rate(data.get("confidence", 0.95), f"{where}.confidence"),
        "metrics": {name: _metric(metrics[name], f"{where}.{name}") for name in ATTACK_METRICS if name in metrics},
        "roc": _points(data.get("roc"), where),
    }


def audit_data(audit: Any, where: str = "audit") -> dict[str, Any]:
    """An audit as plain data, see `AuditResult.to_dict`."""
    data = _loaded(audit, where)
    if _member(data, "verdict", str, where) not in VERDICTS:
        raise ValueError(f"{where}.verdict must be one of {', '.join(VERDICTS)}, but got {data['verdict']!r}.")
    plan, right = _member(data, "plan", dict, where), _member(data, "right", dict, where)
    for name in ("epsilon_lower", "confidence", "curve_p_value", "curve_alpha", "auc", "delta"):
        _number(data.get(name), f"{where}.{name}")
    for name in ("bound_guesses", "test_guesses", "ceiling"):
        _number(plan.get(name), f"{where}.plan.{name}")
    for name in ("bound", "test"):
        _number(right.get(name), f"{where}.right.{name}")
    for name in ("expected", "power", "planned_epsilon"):
        if plan.get(name) is not None:
            _number(plan[name], f"{where}.plan.{name}")
    return {**data, "kind": _text(data.get("kind", ""), where), "roc": _points(data.get("roc"), where),
            "assumes": _text(data.get("assumes", ""), where),
            "checks": [_check(check, where) for check in data.get("checks", [])],
            "contradictions": [_text(name, where) for name in data.get("contradictions", [])],
            "notes": [_text(note, where) for note in data.get("notes", [])]}


def _check(check: Any, where: str) -> dict[str, Any]:
    if not isinstance(check, dict):
        raise ValueError(f"{where}.checks must be objects, but one is {type(check).__name__}.")
    for name in ("measured", "expected", "p_value", "alpha"):
        _number(check.get(name), f"{where}.checks.{name}")
    return {**check, "name": _text(check.get("name", ""), where), "note": _text(check.get("note", ""), where),
            "passed": bool(check.get("passed"))}


def _loaded(source: Any, where: str) -> dict[str, Any]:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            source = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"'{path}' holds no JSON: {error}.") from None
    elif hasattr(source, "to_dict"):
        source = _of_object(source)
    if not isinstance(source, dict):
        raise ValueError(f"{where} must be a JSON object, but got {type(source).__name__}.")
    return source


def _of_object(result: Any) -> dict[str, Any]:
    data = dict(result.to_dict())
    curve = getattr(result, "curve", None)
    if data.get("roc") is None and curve is not None:
        from mindarmour.privacy.auditing.result import thinned
        data["roc"] = thinned(curve.fpr, curve.tpr)
    return data


def _metric(entry: Any, where: str) -> Optional[dict[str, Any]]:
    """{'value', 'interval'}; None where the sample could not support the metric."""
    if not isinstance(entry, dict) or "value" not in entry:
        raise ValueError(f"{where} must be an object with a value and an interval, but got {entry!r:.80}.")
    if entry["value"] in (None, _NOT_AVAILABLE):
        return None
    interval = entry.get("interval")
    if interval in (None, _NOT_AVAILABLE):
        interval = None
    elif not isinstance(interval, (list, tuple)) or len(interval) != 2:
        raise ValueError(f"{where}.interval must be two numbers, but got {interval!r:.80}.")
    return {"value": _rate(entry["value"], where),
            "interval": None if interval is None else [_number(end, where) for end in interval]}


def _points(points: Any, where: str) -> Optional[list]:
    if points is None:
        return None
    if not isinstance(points, (list, tuple)) or not points:
        raise ValueError(f"{where}.roc must be a list of pairs, but got {points!r:.80}.")
    if not all(isinstance(point, (list, tuple)) and len(point) == 2 for point in points):
        raise ValueError(f"{where}.roc must be a list of pairs [fpr, tpr].")
    step = max(1, len(points) // _MOST_POINTS)
    kept = [*points[:-1:step], points[-1]]
    return [[_rate(x, f"{where}.roc"), _rate(y, f"{where}.roc")] for x, y in kept]


def _member(data: dict[str, Any], name: str, kind: type, where: str) -> Any:
    if not isinstance(data.get(name), kind):
        raise ValueError(f"{where} must have {name!r} of type {kind.__name__}, but got {data.get(name)!r:.80}.")
    return data[name]


def _number(value: Any, where: str) -> float:
    if value == "inf":
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise ValueError(f"{where} must be a number, but got {value!r:.80}.")
    return float(value)


def _rate(value: Any, where: str) -> float:
    if not 0 <= _number(value, where) <= 1:
        raise ValueError(f"{where} must be in [0, 1], but got {value}.")
    return float(value)


def _count(data: dict[str, Any], name: str, where: str) -> int:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{where}.{name} must be a whole number, but got {value!r:.80}.")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} must hold texts where texts are expected, but got {value!r:.80}.")
    return value if len(value) <= _LONGEST_TEXT else value[:_LONGEST_TEXT] + " …"
