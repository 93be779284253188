"""The privacy card: Markdown with YAML front matter, for a model registry or a repository's page."""
from __future__ import annotations

import json
import re
from html import escape
from typing import Any

from mindarmour.privacy.reporting.numbers import short
from mindarmour.privacy.reporting.page import audit_lines, headline, verdict_lines
from mindarmour.privacy.reporting.tables import attack_rows, ceiling_rows, fact_rows, training_rows
from mindarmour.privacy.reporting.texts import Texts

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~])")


def card(data: dict[str, Any], language: str = "en") -> str:
    """Markdown of a statement, with what a registry filters by in its front matter.

    Args:
        data (dict): As `statement_of` returns it.
        language (str): 'en' or 'zh'.

    Returns:
        str. Texts of others are escaped: they can neither open a tag nor end the front matter.
    """
    say = Texts(language)
    title = _text(data["title"]) or say("card")
    lines = [*_front_matter(data), f"# {title}", "", f"**{headline(data, say)}**", "",
             *_paragraphs(verdict_lines(data, say)), *_claim(data, say), *_audits(data, say), *_attacks(data, say),
             *_settings(data, say), f"## {say('blind_spots')}", "",
             *(f"- {say('blind_' + name)}" for name in data["blind_spots"]), "",
             say("created", when=data["created"], version=data["tool"]["mindarmour"])]
    return "\n".join(lines) + "\n"


def front_matter(data: dict[str, Any]) -> dict[str, Any]:
    """The fields of the front matter, see docs/report_schema.md."""
    claim, facts = data["claim"], data["disclosure"]
    audits = [{"epsilon_lower": audit["epsilon_lower"], "confidence": audit["confidence"], "verdict": audit["verdict"],
               "kind": audit["kind"]} for audit in data["audits"]]
    return {"schema": data["schema"], "version": data["version"], "epsilon": claim["epsilon"], "delta": claim["delta"],
            "kind": claim["kind"], "accountant": claim["accountant"], "relation": claim["relation"],
            "sampling": claim["sampling"], "unit": facts["unit"] or ", ".join(claim["units"]),
            "steps": data["training"]["steps"], "fixed_seed": facts["fixed_seed"],
            "tuning_runs": facts["tuning_runs"], "access": facts["access"] or None,
            "verdict": data["verdict"]["verdict"], "audits": audits}


def _front_matter(data: dict[str, Any]) -> list[str]:
    """YAML whose values are JSON, which every YAML reader takes and no text can break out of."""
    fields = [f"  {name}: {json.dumps(value, ensure_ascii=True)}" for name, value in front_matter(data).items()]
    return ["---", "library_name: mindspore", "tags: [differential-privacy, mindarmour]", "privacy:", *fields, "---",
            ""]


def _claim(data: dict[str, Any], say: Texts) -> list[str]:
    claim = data["claim"]
    names = [say(name) for name in ("accountant", "epsilon", "delta", "sampling", "kind", "note")]
    rows = [[s["accountant"], short(s["epsilon"], 4), short(s["delta"]), s["sampling"], say.word("kind", s["kind"]),
             s["note"]] for s in claim["statements"]]
    unit = data["disclosure"]["unit"] or ", ".join(claim["units"]) or say("none")
    about = [say("claim_means", relation=say.word("relation", claim["relation"]), unit=unit)]
    about += [say("large_delta", records=claim["records"])] if claim["large_delta"] else []
    about += [say("seeded")] if data["disclosure"]["fixed_seed"] else []
    return [f"## {say('claim')}", "", *_paragraphs(about), *_table(names, rows)]


def _audits(data: dict[str, Any], say: Texts) -> list[str]:
    lines = []
    for audit in data["audits"]:
        lines += [f"## {_text(say('audit_by', kind=say.word('audit', audit['kind'])))}", "",
                  *(f"- {_text(line)}" for line in audit_lines(audit, say)), ""]
        if audit["checks"]:
            names = [say(name) for name in ("check", "measured", "claimed", "p_value", "outcome")]
            lines += _table(names, [[say.word("test", check["name"]), short(check["measured"], 4),
                                     short(check["expected"], 4), short(check["p_value"], 2),
                                     say("agrees" if check["passed"] else "contradicts")] for check in audit["checks"]])
    return lines


def _attacks(data: dict[str, Any], say: Texts) -> list[str]:
    lines = [f"## {say('attacks')}", ""]
    for attack in data["attacks"]:
        names = [attack["attack"], say("value"), say("interval"), say("ceiling")]
        lines += _table(names, [[row.name, row.value, row.interval, row.ceiling]
                                for row in attack_rows(attack, data["ceilings"], say)])
    lines += _paragraphs([say("no_verdict" if data["attacks"] else "no_attacks")])
    rows = [list(row) for row in ceiling_rows(data["ceilings"], say)]
    return lines + _table([say("any_attack"), say("ceiling")], rows)


def _settings(data: dict[str, Any], say: Texts) -> list[str]:
    names, rows, left = training_rows(data["training"], say)
    more = [say("more_rows", count=left), ""] if left else []
    facts = [f"- {name}: {_text(value)}" for name, value in fact_rows(data, say)]
    return [f"## {say('settings')}", "", *_table(names, rows), *more, f"## {say('disclosure')}", "", *facts, ""]


def _paragraphs(texts: list[str]) -> list[str]:
    return [line for text in texts for line in (_text(text), "")]


def _table(names: list[str], rows: list[list[str]]) -> list[str]:
    lines = [names, ["---"] * len(names), *rows]
    return ["| " + " | ".join(cell if cell == "---" else _text(str(cell)) for cell in line) + " |"
            for line in lines] + [""]


def _text(text: str) -> str:
    """One line of Markdown that means nothing but itself."""
    return _SPECIAL.sub(r"\\\1", escape(" ".join(text.split()), quote=False))
