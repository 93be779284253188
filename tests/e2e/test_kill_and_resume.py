"""Training killed at random moments and resumed: the ledger never forgets a step that the weights remember.

MINDARMOUR_KILLS sets how often it is killed (default 3).
"""
import os
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path

import mindspore as ms
import pytest
from killed_training import BATCH, COUNT, MULTIPLIER

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent, ledger_file
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.errors import LedgerMismatchError

KILLS = int(os.environ.get("MINDARMOUR_KILLS", "3"))
STEPS_BETWEEN_KILLS = 6
STEPS = (KILLS + 1) * STEPS_BETWEEN_KILLS
ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "killed_training.py"


def started(folder, attempt):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MINDARMOUR_HOME": str(folder / "home")}
    return subprocess.Popen([sys.executable, str(SCRIPT), str(folder), f"attempt{attempt}", str(STEPS)],
                            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def killed(process, dice):
    """SIGKILL after some steps, at any moment of the next step or of its checkpoint."""
    seen, wanted = 0, dice.randint(1, STEPS_BETWEEN_KILLS)
    begin = last = time.monotonic()
    for line in process.stdout:
        begin, last = last, time.monotonic()
        seen += line == "step\n"
        if seen == wanted:
            break
    time.sleep(dice.uniform(0, min(1.0, max(0.02, last - begin))))
    process.kill()
    process.communicate()
    return seen


def complete_checkpoints(folder):
    """(steps in the ledger, steps that the optimizer has made) of every checkpoint that can be loaded."""
    for path in folder.rglob("*.ckpt"):
        try:
            ledger, parameters = ledger_file.load(path), ms.load_checkpoint(str(path))
        except (LedgerMismatchError, ValueError, RuntimeError):
            continue
        yield ledger, int(parameters["global_step"].asnumpy().item())


@pytest.mark.slow
@pytest.mark.timeout(120 + 240 * (KILLS + 1))
def test_killed_training_forgets_nothing(tmp_path):
    seed = secrets.randbits(32)
    dice, seen = random.Random(seed), 0
    for attempt in range(KILLS):
        seen += killed(started(tmp_path, attempt), dice)
    last = started(tmp_path, KILLS)
    _, errors = last.communicate()
    assert last.returncode == 0, errors[-3000:]
    assert seen >= KILLS, f"every process was killed while it trained (seed {seed})"
    pairs = list(complete_checkpoints(tmp_path))
    assert all(ledger.steps >= made for ledger, made in pairs), f"the ledger lost steps (seed {seed})"
    ledger, made = max(pairs, key=lambda pair: pair[0].steps)
    assert ledger.steps == made == STEPS and len(ledger.segments) >= 2
    uninterrupted = Ledger()
    uninterrupted.record(StepEvent(Sampling("poisson", COUNT, BATCH, "add-or-remove",
                                            max_batch_size=ledger.entries[0].event.sampling.max_batch_size),
                                   MULTIPLIER), STEPS)
    expected = privacy_spent(uninterrupted.entries, 1e-5).epsilon
    assert privacy_spent(ledger.entries, 1e-5).epsilon == pytest.approx(expected, rel=1e-12)
