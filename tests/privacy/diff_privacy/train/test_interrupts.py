"""Whatever interrupts a step, and wherever: a step that ran is never missing from the ledger."""
import sys

import numpy as np
import pytest
from mindspore import nn, save_checkpoint
from mindspore.train import Callback
from small_models import ROWS, dataset_of, loss_fn, model_of, noise, weights
from small_networks import batch_for, dense

import mindarmour.privacy
from mindarmour.privacy.accounting import ledger_file
from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    DPOptimizerClassFactory,
    PrivateLoop,
    clipped_gradient_fn,
)

PACKAGE = mindarmour.privacy.__path__[0]


class Interrupter:
    """Raises at the n-th line of the suite's own code that runs; counts the lines if n is None."""

    def __init__(self, error=None, at=None):
        self.error, self.at, self.lines = error, at, 0

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                raise self.error
        return self

    def run(self, call):
        before = sys.gettrace()
        sys.settrace(self)
        try:
            call()
        except BaseException as error:
            if error is not self.error:
                raise
        finally:
            sys.settrace(before)
        return self.lines


def trained_by_step():
    network = dense()
    model = model_of(network, 1.0, clip_mech=ClipMechanismsFactory.recommended(), lr=0.1)
    columns = batch_for("dense", ROWS)
    return network, model.train_network, lambda: model.train_network(*columns)


def trained_by_loop():
    network = dense()
    loop = PrivateLoop(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), 1.0, noise(1.0))
    columns = batch_for("dense", ROWS)
    return network, loop, lambda: loop.step(*columns)


def trained_by_optimizer():
    network = dense()
    factory = DPOptimizerClassFactory(ROWS)
    factory.set_mechanisms("Gaussian", 1.0, 1.0)  # a decaying one gives each step more entries to walk through
    optimizer = factory.create("SGD")(network.trainable_params(), 0.1)
    clipped = clipped_gradient_fn(network, loss_fn())(*batch_for("dense", ROWS))
    return network, optimizer, lambda: optimizer(clipped)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)], ids=["KeyboardInterrupt", "SIGTERM"])
@pytest.mark.parametrize("make", [trained_by_step, trained_by_loop, trained_by_optimizer])
def test_at_no_line_does_an_interrupt_lose_a_step(make, error):
    network, holder, step = make()
    step()
    lines = Interrupter().run(step)
    assert lines > 20
    moved = 0
    for at in range(1, lines + 1):
        before, steps = weights(network), holder.ledger.steps
        Interrupter(error, at).run(step)
        ran = not np.array_equal(weights(network), before)
        assert int(ran) <= holder.ledger.steps - steps <= 1, f"interrupted at line {at} of the step"
        moved += ran
    assert 0 < moved < lines, "some interrupts came before the device's work and some after it"
    steps = holder.ledger.steps
    step()
    assert holder.ledger.steps == steps + 1, "training goes on"


@pytest.mark.parametrize("where", ["on_train_step_begin", "on_train_step_end", "on_train_epoch_end"])
def test_an_error_in_a_callback_loses_no_step(where, tmp_path):
    class Fail(Callback):
        def __init__(self):
            setattr(self, where, self.fail)

        def fail(self, run_context):
            raise RuntimeError("of the user")

    network = dense()
    model = model_of(network, 1.0)
    before = weights(network)
    with pytest.raises(RuntimeError, match="of the user"):
        model.train(1, dataset_of(batch_for("dense", 2 * ROWS)), callbacks=[Fail()])
    steps = {"on_train_step_begin": 0, "on_train_step_end": 1, "on_train_epoch_end": 2}[where]
    assert model.ledger.steps == steps and (steps > 0) == (not np.array_equal(weights(network), before))
    save_checkpoint(network, str(tmp_path / "net.ckpt"))
    if steps:
        assert ledger_file.load(str(tmp_path / "net.ckpt")).steps == steps
