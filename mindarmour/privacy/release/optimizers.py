"""DP optimizers for custom loops: give them gradients, they clip, add noise and update.

They stand here, beside the other releases, and not in `diff_privacy`, because they protect whatever they are given:
no plan and no engine belongs to them. What that protects depends on what they are given, see `DPSGD`.
"""
from dataclasses import replace

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, FULL, ZERO_OUT
from mindarmour.privacy.diff_privacy import ClippedSum
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource
from mindarmour.privacy.diff_privacy.parallel.ranks import refuse_several_ranks
from mindarmour.utils import _validate
from mindarmour.utils.compiled import Compiled


class _NoisedUpdate(Compiled):
    """Clip as one vector if asked to, add noise, divide, update: one compiled step."""

    def __init__(self, optimizer, clips):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.clips = clips

    @ms.jit  # in PyNative mode too: there the base optimizer would compile `construct`, which raises
    def construct(self, gradients, normals, norm_bound, stddev, divisor):
        if self.clips:
            gradients = self._clipped(gradients, norm_bound)
        noised = ()
        for gradient, normal in zip(gradients, normals):
            noised += ((gradient.astype(ms.float32) + normal * stddev) / divisor,)
        return self.optimizer.apply_noised(noised)

    def _clipped(self, gradients, norm_bound):
        square = ops.zeros((), ms.float32)
        for gradient in gradients:
            square += (gradient.astype(ms.float32) ** 2).sum()
        norm = ops.sqrt(square)
        factor = ops.minimum(norm_bound / ops.maximum(norm, 1e-30), ops.ones_like(norm))
        clipped = ()
        for gradient in gradients:
            # a NaN or an infinity must not reach the parameters: zero is inside the ball as well
            scaled = gradient.astype(ms.float32) * factor
            clipped += (ops.select(ops.isfinite(norm).broadcast_to(scaled.shape), scaled, ops.zeros_like(scaled)),)
        return clipped


class _Privacy:
    """Noise, checks and events of one DP optimizer.

    Args:
        optimizer (Optimizer): The optimizer whose `apply_noised` updates the parameters.
        noise_scale (float): Standard deviation of the noise divided by the bound.
        norm_bound (float): Clipping bound C.
        sampling (Sampling, optional): Claim of the batches.
        ledger (Ledger, optional): Where to record.
    """

    def __init__(self, optimizer, noise_scale, norm_bound, sampling, ledger):
        refuse_several_ranks(type(optimizer).__name__)
        self.noise_scale = _validate.real("noise_scale", noise_scale, low=0)
        self.norm_bound = _validate.real("norm_bound", norm_bound, low=0)
        if sampling is not None:
            _validate.instance("sampling", sampling, Sampling)
        self.sampling = sampling
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)
        self._source = NoiseSource()
        self._shapes = [parameter.shape for parameter in optimizer.parameters]
        self._updates = {clips: _NoisedUpdate(optimizer, clips) for clips in (False, True)}

    def step(self, gradients):
        """Update with noised gradients, a tuple or a `ClippedSum`, and record what happened."""
        is_sum = isinstance(gradients, ClippedSum)
        event = self._event_of_sum(gradients) if is_sum else self._event_of_batch()
        total = gradients.total if is_sum else self._checked(gradients)
        divisor = self._units(gradients) if is_sum else 1.0
        normals = self._source.normals(self.ledger.steps, self._shapes)
        success = self._updates[not is_sum](
            ms.mutable(tuple(total)), ms.mutable(tuple(map(Tensor, normals))), Tensor(self.norm_bound, ms.float32),
            Tensor(self.noise_scale * self.norm_bound, ms.float32), Tensor(divisor, ms.float32))
        self.ledger.record(event)
        return success

    def _checked(self, gradients):
        gradients = tuple(_validate.instance("gradients", gradients, (tuple, list), "tuple or ClippedSum"))
        shapes = [tuple(getattr(gradient, "shape", ())) for gradient in gradients]
        if shapes != [tuple(shape) for shape in self._shapes]:
            raise ValueError(f"gradients must have the shapes of the parameters, {self._shapes}, but have {shapes}.")
        return gradients

    def _units(self, clipped):
        """Public divisor: the units that a batch is expected to hold."""
        return clipped.units if self.sampling is None else self.sampling.batch_size / clipped.examples_per_unit

    def _event_of_batch(self):
        sampling = self.sampling or Sampling(FULL, 1, 1, ZERO_OUT)
        return StepEvent(sampling, self.noise_scale, examples_per_unit=None, noise_source=self._source.kind,
                         note="each batch was clipped as one vector")

    def _event_of_sum(self, clipped):
        if clipped.norm_bound != self.norm_bound:
            raise ValueError(f"norm_bound of the optimizer and of the clipped sum must agree, but are "
                             f"{self.norm_bound} and {clipped.norm_bound}.")
        examples = clipped.examples_per_unit
        rows = clipped.units * examples
        sampling = self.sampling or Sampling(FULL, rows, rows, ZERO_OUT)
        if examples > 1 and sampling.relation == ADD_OR_REMOVE:
            # an absent example leaves a hole in its micro-batch; it does not move the others
            sampling = replace(sampling, relation=ZERO_OUT)
        return StepEvent(sampling, self.noise_scale, examples_per_unit=examples, noise_source=self._source.kind)


