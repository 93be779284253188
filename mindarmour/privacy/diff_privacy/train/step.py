"""One private training step: the order of operations, nothing else.

columns -> clipped sum of the units (engine) -> + noise at the bound that clipped -> sum over ranks -> / expected
units -> optimizer, and then the next bound. The noise is drawn on the host in `TrainStep.__call__` and enters the
compiled step as an input, so no callback can forget it, no checkpoint holds it and no step runs without it. The step
is recorded before the device is asked, so that an interrupt can only leave a step too many in the ledger.
"""
from __future__ import annotations

import warnings
import weakref
from dataclasses import replace
from typing import Callable, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindarmour.privacy.accounting import Ledger, StepEvent
from mindarmour.privacy.accounting.events import FULL, ZERO_OUT, Sampling
from mindarmour.privacy.diff_privacy.batch_norm import refuse_batch_statistics
from mindarmour.privacy.diff_privacy.grads.accumulate import engine_for
from mindarmour.privacy.diff_privacy.grads.choose import NO_REAL_ROW, kinds_of, still_exact
from mindarmour.privacy.diff_privacy.grads.protocol import loss_reduction
from mindarmour.privacy.diff_privacy.grads.report import EngineReport, report_of
from mindarmour.privacy.diff_privacy.operators import add_up
from mindarmour.privacy.diff_privacy.parallel.agreement import parameter_facts, plan_facts, require_agreement
from mindarmour.privacy.diff_privacy.parallel.ranks import is_main_rank
from mindarmour.privacy.diff_privacy.sampling.batches import MASK_COLUMN
from mindarmour.privacy.diff_privacy.train.loss_scale import Clip, scaled
from mindarmour.privacy.diff_privacy.train.moved import Moved
from mindarmour.privacy.diff_privacy.train.noised_update import NoisedUpdate, RealUnits
from mindarmour.privacy.diff_privacy.train.plan import Plan
from mindarmour.privacy.diff_privacy.train.spending import Spending
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.utils import _validate
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


# weak references to all steps there are
_STEPS: list[weakref.ref] = []


def steps_on(network: nn.Cell) -> bool:
    """Whether a step that somebody still holds trains, or reads, a Parameter of this network."""
    own = {id(parameter) for parameter in network.get_parameters()}
    steps = [reference() for reference in list(_STEPS)]
    return any(step is not None and any(id(parameter) in own for parameter in step.network.get_parameters())
               for step in steps)


