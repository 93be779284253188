"""The report as one self-contained HTML file: no script, nothing loaded, every text of others escaped."""
from __future__ import annotations

import math
from html import escape
from typing import Any, Optional

from mindarmour.privacy.auditing.result import CONTRADICTED, NOT_CONTRADICTED, TOO_WEAK
from mindarmour.privacy.reporting.charts import AxisRow, epsilon_axis, roc_chart
from mindarmour.privacy.reporting.numbers import as_float, percent, short
from mindarmour.privacy.reporting.style import CSS
from mindarmour.privacy.reporting.tables import attack_rows, ceiling_rows, fact_rows, training_rows
from mindarmour.privacy.reporting.texts import Texts

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_HATCH = ('<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><pattern id="hatch" width="5" '
          'height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line class="hatch" x1="0" y1="0" '
          'x2="0" y2="5"/></pattern></defs></svg>')
_VERDICT_CLASS = {CONTRADICTED: "contradicted", TOO_WEAK: "weak"}


def page(data: dict[str, Any], language: str = "en") -> str:
    """HTML of a statement.

    Args:
        data (dict): As `statement_of` returns it.
        language (str): 'en' or 'zh'.

    Returns:
        str, a whole document.
    """
    say = Texts(language)
    title = escape(data["title"]) or say("report")
    sections = [_head(data, say, title), _verdict(data, say), _claim(data, say), _axis(data, say), _audits(data, say),
                _attacks(data, say), _settings(data, say), _blind_spots(data, say)]
    return (f'<!DOCTYPE html>\n<html lang="{"zh-CN" if language == "zh" else "en"}"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{title}</title><style>{CSS}</style></head>\n<body>{_HATCH}<main>\n'
            + "\n".join(filter(None, sections)) + "\n</main></body></html>\n")


def headline(data: dict[str, Any], say: Texts) -> str:
    """Epsilon at delta in one line; plain text."""
    claim = data["claim"]
    if math.isinf(as_float(claim["epsilon"])):
        return say("headline_none")
    return say("headline", epsilon=short(claim["epsilon"]), delta=short(claim["delta"]))


def verdict_lines(data: dict[str, Any], say: Texts) -> list[str]:
    """The verdict in one sentence, then what it could have found; plain text."""
    verdict = data["verdict"]
    if verdict["verdict"] not in (CONTRADICTED, NOT_CONTRADICTED, TOO_WEAK):
        return [say("verdict_none")]
    tests = ", ".join(say.word("test", name) for name in verdict["tests"])
    lines = [say(f"verdict_{verdict['verdict']}", tests=tests, confidence=percent(verdict["confidence"]))]
    for audit in data["audits"]:
        lines += power_lines(audit, say)
    return list(dict.fromkeys(lines))


def power_lines(audit: dict[str, Any], say: Texts) -> list[str]:
    """What an audit could have found; plain text."""
    factors = [check["power"] for check in audit["checks"] if check.get("power")]
    lines = [say("power_checks", factor=short(min(factors)))] if factors else []
    if audit["plan"].get("power") is not None:
        lines.append(say("power", factor=short(audit["plan"]["power"])))
    elif audit["plan"].get("planned_epsilon") is not None:
        lines.append(say("power_none"))
    return lines


def audit_lines(audit: dict[str, Any], say: Texts) -> list[str]:
    """One audit in sentences; plain text."""
    plan, right = audit["plan"], audit["right"]
    lines = [say("certified_line", epsilon=short(audit["epsilon_lower"]), delta=short(audit["delta"]),
                 confidence=percent(audit["confidence"]), right=right["bound"], guesses=plan["bound_guesses"],
                 ceiling=short(plan["ceiling"]))]
    if audit["assumes"]:
        lines.append(say("assumes", what=say.word("assumed", audit["assumes"])))
    if plan.get("expected") is not None:
        lines.append(say("expected_line", expected=short(plan["expected"])))
    lines.append(say("curve_line", p=short(audit["curve_p_value"]), right=right["test"],
                     guesses=plan["test_guesses"], alpha=short(audit["curve_alpha"])))
    if audit.get("estimate"):
        lines.append(say("estimate_line", epsilon=short(audit["estimate"]["epsilon"])))
    if min(plan["bound_guesses"], plan["test_guesses"]) < 10:
        lines.append(say("warning_few"))
    if plan.get("planned_epsilon") is not None and plan["ceiling"] < plan["planned_epsilon"]:
        lines.append(say("warning_ceiling", guesses=plan["bound_guesses"], ceiling=short(plan["ceiling"])))
    return lines + ([say("black_box")] if not audit["checks"] else []) + audit["notes"]