_COMPILED = ("A DP optimizer draws its noise on the host: call it outside compiled code with the gradients, or train "
             "with DPModel.")


class DPSGD(nn.SGD):
    """SGD that clips the gradient it is given to `norm_bound` and adds noise before it updates.

    Called with a tuple of gradients, it sees one vector per step, so it clips the BATCH AS ONE UNIT. That bounds
    what one example can do only by the diameter of the ball: the recorded sensitivity is 2 * norm_bound per batch,
    and the same noise hides an example as well as half of it would with per-example clipping.

    Called with the `ClippedSum` of `clipped_gradient_fn`, whose units were clipped one by one, it adds the noise to
    the sum, divides by the expected units, and gives the per-example guarantee with sensitivity `norm_bound`.

    Args:
        params (Union[list[Parameter], list[dict]]): As for nn.SGD, in the order of the gradients.
        learning_rate (Union[float, int, Tensor, Iterable, LearningRateSchedule]): As for nn.SGD.
        momentum (float): As for nn.SGD.
        dampening (float): As for nn.SGD.
        weight_decay (float): As for nn.SGD; applied after the noise, so it costs no privacy.
        nesterov (bool): As for nn.SGD.
        noise_scale (float): Standard deviation of the noise divided by `norm_bound`, above 0.
        norm_bound (float): Clipping bound C in L2 norm, above 0; must equal that of a ClippedSum.
        sampling (Sampling, optional): How batches are drawn; None claims no amplification. Call
            `ledger.start_epoch()` at each epoch for samplers that claim per epoch.
        ledger (Ledger, optional): Where steps are recorded; None makes a new one, `optimizer.ledger`.

    Inputs:
        gradients (Union[tuple[Tensor], ClippedSum]): Mean gradient of the batch, or the clipped sum.

    Outputs:
        What nn.SGD returns.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Guarantee:
        That of the recorded `StepEvent`s, see above; ask `privacy_spent(optimizer.ledger.entries, delta)`. Noise
        comes from AES-256-CTR keyed by the operating system. Compiling the optimizer into a graph raises an error
        instead of freezing the noise.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A noise scale or bound that is not positive, another bound in the ClippedSum, gradients of other
            shapes than the parameters.

    References:
        Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1.

    Examples:
        >>> import numpy as np
        >>> from mindspore import Tensor, nn
        >>> from mindarmour.privacy.accounting.accountant import privacy_spent
        >>> from mindarmour.privacy.diff_privacy import clipped_gradient_fn
        >>> from mindarmour.privacy.release import DPSGD
        >>> network = nn.Dense(4, 2)
        >>> loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction='mean')
        >>> gradient_fn = clipped_gradient_fn(network, loss_fn, norm_bound=1.0)
        >>> optimizer = DPSGD(network.trainable_params(), 0.1, noise_scale=4.0, norm_bound=1.0)
        >>> success = optimizer(gradient_fn(Tensor(np.ones((8, 4), np.float32)), Tensor(np.zeros(8, np.int32))))
        >>> round(privacy_spent(optimizer.ledger.entries, delta=1e-5).epsilon, 2)
        0.93
    """

    # the base optimizer's own update, for gradients that carry their noise
    apply_noised = nn.SGD.construct

    def __init__(self, params, learning_rate, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
                 noise_scale=1.0, norm_bound=1.0, *, sampling=None, ledger=None):
        super().__init__(params, learning_rate, momentum, dampening, weight_decay, nesterov)
        # in a list: as attributes of a Cell its cells would become children
        self._privacy = [_Privacy(self, noise_scale, norm_bound, sampling, ledger)]

    @property
    def ledger(self):
        """Ledger of the executed steps."""
        return self._privacy[0].ledger

    def __call__(self, gradients):
        return self._privacy[0].step(gradients)

    def construct(self, gradients):
        """Reached only by compiling the optimizer into a train step, which would freeze the noise."""
        raise RuntimeError(_COMPILED)