class TrainStep(nn.Cell):
    """The train network of a DPModel and of a PrivateLoop: called with a batch's columns, it trains one step.

    A batch has the claim of the data set only if it is the one that was admitted last, and only once: any other call
    is recorded as a step in which every record may have taken part.

    Args:
        network (Cell): The user's network.
        loss_fn (Cell, optional): Its loss; None if the network returns the loss.
        reduction (str): Reduction of the loss.
        optimizer (Optimizer): Its optimizer.
        plan (Plan): Clipping, noise, units; bound to a data set by `bind`.
        loss_scale (float): Fixed factor on the loss in the backward pass, undone before clipping.

    Inputs:
        columns (Tensor): The batch's columns, with the mask `is_real` where the data set has one. Of batches that are
            not admitted it is on the caller that no record stands in two rows.

    Outputs:
        Tensor, mean loss of the real rows.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Guarantee:
        The step stands in `ledger` before it runs. Its noise has the plan's multiplier times the bound that clips it.
        Only Parameters that the optimizer moves are clipped and noised; the others are constants.
    """

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], reduction: str, optimizer: nn.Optimizer,
                 plan: Plan, loss_scale: float = 1.0) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.norm_bound = Parameter(Tensor(plan.norm_bound, ms.float32), name="norm_bound", requires_grad=False)
        self.engine_report: Optional[EngineReport] = None
        self._plan = plan
        self._reduction = reduction
        self._loss_scale = loss_scale
        self._known = [{id(parameter): parameter for parameter in network.get_parameters()}]
        _STEPS.append(weakref.ref(self, _STEPS.remove))
        self._moved = Moved(network, optimizer)
        # in lists: as attributes of a Cell, Parameters would become its own
        self._spending = [Spending(optimizer.parameters, network.get_parameters())]
        self._guards: list[Callable[[StepEvent], None]] = []
        self._made = 0
        # whom correlated noise is drawn for: one owner for batches of the data set, another one for other batches
        self._owners = (object(), object())
        self._order: Optional[object] = None
        self._since = 0
        self._mask_position: Optional[int] = None
        self._admitted: Optional[tuple] = None
        self._rows: Optional[int] = None
        self._step: Optional[nn.Cell] = None
        self._shapes: list[tuple] = []
        self._flags: list[tuple] = []
        self._homes: Optional[list[int]] = None
        # what the engine was chosen for, the engine, the data it was tried on, and whether others have come
        self._kinds: Optional[tuple] = None
        self._engine: Optional[nn.Cell] = None
        self._data: Optional[str] = None
        self._other_data = False
        self._dropped: list[Tensor] = []
        self._observed: list[tuple[Parameter, Parameter]] = []  # (parameter, copy of its noised gradient)

    @property
    def plan(self) -> Plan:
        """What is done at each step; `bind` changes it."""
        return self._plan

    @property
    def ledger(self) -> Ledger:
        """What was spent on the network's parameters, by this step and by whoever trained them before."""
        return self._spending[0].ledger

    @property
    def engine_reason(self) -> Optional[str]:
        """Why the engine was chosen; None before the first step."""
        return self.engine_report and self.engine_report.reason

    @property
    def rows(self) -> Optional[int]:
        """Rows of the physical batch; None before the first step."""
        return self._rows

    @property
    def steps_made(self) -> int:
        """Steps of this schedule: those of this object, and those of the run that it continues."""
        return self._made

    def continue_from(self, ledger: Ledger, acknowledge: Optional[str] = None) -> None:
        """Take over the ledger of the checkpoint whose values the network was given."""
        self._spending[0].continue_from(ledger, acknowledge)
        self._made = ledger.steps

    def bind(self, plan: Plan, mask_position: Optional[int], data: Optional[str] = None,
             order: Optional[object] = None) -> None:
        """Train on a data set from now on; the engine is tried anew on the first batch of other data.

        Args:
            plan (Plan): With the data set's sampling.
            mask_position (int, optional): Of the mask column.
            data (str, optional): Fingerprint of the data set.
            order (object, optional): What holds the order that the batches follow, see `order_of`.
        """
        self._other_data, self._data = data != self._data, data
        told = getattr(self.optimizer, "sampling", None)
        if told is not None and told != plan.sampling:
            raise ValueError(f"sampling of the DP optimizer must be that of the data set, but the optimizer was told "
                             f"{told} and the data set has {plan.sampling}. Leave it out of the optimizer.")
        changed = self._plan != plan
        if changed or self._mask_position != mask_position:
            self._step = self._rows = None
        self._plan = plan
        self._mask_position = mask_position
        self._admitted = None
        self._guards = []
        self._spending[0].refresh()
        turns, place = 1 if plan.sampling is None else plan.sampling.groups, self.ledger.steps
        if changed or order is not self._order or (place - self._since) % turns:
            # correlated noise may not go on where a record could come again too early
            self._order, self._since, self._owners = order, place, (object(), object())
        plan.noise_mech.begin(self._owners[True], place)

    def admit(self, columns: tuple) -> None:
        """The next batch of the data set: the call with exactly these Tensors has its claim, once."""
        self._admitted = tuple(columns)

    def observe(self, *parameters: Parameter) -> tuple[Parameter, ...]:
        """Parameters that hold, after each step, the noised gradients of `parameters` as the optimizer got them.

        They are noised sums that the ledger counts, and each costs one copy a step.
        """
        if [id(parameter) for parameter, _ in self._observed] != [id(parameter) for parameter in parameters]:
            self._observed, self._step = [(parameter, Parameter(
                Tensor(np.zeros(parameter.shape, np.float32)), name=f"observed_gradient.{i}", requires_grad=False))
                for i, parameter in enumerate(parameters)], None
        return tuple(copy for _, copy in self._observed)

    def guard(self, permit: Callable[[StepEvent], None]) -> None:
        """Ask `permit` before each step, until the next data set is bound; it raises to refuse the step."""
        self._guards.append(permit)

    def next_event(self, rows: Optional[int] = None) -> StepEvent:
        """Event of the next admitted step; `rows` where no step has told the batch size yet."""
        return self._plan.event(self._made, self._rows or rows)

    def __call__(self, *columns: Tensor) -> Tensor:
        claimed = self._is_admitted(columns)
        columns, is_real = self._take_mask(columns)
        self._prepare(columns, is_real)
        columns, is_real = self._fill(columns, is_real)
        plan, ranks, place = self._plan, self._plan.ranks, self.ledger.steps
        plan.noise_mech.begin(self._owners[claimed], place)
        event = plan.event(self._made, self._rows, claimed)
        for permit in self._guards:
            permit(event)
        normals = ranks.normals(plan.noise_mech.source, place, self._shapes)
        fraction_noise = 0.0 if plan.clip_mech is None else plan.clip_mech.fraction_noise(place, ranks)
        # recorded before the device is asked: whatever interrupts the step, it cannot have run without its record
        self.ledger.record(event)
        self._made += 1
        with ranks.explain_lost("finish a training step"):
            loss, bad = self._step(ms.mutable(tuple(Tensor.from_numpy(z) for z in normals)),
                                   Tensor(event.noise_multiplier * ranks.noise_share, ms.float32),
                                   Tensor(fraction_noise, ms.float32), is_real, *columns)
        self._note_dropped(bad)
        if hasattr(plan.noise_mech, "advance_to"):
            plan.noise_mech.advance_to(self._made)
        return loss

    def construct(self, *columns):
        """Reached only by compiling the whole step (sink mode), which would freeze the noise."""
        raise RuntimeError("The private step draws its noise on the host and cannot be compiled into another graph. "
                           "Train with dataset_sink_mode=False.")

    def _is_admitted(self, columns):
        """Whether these are the admitted Tensors; an admission serves one call."""
        admitted, self._admitted = self._admitted, None
        return admitted is not None and len(admitted) == len(columns) \
            and all(one is other for one, other in zip(admitted, columns))

    def _take_mask(self, columns):
        if self._mask_position is None:
            return columns, Tensor(np.ones(len(columns[0]), np.float32))
        place = self._mask_position
        if place >= len(columns):
            raise ValueError(f"columns must hold the mask '{MASK_COLUMN}' at position {place}, but only "
                             f"{len(columns)} came. Pass the columns as the data set brings them.")
        return columns[:place] + columns[place + 1:], columns[place].astype(ms.float32)

    def _prepare(self, columns, is_real):
        self._require_same_parameters()
        kinds = kinds_of(self.network, columns)
        if self._step is not None:
            self._require_same_flags()
            if kinds == self._kinds and not self._parameters_moved() and self._holds_on(columns, is_real):
                return
        if self._rows is None:
            self._rows = int(is_real.shape[0])
        self._build(*self._fill(columns, is_real))
        self._kinds = None if self.engine_report.reason == NO_REAL_ROW else kinds

    def _holds_on(self, columns, is_real):
        if not self._other_data:
            return True
        self._other_data = False
        with self._moved.alone():
            return still_exact(self._engine, *self._scaled(), columns, is_real)

    def _scaled(self):
        return scaled(self.network, self.loss_fn, self._reduction, self._loss_scale)

    def _require_same_parameters(self):
        for parameter in self.network.get_parameters():
            if id(parameter) not in self._known[0]:
                raise ValueError(f"The network must hold the Parameters that it had when the model was made, but "
                                 f"'{parameter.name}' came later and would never be trained. Insert adapters or layers "
                                 f"first, then make optimizer and model.")

    def _require_same_flags(self):
        for parameter, flag in self._flags:
            if parameter.requires_grad != flag:
                raise ValueError(f"requires_grad of '{parameter.name}' must not change after the first step, but went "
                                 f"from {flag} to {not flag}. Make a new DPModel: it continues what was spent.")

    def _parameters_moved(self):
        """Whether set_data or load_param_into_net replaced a parameter's memory.

        In PyNative mode a compiled function keeps the memory it was compiled with: it would go on training weights
        that nobody sees. Then the step is compiled again.
        """
        return ms.get_context("mode") == ms.PYNATIVE_MODE and self._memory() != self._homes

    def _memory(self):
        return [parameter.data_ptr() for parameter in self.get_parameters()]

    def _build(self, columns, is_real):
        ranks, rows = self._plan.ranks, self._rows
        if self._plan.sampling is None:
            everybody = rows * ranks.world
            self._plan = replace(self._plan, sampling=Sampling(FULL, everybody, everybody, ZERO_OUT,
                                                               shards=ranks.world))
            require_agreement(ranks, {**plan_facts(self._plan), **parameter_facts(self.get_parameters())})
        plan, self._moved = self._plan, Moved(self.network, self.optimizer)
        units = rows // plan.units(rows).rows
        network, loss_fn = self._scaled()
        with self._moved.alone():
            engine, reason = engine_for(plan.engine, network, loss_fn, self._moved.rule(plan.rule), units, columns,
                                        plan.physical_batch_size, is_real)
            self.engine_report = report_of(engine, reason, self.network)
        self._engine, self._other_data = getattr(engine, "part", engine), False
        self._shapes, order = self._moved.shapes, self._moved.order
        clip = Clip(engine, self.norm_bound, self._loss_scale)
        update = NoisedUpdate(self.optimizer, self.norm_bound, plan.clip_mech, order, plan.expected_units(rows),
                              ranks.step_sum([self._shapes[i] for i in order]), *self._observation())
        kind = _CompiledStep if engine.compiled else _HostStep
        self._step = kind(clip, update, RealUnits(units))
        self._step.set_train()
        self._homes = self._memory()
        self._flags = [(parameter, parameter.requires_grad) for parameter in self.network.get_parameters()]

    def _observation(self):
        """(copies, places among the optimizer's parameters), or nothing."""
        if not self._observed:
            return ()
        place = {id(parameter): i for i, parameter in enumerate(self.optimizer.parameters)}
        lacking = [parameter.name for parameter, _ in self._observed if id(parameter) not in place]
        if lacking:
            raise ValueError(f"The optimizer must hold the observed Parameter {lacking[0]!r}. Make it over "
                             f"network.trainable_params() of the wrapped network.")
        return (ParameterTuple([copy for _, copy in self._observed]),
                tuple(place[id(parameter)] for parameter, _ in self._observed))

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

    def warn_about_dropped_units(self) -> None:
        """Warn if units were dropped since the last look because their gradient was NaN or infinite."""
        count = sum(float(bad) for bad in self._dropped)
        self._dropped = []
        if count and is_main_rank():
            warnings.warn(f"{count:.0f} units had a NaN or infinite gradient in the last steps; each contributed "
                          f"zero. The guarantee holds, but look at the learning rate and the data.", PrivacyWarning,
                          stacklevel=2)


def train_step_of(network: nn.Cell, loss_fn: Optional[nn.Cell], optimizer: nn.Optimizer, plan: Plan,
                  loss_scale: float = 1.0) -> TrainStep:
    """The step of a run, or an error that says why the network cannot be trained privately."""
    _validate.instance("network", network, nn.Cell)
    refuse_batch_statistics(network)
    if loss_fn is not None:
        _validate.instance("loss_fn", loss_fn, nn.Cell)
    return TrainStep(network, loss_fn, loss_reduction(loss_fn), optimizer, plan, loss_scale)
