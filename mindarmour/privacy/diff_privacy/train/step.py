"""One private training step: the order of operations, nothing else.

columns -> clipped sum of the units (engine) -> + noise at the bound that clipped -> sum over ranks -> / expected
units -> optimizer, and then the next bound. The noise is drawn on the host in `TrainStep.__call__` and enters the
compiled step as an input, so no callback can forget it, no checkpoint holds it and no step runs without it.
"""
import warnings
from dataclasses import replace

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.accounting.events import FULL, ZERO_OUT, Sampling
from mindarmour.privacy.diff_privacy.grads.accumulate import engine_for
from mindarmour.privacy.diff_privacy.operators import add_up, for_each, multiply, partial
from mindarmour.privacy.diff_privacy.parallel.agreement import parameter_facts, plan_facts, require_agreement
from mindarmour.privacy.diff_privacy.parallel.ranks import is_main_rank
from mindarmour.privacy.diff_privacy.train.noised_update import NoisedUpdate, RealUnits
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.utils.compiled import Compiled

# Steps between two looks at the counter of dropped units: each look waits for the device.
_LOOK_EVERY = 50








class _CompiledStep(Compiled):
    """Engine and update in one graph, in PyNative mode too: there the engine would be traced at each step."""

    def __init__(self, clip, update, real_units):
        super().__init__(auto_prefix=False)
        self.clip = clip
        self.update = update
        self.real_units = real_units

    @ms.jit
    def construct(self, normals, multiplier, fraction_noise, is_real, *columns):
        totals, norms, loss, bad = self.clip(is_real, *columns)
        return self.update(totals, norms, loss, bad, normals, multiplier, fraction_noise, self.real_units(is_real),
                           add_up(is_real, ()))


class _HostStep(nn.Cell):
    """The same for an engine that is a host loop: only the update is compiled."""

    def __init__(self, clip, update, real_units):
        super().__init__(auto_prefix=False)
        self.clip = clip
        self.update = update
        self.real_units = real_units

    def __call__(self, normals, multiplier, fraction_noise, is_real, *columns):
        totals, norms, loss, bad = self.clip.construct(is_real, *columns)
        return self.update(ms.mutable(totals), norms, loss, bad, normals, multiplier, fraction_noise,
                           self.real_units(is_real), is_real.sum())


class _Clip(nn.Cell):
    """The engine at the current bound. A loss scale is undone here: clipping at C s of s g is s times clipping g."""

    def __init__(self, engine, norm_bound, loss_scale):
        super().__init__(auto_prefix=False)
        self.engine = engine
        self.norm_bound = norm_bound
        self.loss_scale = float(loss_scale)

    def construct(self, is_real, *columns):
        totals, norms, loss, bad = self.engine(self.norm_bound * self.loss_scale, is_real, *columns)
        if self.loss_scale != 1.0:
            totals = for_each(partial(multiply, 1.0 / self.loss_scale), totals)
            norms = norms / self.loss_scale
            loss = loss / self.loss_scale
        return totals, norms, loss, bad


class _ScaledLoss(nn.Cell):
    """A loss times a constant, with the reduction of the loss."""

    def __init__(self, loss, reduction, scale):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.reduction = reduction
        self.scale = scale

    def construct(self, *arguments):
        return self.loss(*arguments) * self.scale


def scaled(network, loss_fn, reduction, loss_scale):
    """(network, loss_fn) with the loss multiplied by `loss_scale`."""
    if loss_scale == 1.0:
        return network, loss_fn
    if loss_fn is None:
        return _ScaledLoss(network, reduction, loss_scale), None
    return network, _ScaledLoss(loss_fn, reduction, loss_scale)


def gradient_order(network, optimizer):
    """For each of the optimizer's parameters, its place among the network's trainable parameters."""
    place = {id(p): i for i, p in enumerate(network.trainable_params())}
    foreign = [p.name for p in optimizer.parameters if id(p) not in place]
    if foreign:
        raise ValueError(f"optimizer must hold parameters of the network only, but {foreign[0]!r} is not one of its "
                         f"trainable parameters.")
    return tuple(place[id(p)] for p in optimizer.parameters)


