"""DP optimizers: a MindSpore optimizer that adds noise to the clipped sum it is given."""
import sys

import mindspore as ms
from mindspore import Tensor, nn

from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseMechanismsFactory
from mindarmour.privacy.diff_privacy.parallel.ranks import current_ranks
from mindarmour.privacy.errors import UnknownMechanismError
from mindarmour.utils import _validate
from mindarmour.utils.compiled import Compiled

_BASES = {"sgd": nn.SGD, "momentum": nn.Momentum, "adam": nn.Adam}


class _NoisedUpdate(Compiled):
    """Noise, division and the base optimizer in one compiled step.

    The gradients are a sum over the ranks already; the ranks' shares of the noise are added up here.
    """

    def __init__(self, optimizer, units, rank_sum):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.rank_sum = rank_sum
        self.factor = float(optimizer.loss_scale) / units

    @ms.jit  # in PyNative mode too: there the base optimizer would compile its own `construct`, which raises
    def construct(self, gradients, normals, stddev):
        if self.rank_sum is not None:
            normals = self.rank_sum(normals)
        noised = ()
        for gradient, normal in zip(gradients, normals):
            noised += ((gradient.astype(ms.float32) + normal * stddev) * self.factor,)
        return self.optimizer.apply_noised(noised)


class DPOptimizerClassFactory:
    """Makes DP optimizer classes.

    Args:
        micro_batches (int): Units (of one rank) whose clipped gradients are summed in one step, the divisor; must
            equal the `micro_batches` of the DPModel that uses the optimizer.

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.diff_privacy import DPOptimizerClassFactory
        >>> factory = DPOptimizerClassFactory(micro_batches=32)
        >>> factory.set_mechanisms('Gaussian', norm_bound=1.0, initial_noise_multiplier=1.5)
        >>> optimizer = factory.create('Momentum')(nn.Dense(4, 2).trainable_params(), learning_rate=0.1,
        ...                                        momentum=0.9)
    """

    def __init__(self, micro_batches=2):
        if micro_batches is not None:
            _validate.integer("micro_batches", micro_batches, low=1, bool_error=ValueError)
        self._micro_batches = micro_batches
        self._mech = None

    def set_mechanisms(self, policy, *args, **kwargs):
        """Set the noise mechanism; arguments as of `NoiseMechanismsFactory.create`."""
        self._mech = NoiseMechanismsFactory.create(policy, *args, **kwargs)

    def create(self, policy):
        """An optimizer class named `DPOptimizer`: 'SGD', 'Momentum' or 'Adam', in any case.

        Its instances take the arguments of the MindSpore optimizer. With a DPModel they only bring the mechanism.
        In a custom loop call them, outside compiled code, with the clipped SUM of `micro_batches` units
        (`clipped_gradient_fn(...)(...).total`): noise of the mechanism is added, the sum divided by the units, the
        multiplier decays and the parameters are updated.

        Raises:
            UnknownMechanismError: Unknown policy (a NameError and a ValueError).
            ValueError: No mechanism has been set.
        """
        base = _BASES.get(policy.lower()) if isinstance(policy, str) else None
        if base is None:
            raise UnknownMechanismError(f"policy must be 'SGD', 'Momentum' or 'Adam', but got {policy!r}.")
        if self._mech is None:
            raise ValueError("No noise mechanism is set: call set_mechanisms() before create().")
        return _dp_class(base, self._mech, self._micro_batches)


_NOT_CLIPPED = ("A DP optimizer must be used with DPModel, or called outside compiled code with a clipped sum: a plain "
                "Model would not clip, and its gradients would not be private.")


def _refuse_plain_train_step():
    """Raise if one of MindSpore's own train steps is calling: in PyNative mode it runs as plain Python."""
    frame = sys._getframe(2)
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), nn.TrainOneStepCell):
            raise RuntimeError(_NOT_CLIPPED)
        frame = frame.f_back


def _dp_class(base, mech, units):
    class DPOptimizer(base):
        """The base optimizer behind the noise; see `DPOptimizerClassFactory.create`."""

        # the base optimizer's own update, for callers that have added the noise
        apply_noised = base.construct

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self._mech = mech
            self.micro_batches = units
            self._steps = 0
            self._noised_update = None

        def __call__(self, gradients):
            if units is None:
                raise ValueError("micro_batches of DPOptimizerClassFactory must be a number to use its optimizers in "
                                 "a custom loop: it divides the clipped sum.")
            _refuse_plain_train_step()
            ranks, shapes = current_ranks(), [p.shape for p in self.parameters]
            if self._noised_update is None:  # a list: a Cell attribute would be a child
                self._noised_update = [_NoisedUpdate(self, units * ranks.world, ranks.rank_sum(shapes))]
            normals = ranks.normals(mech.source, self._steps, shapes)
            stddev = mech.norm_bound * mech.multiplier_at(self._steps) * ranks.noise_share
            self._steps += 1
            if hasattr(mech, "advance_to"):
                mech.advance_to(self._steps)
            return self._noised_update[0](ms.mutable(tuple(gradients)), ms.mutable(tuple(map(Tensor, normals))),
                                          Tensor(stddev, ms.float32))

        def construct(self, gradients):
            """Reached only by compiling the optimizer into a train step, which would not clip."""
            raise RuntimeError(_NOT_CLIPPED)

    return DPOptimizer