def _head(data: dict[str, Any], say: Texts, title: str) -> str:
    when = say("created", when=data["created"], version=data["tool"]["mindarmour"])
    over = "" if title == say("report") else f'<p class="dim">{say("report")}</p>'
    return f'<header>{over}<h1>{title}</h1><p class="dim">{escape(when)}</p></header>'


def _verdict(data: dict[str, Any], say: Texts) -> str:
    first, *rest = verdict_lines(data, say)
    kind = _VERDICT_CLASS.get(data["verdict"]["verdict"], "")
    rest = "".join(f"<p>{escape(line)}</p>" for line in [*rest, say("never_compared")] if data["audits"])
    return (f'<p class="big">{escape(headline(data, say))}</p><div class="verdict {kind}">'
            f'<p class="say">{escape(first)}</p>{rest}</div>')


def _claim(data: dict[str, Any], say: Texts) -> str:
    claim = data["claim"]
    unit = data["disclosure"]["unit"] or ", ".join(claim["units"]) or say("none")
    parts = [_paragraph(say("claim_means", relation=say.word("relation", claim["relation"]), unit=unit))]
    rows = [[(s["accountant"], ""), (short(s["epsilon"], 4), "num"), (short(s["delta"]), "num"),
             (_samplings(s["sampling"], say), ""), (say.word("kind", s["kind"]), ""), (s["note"], "")]
            for s in claim["statements"]]
    names = ("accountant", "epsilon", "delta", "sampling", "kind", "note")
    parts.append(_table([(say(name), "num" if name in ("epsilon", "delta") else "") for name in names], rows))
    if not data["training"]["steps"]:
        parts.append(_paragraph(say("no_steps"), "warn"))
    if claim["large_delta"]:
        parts.append(_paragraph(say("large_delta", records=claim["records"]), "warn"))
    if data["disclosure"]["fixed_seed"]:
        parts.append(_paragraph(say("seeded"), "warn"))
    return _section(say("claim"), parts)


def _samplings(kinds: str, say: Texts) -> str:
    return " + ".join(say.word("sampling", kind) for kind in kinds.split("+"))


def _axis(data: dict[str, Any], say: Texts) -> str:
    rows = axis_rows(data, say)
    if not rows:
        return ""
    return _section(say("axis"), [f'<figure>{epsilon_axis(rows, say("axis"))}'
                                  f'<figcaption>{escape(say("axis_caption"))}</figcaption></figure>'])


def axis_rows(data: dict[str, Any], say: Texts) -> list[AxisRow]:
    """What stands on the one axis of epsilon."""
    rows = []
    for statement in data["claim"]["statements"]:
        epsilon = as_float(statement["epsilon"])
        beside = f" · {say('beyond')}" if epsilon > 3 * as_float(data["claim"]["epsilon"]) and rows else ""
        label = f"{say('axis_theory', name=statement['accountant'])}: {short(statement['epsilon'])}{beside}"
        rows.append(AxisRow(label, epsilon, "theory"))
    for audit in data["audits"]:
        rows += _audit_rows(audit, say)
    return rows


def _audit_rows(audit: dict[str, Any], say: Texts) -> list[AxisRow]:
    plan, expected = audit["plan"], audit["plan"].get("expected")
    notes = [f"├ {say('axis_ceiling', guesses=plan['bound_guesses'])}: {short(plan['ceiling'])}"]
    if expected is not None:
        notes.append(f"┃ {say('axis_expected')}: {short(expected)}")
    rows = [AxisRow(f"{say('axis_certified')}: {short(audit['epsilon_lower'])}", as_float(audit["epsilon_lower"]),
                    "certified", as_float(plan["ceiling"]), expected, tuple(notes))]
    if audit.get("last_iterate") is not None:
        rows.append(AxisRow(f"{say('axis_last')}: {short(audit['last_iterate'])}", as_float(audit["last_iterate"]),
                            "estimate"))
    if audit.get("estimate"):
        value = audit["estimate"]["epsilon"]
        rows.append(AxisRow(f"{say('axis_estimate')}: {short(value)}", as_float(value), "estimate"))
    return rows


def _audits(data: dict[str, Any], say: Texts) -> str:
    parts = []
    for audit in data["audits"]:
        parts.append(f"<h3>{escape(say('audit_by', kind=say.word('audit', audit['kind'])))}</h3>")
        parts.append("<ul>" + "".join(f"<li>{escape(line)}</li>" for line in audit_lines(audit, say)) + "</ul>")
        if audit["checks"]:
            parts.append(f"<h3>{escape(say('checks'))}</h3>")
            parts.append(_checks(audit, say))
    return _section(say("audits"), parts) if parts else ""