class TrainStep(nn.Cell):
    """The train network of a DPModel: called with a batch's columns, it trains one step and returns the loss.

    Args:
        network (Cell): The user's network.
        loss_fn (Cell, optional): Its loss; None if the network returns the loss.
        reduction (str): Reduction of the loss.
        optimizer (Optimizer): Its optimizer.
        plan (Plan): Clipping, noise, units; bound to a data set by `bind`.
        loss_scale (float): Fixed factor on the loss in the backward pass, undone before clipping.
    """

    def __init__(self, network, loss_fn, reduction, optimizer, plan, loss_scale=1.0):
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.norm_bound = Parameter(Tensor(plan.norm_bound, ms.float32), name="norm_bound", requires_grad=False)
        self.plan = plan
        self.ledger = Ledger()
        self.engine_reason = None
        self._reduction = reduction
        self._loss_scale = loss_scale
        self._order = gradient_order(network, optimizer)
        self._shapes = [p.shape for p in network.trainable_params()]
        self._mask_position = None
        self._rows = None
        self._step = None
        self._homes = None
        self._dropped = []

    @property
    def rows(self):
        """Rows of the physical batch; None before the first step."""
        return self._rows

    def bind(self, plan, mask_position):
        """Train on a data set from now on: `plan` with its sampling, and the position of its mask column."""
        if self.plan.sampling != plan.sampling or self._mask_position != mask_position:
            self._step = self._rows = None
        self.plan = plan
        self._mask_position = mask_position

    def next_event(self, rows=None):
        """Event of the next step; `rows` where no step has told the batch size yet."""
        return self.plan.event(self.ledger.steps, self._rows or rows)

    def __call__(self, *columns):
        columns, is_real = self._take_mask(columns)
        self._prepare(columns, is_real)
        columns, is_real = self._fill(columns, is_real)
        step, ranks = self.ledger.steps, self.plan.ranks
        event = self.next_event()
        normals = ranks.normals(self.plan.noise_mech.source, step, self._shapes)
        fraction_noise = 0.0 if self.plan.clip_mech is None else self.plan.clip_mech.fraction_noise(step, ranks)
        with ranks.explain_lost("finish a training step"):
            loss, bad = self._step(ms.mutable(tuple(Tensor.from_numpy(z) for z in normals)),
                                   Tensor(event.noise_multiplier * ranks.noise_share, ms.float32),
                                   Tensor(fraction_noise, ms.float32), is_real, *columns)
        self.ledger.record(event)
        self._note_dropped(bad)
        if hasattr(self.plan.noise_mech, "advance_to"):
            self.plan.noise_mech.advance_to(step + 1)
        return loss

    def construct(self, *columns):
        """Reached only by compiling the whole step (sink mode), which would freeze the noise."""
        raise RuntimeError("The private step draws its noise on the host and cannot be compiled into another graph. "
                           "Train with dataset_sink_mode=False.")

    def _take_mask(self, columns):
        if self._mask_position is None:
            return columns, Tensor(np.ones(len(columns[0]), np.float32))
        place = self._mask_position
        return columns[:place] + columns[place + 1:], columns[place].astype(ms.float32)

    def _prepare(self, columns, is_real):
        if self._step is not None and not self._parameters_moved():
            return
        if self._rows is None:
            self._rows = int(is_real.shape[0])
        self._build(columns)

    def _parameters_moved(self):
        """Whether set_data or load_param_into_net replaced a parameter's memory.

        In PyNative mode a compiled function keeps the memory it was compiled with: it would go on training weights
        that nobody sees. Then the step is compiled again.
        """
        return ms.get_context("mode") == ms.PYNATIVE_MODE and self._memory() != self._homes

    def _memory(self):
        return [parameter.data_ptr() for parameter in self.get_parameters()]

    def _build(self, columns):
        ranks = self.plan.ranks
        if self.plan.sampling is None:
            everybody = self._rows * ranks.world
            self.plan = replace(self.plan, sampling=Sampling(FULL, everybody, everybody, ZERO_OUT, shards=ranks.world))
            require_agreement(ranks, {**plan_facts(self.plan), **parameter_facts(self.get_parameters())})
        units = self._rows // self.plan.rows_per_unit(self._rows)
        network, loss_fn = scaled(self.network, self.loss_fn, self._reduction, self._loss_scale)
        engine, self.engine_reason = engine_for(self.plan.engine, network, loss_fn, self.plan.rule, units, columns,
                                                self.plan.physical_batch_size)
        clip = _Clip(engine, self.norm_bound, self._loss_scale)
        apply = getattr(self.optimizer, "apply_noised", self.optimizer)
        update = NoisedUpdate(self.optimizer, apply, self.norm_bound, self.plan.clip_mech, self._order,
                         self.plan.expected_units(self._rows), ranks.step_sum([self._shapes[i] for i in self._order]))
        kind = _CompiledStep if engine.compiled else _HostStep
        self._step = kind(clip, update, RealUnits(units))
        self._step.set_train()
        self._homes = self._memory()

    def _fill(self, columns, is_real):
        """A last partial batch is filled with holes: same shapes, same divisor, same guarantee."""
        missing = self._rows - int(is_real.shape[0])
        if missing == 0:
            return columns, is_real
        if missing < 0:
            raise ValueError(f"Every batch must have at most the rows of the first one, {self._rows}, but one has "
                             f"{self._rows - missing}. Batch with a fixed size.")
        filled = tuple(ops.concat([c, ops.zeros((missing, *c.shape[1:]), c.dtype)]) for c in columns)
        return filled, ops.concat([is_real, ops.zeros((missing,), ms.float32)])

    def _note_dropped(self, bad):
        self._dropped.append(bad)
        if len(self._dropped) >= _LOOK_EVERY:
            self.warn_about_dropped_units()

    def warn_about_dropped_units(self):
        """Warn if units were dropped since the last look because their gradient was NaN or infinite."""
        count = sum(float(bad) for bad in self._dropped)
        self._dropped = []
        if count and is_main_rank():
            warnings.warn(f"{count:.0f} units had a NaN or infinite gradient in the last steps; each contributed "
                          f"zero. The guarantee holds, but look at the learning rate and the data.", PrivacyWarning,
                          stacklevel=2)