class DPAdam(nn.Adam):
    """Adam that clips the gradient it is given to `norm_bound` and adds noise before it updates.

    Everything that `DPSGD` says about gradients, sensitivity, sampling and the ledger holds here; the moments are
    computed from noised gradients only.

    Args:
        params (Union[list[Parameter], list[dict]]): As for nn.Adam, in the order of the gradients.
        learning_rate (Union[float, int, Tensor, Iterable, LearningRateSchedule]): As for nn.Adam.
        beta1 (float): As for nn.Adam.
        beta2 (float): As for nn.Adam.
        eps (float): As for nn.Adam.
        weight_decay (float): As for nn.Adam; applied after the noise, so it costs no privacy.
        use_amsgrad (bool): As for nn.Adam.
        noise_scale (float): Standard deviation of the noise divided by `norm_bound`, above 0.
        norm_bound (float): Clipping bound C in L2 norm, above 0; must equal that of a ClippedSum.
        sampling (Sampling, optional): As for DPSGD.
        ledger (Ledger, optional): As for DPSGD.

    Inputs:
        gradients (Union[tuple[Tensor], ClippedSum]): Mean gradient of the batch, or the clipped sum.

    Outputs:
        What nn.Adam returns.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Guarantee: as DPSGD.

    Raises: as DPSGD.

    Examples:
        >>> import mindspore as ms
        >>> from mindspore import nn
        >>> from mindarmour.privacy.release import DPAdam
        >>> network = nn.Dense(4, 2)
        >>> optimizer = DPAdam(network.trainable_params(), noise_scale=4.0, norm_bound=1.0)
        >>> success = optimizer((ms.ops.ones((2, 4)), ms.ops.ones(2)))
        >>> optimizer.ledger.entries[0].event.sensitivity  # the batch was clipped as one unit
        2.0
    """

    # the base optimizer's own update, for gradients that carry their noise
    apply_noised = nn.Adam.construct

    def __init__(self, params, learning_rate=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0,
                 use_amsgrad=False, noise_scale=1.0, norm_bound=1.0, *, sampling=None, ledger=None):
        super().__init__(params, learning_rate, beta1, beta2, eps, weight_decay=weight_decay, use_amsgrad=use_amsgrad)
        # in a list: as attributes of a Cell its cells would become children
        self._privacy = [_Privacy(self, noise_scale, norm_bound, sampling, ledger)]

    @property
    def ledger(self):
        """Ledger of the executed steps."""
        return self._privacy[0].ledger

    def __call__(self, gradients):
        return self._privacy[0].step(gradients)

    def construct(self, gradients):
        """Reached only by compiling the optimizer into a train step, which would freeze the noise."""
        raise RuntimeError(_COMPILED)
