"""DP optimizers of the public documentation: a MindSpore optimizer that adds noise to the clipped sum it is given."""
from __future__ import annotations

import sys
from typing import Any, Optional

from mindspore import nn

from mindarmour.privacy.accounting import Ledger, Sampling
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseGaussianRandom, NoiseMechanismsFactory
from mindarmour.privacy.diff_privacy.train.sum_step import Gradients, SumStep
from mindarmour.privacy.errors import UnknownMechanismError
from mindarmour.utils import _validate

_BASES = {"sgd": nn.SGD, "momentum": nn.Momentum, "adam": nn.Adam}


class DPOptimizerClassFactory:
    """Makes DP optimizer classes.

    Args:
        micro_batches (int): Units (of one rank) whose clipped gradients are summed in one step, the divisor; must
            equal the `micro_batches` of the DPModel that uses the optimizer, and the units of an unpadded clipped sum.
            Where batches are padded: the units that a batch is expected to hold.
        sampling (Sampling, optional): How the batches of a custom loop are drawn, as `claim_of(dataset)` states it.
            None claims no amplification.

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.diff_privacy import DPOptimizerClassFactory
        >>> factory = DPOptimizerClassFactory(micro_batches=32)
        >>> factory.set_mechanisms('Gaussian', norm_bound=1.0, initial_noise_multiplier=1.5)
        >>> optimizer = factory.create('Momentum')(nn.Dense(4, 2).trainable_params(), learning_rate=0.1,
        ...                                        momentum=0.9)
    """

    def __init__(self, micro_batches: Optional[int] = 2, sampling: Optional[Sampling] = None) -> None:
        if micro_batches is not None:
            _validate.integer("micro_batches", micro_batches, low=1, bool_error=ValueError)
        if sampling is not None:
            _validate.instance("sampling", sampling, Sampling)
        self._micro_batches = micro_batches
        self._sampling = sampling
        self._mech: Optional[NoiseGaussianRandom] = None

    def set_mechanisms(self, policy: str, *args: Any, **kwargs: Any) -> None:
        """Set the noise mechanism; arguments as of `NoiseMechanismsFactory.create`."""
        self._mech = NoiseMechanismsFactory.create(policy, *args, **kwargs)

    def create(self, policy: str) -> type:
        """An optimizer class named `DPOptimizer`: 'SGD', 'Momentum' or 'Adam', in any case.

        Its instances take the arguments of the MindSpore optimizer. With a DPModel they only bring the mechanism.
        In a custom loop call them, outside compiled code, with what `clipped_gradient_fn(...)(...)` returned, or with
        its `total`: noise of the mechanism is added, the sum divided by the units, the multiplier decays, the
        parameters are updated and `optimizer.ledger` holds the step. A plain tuple of gradients is clipped first, as
        one vector.

        Raises:
            UnknownMechanismError: Unknown policy (a NameError and a ValueError).
            ValueError: No mechanism has been set.
        """
        base = _BASES.get(policy.lower()) if isinstance(policy, str) else None
        if base is None:
            raise UnknownMechanismError(f"policy must be 'SGD', 'Momentum' or 'Adam', but got {policy!r}.")
        if self._mech is None:
            raise ValueError("No noise mechanism is set: call set_mechanisms() before create().")
        return _dp_class(base, self._mech, self._micro_batches, self._sampling)


_NOT_CLIPPED = ("A DP optimizer must be used with DPModel, or called outside compiled code with a clipped sum: a plain "
                "Model would not clip, and its gradients would not be private.")


def _refuse_plain_train_step() -> None:
    """Raise if one of MindSpore's own train steps is calling: in PyNative mode it runs as plain Python."""
    frame = sys._getframe(2)
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), nn.TrainOneStepCell):
            raise RuntimeError(_NOT_CLIPPED)
        frame = frame.f_back


def _dp_class(base: type, mech: NoiseGaussianRandom, units: Optional[int], sampling: Optional[Sampling]) -> type:
    class DPOptimizer(base):
        """The base optimizer behind the noise; see `DPOptimizerClassFactory.create`."""

        # the base optimizer's own update, for callers that have added the noise
        apply_noised = base.construct

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._mech = mech
            self.micro_batches = units
            # in a list: as attributes of a Cell its cells would become children
            self._sum_step = [SumStep(self, mech, sampling, units)]

        @property
        def ledger(self) -> Ledger:
            """Ledger of the parameters."""
            return self._sum_step[0].ledger

        @property
        def sampling(self) -> Optional[Sampling]:
            """How the batches are drawn, as told."""
            return sampling

        def __call__(self, gradients: Gradients) -> object:
            if units is None:
                raise ValueError("micro_batches of DPOptimizerClassFactory must be a number to use its optimizers in "
                                 "a custom loop: it divides the clipped sum.")
            _refuse_plain_train_step()
            return self._sum_step[0](gradients)

        def construct(self, gradients):
            """Reached only by compiling the optimizer into a train step, which would not clip."""
            raise RuntimeError(_NOT_CLIPPED)

    return DPOptimizer
