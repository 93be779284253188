"""The report: whole, escaped, small, in two languages, and never kinder than the ledger."""
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent, ledger_file
from mindarmour.privacy.auditing.claim import claim_of_ledger
from mindarmour.privacy.auditing.plan import AuditPlan
from mindarmour.privacy.auditing.scoring import CanaryScores, audited
from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.reporting import Disclosure, Report
from mindarmour.privacy.reporting.texts import _TEXTS

HOSTILE = "</style><script>alert(1)</script>\n---\n| `x` ![](http://example.org/a)"


def ledger_of(multiplier=1.0, steps=72):
    ledger = Ledger()
    if steps:
        ledger.record(StepEvent(Sampling("poisson", 3000, 250, "add-or-remove"), multiplier), steps=steps)
    return ledger


def audit_of(ledger, factor):
    claim = claim_of_ledger(ledger, 1e-5)
    rng = np.random.default_rng(2)
    coins = rng.random(1000) < 0.5
    plan = AuditPlan.for_claim(1000, claim.statement.epsilon, 1e-5)
    return audited(CanaryScores(factor * claim.mu * coins + rng.normal(size=1000), coins), claim, plan)


def attack_of(name):
    rng = np.random.default_rng(3)
    return AttackResult(np.r_[rng.normal(2, 1, 300), rng.normal(size=300)], np.arange(600) < 300, attack=name)


@pytest.fixture(scope="module")
def hostile():
    ledger = ledger_of()
    return Report(ledger, attacks=[attack_of(HOSTILE)], audits=[audit_of(ledger, 1.0)],
                  disclosure=Disclosure(HOSTILE, HOSTILE, 3, HOSTILE))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_page_is_one_small_file_without_script_or_network(hostile, language):
    html = hostile.html(language)
    assert len(html.encode()) < 200_000
    assert "<script" not in html and "<img" not in html and "<link" not in html and "url(http" not in html
    assert not re.findall(r"(?:src|href)\s*=", html)
    assert "&lt;script&gt;" in html


def test_texts_of_others_cannot_leave_the_front_matter_of_the_card(hostile):
    lines = hostile.markdown().splitlines()
    assert lines[0] == "---" and lines.count("---") == 2
    assert "<script" not in "\n".join(lines[lines.index("---", 1):])


def test_json_holds_what_the_page_shows(hostile):
    data = json.loads(hostile.json())
    assert (data["schema"], data["version"]) == ("mindarmour-privacy-report", "1.0")
    assert f"{data['claim']['epsilon']:.3g}" in hostile.html()
    assert data["verdict"]["verdict"] == "not contradicted" and data["disclosure"]["tuning_runs"] == 3
    assert hostile.html().count("▲ above the ceiling") == 1


def test_an_audit_that_contradicts_is_the_verdict():
    ledger = ledger_of()
    report = Report(ledger, audits=[audit_of(ledger, 1.0), audit_of(ledger, 4.0)])
    assert report.statement["verdict"] == {"verdict": "contradicted", "tests": ["trade-off curve"],
                                           "confidence": pytest.approx(0.9)}
    assert "Contradicted" in report.html() and "被否定" in report.html("zh")


@pytest.mark.parametrize("ledger", [ledger_of(0.0), ledger_of(steps=0)], ids=["no noise", "no steps"])
def test_ledgers_at_the_ends(ledger, tmp_path):
    report = Report(ledger)
    assert all(path.exists() for path in report.save(tmp_path / "r.html"))
    json.loads(report.json())
    if ledger.steps:
        assert "No privacy guarantee" in report.html() and report.statement["ceilings"]["auc"] == 1.0


def test_reads_ledger_files_and_json_of_attacks_and_audits(tmp_path):
    ledger = ledger_of()
    ledger_file.save(ledger, tmp_path / "run.ledger")
    attack_of("loss").to_json(tmp_path / "attack.json")
    audit_of(ledger, 1.0).to_json(tmp_path / "audit.json")
    report = Report(tmp_path / "run.ledger", attacks=[tmp_path / "attack.json"], audits=[tmp_path / "audit.json"])
    assert report.statement["attacks"][0]["attack"] == "loss" and len(report.statement["audits"]) == 1


@pytest.mark.parametrize("attack", [{}, {"metrics": {"auc": {"value": 2.0}}, "members": 1, "non_members": 1},
                                    {"metrics": {"auc": {"value": "<b>"}}, "members": 1, "non_members": 1}, [1]])
def test_attacks_of_another_shape_are_refused(attack):
    with pytest.raises(ValueError):
        Report(ledger_of(), attacks=[attack])


def test_every_sentence_has_the_same_fields_in_both_languages():
    for english, chinese in _TEXTS.values():
        assert set(re.findall(r"{(\w+)}", english)) == set(re.findall(r"{(\w+)}", chinese))


def test_reporting_imports_no_mindspore():
    code = "import sys, mindarmour.privacy.reporting, mindarmour.privacy.auditing.scoring; " \
           "sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