def _checks(audit: dict[str, Any], say: Texts) -> str:
    rows = [[(say.word("test", check["name"]), ""), (short(check["measured"], 4), "num"),
             (short(check["expected"], 4), "num"), (short(check["p_value"], 2), "num"),
             (say("agrees" if check["passed"] else "contradicts"), "" if check["passed"] else "bad"),
             (check["note"], "")] for check in audit["checks"]]
    names = (("check", ""), ("measured", "num"), ("claimed", "num"), ("p_value", "num"), ("outcome", ""), ("note", ""))
    return _table([(say(name), kind) for name, kind in names], rows)


def _attacks(data: dict[str, Any], say: Texts) -> str:
    curves = [(say.word("audit", audit["kind"]), audit["roc"]) for audit in data["audits"] if audit.get("roc")]
    curves += [(attack["attack"], attack["roc"]) for attack in data["attacks"] if attack["roc"]]
    names = {"fpr": say("fpr"), "tpr": say("tpr"), "chance": say("chance"), "ceiling": say("reachable")}
    chart = roc_chart(data["ceilings"]["curve"], curves, names, say("attacks"))
    parts = [f'<figure>{chart}<figcaption>{escape(say("attacks_caption"))}</figcaption></figure>']
    if data["attacks"]:
        parts += [_paragraph(say("no_verdict"), "dim"),
                  *(_attack_table(attack, data["ceilings"], say) for attack in data["attacks"])]
    else:
        parts.append(_paragraph(say("no_attacks")))
    rows = [[(name, ""), (value, "num")] for name, value in ceiling_rows(data["ceilings"], say)]
    parts.append(_table([(say("any_attack"), ""), (say("ceiling"), "num")], rows, stack=False))
    return _section(say("attacks"), parts)


def _attack_table(attack: dict[str, Any], ceilings: dict[str, Any], say: Texts) -> str:
    lines = attack_rows(attack, ceilings, say)
    rows = [[(row.name, ""), (row.value, "num"), (row.interval, "num"), (row.ceiling, "num")] for row in lines]
    header = [(say("metric"), ""), (say("value"), "num"), (say("interval"), "num"), (say("ceiling"), "num")]
    about = [say("members", members=attack["members"], others=attack["non_members"]), attack["threat_model"]]
    parts = [f"<h3>{escape(attack['attack'])}</h3>", _paragraph("; ".join(filter(None, about)), "dim"),
             _table(header, rows, stack=False)]
    return "".join([*parts, _paragraph(say("above"), "dim") if any(row.above for row in lines) else ""])


def _settings(data: dict[str, Any], say: Texts) -> str:
    names, rows, left = training_rows(data["training"], say)
    parts = [_table([(name, "") for name in names], [[(cell, "") for cell in row] for row in rows])] if rows else []
    if left:
        parts.append(_paragraph(say("more_rows", count=left), "dim"))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in fact_rows(data, say))
    return _section(say("settings"), [*parts, f"<h3>{escape(say('disclosure'))}</h3><dl>{facts}</dl>"])


def _blind_spots(data: dict[str, Any], say: Texts) -> str:
    items = "".join(f"<li>{escape(say('blind_' + name))}</li>" for name in data["blind_spots"])
    return _section(say("blind_spots"), [f"<ul>{items}</ul>"])


def _section(title: str, parts: list[str]) -> str:
    return f"<section><h2>{escape(title)}</h2>" + "".join(parts) + "</section>"


def _paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def _table(header: list, rows: list, stack: bool = True) -> str:
    """Cells are (text, class); on a phone each row becomes a card with the header's words beside its cells."""
    def cell(tag: str, text: str, kind: str, label: Optional[str] = None) -> str:
        kind = f' class="{kind}"' if kind else ""
        label = f' data-label="{escape(label)}"' if label else ""
        return f"<{tag}{kind}{label}>{escape(str(text))}</{tag}>"
    head = "".join(cell("th", text, kind) for text, kind in header)
    body = "".join("<tr>" + "".join(cell("td", text, kind, name) for (text, kind), (name, _) in zip(row, header))
                   + "</tr>" for row in rows)
    head = f"<thead><tr>{head}</tr></thead>" if any(text for text, _ in header) else ""
    return f'<div class="scroll"><table{" class=stack" if stack else ""}>{head}<tbody>{body}</tbody></table></div>'
