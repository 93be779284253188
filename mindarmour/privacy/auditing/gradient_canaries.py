"""White-box audit through the suite as it is: canaries whose gradient is one coordinate, clipped to the bound."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops
from mindspore.train import Callback

from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.accounting.events import POISSON
from mindarmour.privacy.auditing.claim import claim_of_ledger
from mindarmour.privacy.auditing.plan import AuditPlan
from mindarmour.privacy.auditing.readings import Readings
from mindarmour.privacy.auditing.result import AuditResult
from mindarmour.privacy.auditing.rows import CanaryRecords, with_coins
from mindarmour.privacy.auditing.scoring import CanaryScores, audited
from mindarmour.privacy.diff_privacy.clipping.rules import PerLayerClipping
from mindarmour.privacy.diff_privacy.grads.protocol import loss_reduction
from mindarmour.privacy.diff_privacy.sampling.batches import SamplerDataset
from mindarmour.privacy.diff_privacy.sampling.records import records_of
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream, derive_key

TABLE = "canary_table"
_PUSH = 1e4  # gradient of a canary before clipping: far above any bound
_SCOPE = "reads one table beside the network: noise that is missing on the network's own Parameters alone is not seen"


class _WithCanaries(nn.Cell):
    """Loss of each row: the network's for a record, one coordinate of the table for a canary."""

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], count: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = loss_fn
        self.has_loss = loss_fn is not None
        self.table = nn.Embedding(count + 1, 1, embedding_table="zeros")
        self.table.embedding_table.name = TABLE

    def construct(self, canary, *columns):
        is_canary = (canary > 0).astype(ms.float32)
        coordinate = self.table(canary).reshape(-1).astype(ms.float32)
        # zero, so that the mean loss that training prints stays small; only the gradient counts
        push = (coordinate - ops.stop_gradient(coordinate)) * _PUSH
        loss = self.loss_fn(self.network(*columns[:-1]), columns[-1]) if self.has_loss else self.network(*columns)
        return loss.astype(ms.float32).reshape(-1) * (1.0 - is_canary) + push * is_canary


class GradientCanaries:
    """Canaries as rows of a table: each moves one coordinate by exactly the bound.

    Sampler, mask, clipping, engine, noise, divisor and ledger are those of the real run. Ordinary gradients never
    touch the table and its noise never touches the network.

    Args:
        count (int): Canaries, at least 10. They are records of the run: keep them a small share of the data.
        seed (int): Of the coins; 0 draws from operating-system entropy.

    Guarantee:
        `audit` says 'contradicted' of a true claim with probability at most 1 - confidence. It tests what the table's
        coordinates show, and no other Parameter.

    Raises:
        TypeError, ValueError: Arguments out of range.

    References:
        Steinke et al. 2023, "Privacy auditing with one (1) training run". Nasr et al. 2023, "Tight auditing of
        differentially private machine learning".

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.auditing.gradient_canaries import GradientCanaries
        >>> from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, PoissonSampler
        >>> probe = GradientCanaries(count=40, seed=1)
        >>> loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction='none')
        >>> network = probe.wrap(nn.Dense(4, 2), loss_fn)
        >>> data = np.ones((160, 4), np.float32), np.zeros(160, np.int32)
        >>> dataset = probe.dataset(PoissonSampler(batch_size=20), data)
        >>> model = DPModel(micro_batches=None, noise_mech=NoiseMechanismsFactory.create('Gaussian', 1.0, 1.0),
        ...                 network=network, optimizer=nn.SGD(network.trainable_params(), 0.1))
        >>> model.train(1, dataset, callbacks=[probe.readings()])
        >>> len(probe.audit(model.ledger, delta=1e-4).checks)
        6
    """

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = _validate.integer("count", count, low=10)
        _validate.integer("seed", seed, low=0)
        stream = SecureStream(None if seed == 0 else derive_key("canaries", seed))
        self.is_in = stream.integers(2, count).astype(bool)
        self._keys = stream.permutation(count)
        self._network: Optional[_WithCanaries] = None
        self._values: list[np.ndarray] = []
        self._multipliers: list[float] = []
        self._sampling: Any = None

    def wrap(self, network: nn.Cell, loss_fn: Optional[nn.Cell] = None) -> nn.Cell:
        """The network to hand to DPModel, without a loss function.

        Args:
            network (Cell): The user's network; its Parameters stay its own and keep their names.
            loss_fn (Cell, optional): Its loss with reduction 'none'; None if the network returns each row's loss.

        Raises:
            ValueError: A loss function that reduces, since canaries and records need losses of their own.
        """
        _validate.instance("network", network, nn.Cell)
        if loss_fn is not None and loss_reduction(_validate.instance("loss_fn", loss_fn, nn.Cell)) != "none":
            raise ValueError(f"loss_fn must return one loss per row, but its reduction is "
                             f"{loss_reduction(loss_fn)!r}. Make it with reduction='none': the average over a batch is "
                             f"DPModel's.")
        self._network = _WithCanaries(network, loss_fn, self.count)
        return self._network

    def unwrap(self) -> nn.Cell:
        """The user's network, trained, without the table: what to save and to release."""
        return self._wrapped().network

    def dataset(self, sampler: Any, data: Any, column_names: Optional[Sequence[str]] = None) -> SamplerDataset:
        """The sampler's data set over records and canaries; a canary that is out is masked wherever it is drawn.

        Args:
            sampler (Sampler): `PoissonSampler`, `BallsInBinsSampler` or `ShufflePartition`.
            data (Any): As for the sampler's `dataset`.
            column_names (Sequence[str], optional): As for the sampler's `dataset`.
        """
        records = CanaryRecords(records_of(data, column_names), self.count)
        return with_coins(sampler.dataset(records), self.is_in)

    def readings(self) -> Callback:
        """The callback that reads the table's noised gradient at each step; hand it to `DPModel.train`."""
        return _Reader(self)

    def audit(self, ledger: Ledger, delta: float = 1e-5, confidence: float = 0.95) -> AuditResult:
        """Test the ledger's claim by the readings.

        Args:
            ledger (Ledger): Of the model that was trained.
            delta (float): In (0, 1).
            confidence (float): In (0, 1).

        Raises:
            ValueError: No readings, or more steps than the ledger has.
        """
        if not self._values or len(self._values) > ledger.steps:
            raise ValueError(f"There must be readings of the steps that the ledger holds, but there are "
                             f"{len(self._values)} readings and {ledger.steps} steps. Pass callbacks="
                             f"[probe.readings()] to DPModel.train, and this model's ledger here.")
        claim = claim_of_ledger(ledger, delta)
        plan = AuditPlan.for_claim(self.count, claim.statement.epsilon, delta, confidence)
        readings = self.result()
        unread = ledger.steps - len(self._values)
        notes = (_SCOPE, *((f"{unread} of {ledger.steps} steps were not read",) if unread else ()))
        return audited(CanaryScores(readings.scores(), self.is_in, self._keys), claim, plan,
                       readings.checks(plan.alpha / 2), kind="gradient canaries", notes=notes)

    def result(self) -> Readings:
        """The readings so far."""
        sampling = self._sampling
        per_epoch = None if sampling.kind == POISSON else sampling.steps_per_epoch
        rate = sampling.batch_size / sampling.num_examples if per_epoch is None else 1 / per_epoch
        return Readings(np.stack(self._values), np.array(self._multipliers), self.is_in, rate, per_epoch)

    def _wrapped(self) -> _WithCanaries:
        if self._network is None:
            raise ValueError("There must be a network to audit. Call wrap(network, loss_fn) first.")
        return self._network

    def _table(self) -> Parameter:
        return self._wrapped().table.embedding_table

    def _note(self, value: np.ndarray, multiplier: float, sampling: Any) -> None:
        if self._sampling not in (None, sampling):
            raise ValueError(f"All steps that are read must have one sampling, but it went from {self._sampling} to "
                             f"{sampling}. Take new canaries for another data set.")
        self._sampling = sampling
        self._values.append(value)
        self._multipliers.append(multiplier)


class _Reader(Callback):
    """Reads the table's noised gradient after each step, in units of the bound that clipped it."""

    def __init__(self, probe: GradientCanaries) -> None:
        self._probe = probe
        self._observed: Optional[Parameter] = None
        self._bound = 0.0

    def on_train_begin(self, run_context: Any) -> None:
        step = run_context.original_args().train_network
        if step.plan.micro_batches is not None:
            raise ValueError(f"micro_batches must be None for gradient canaries, which measure single records, but is "
                             f"{step.plan.micro_batches}.")
        self._observed = step.observe(self._probe._table())

    def on_train_step_begin(self, run_context: Any) -> None:
        self._bound = float(run_context.original_args().train_network.norm_bound.asnumpy())

    def on_train_step_end(self, run_context: Any) -> None:
        step = run_context.original_args().train_network
        plan, rows = step.plan, step.rows
        unit = self._bound * _share(plan.rule, step, self._probe._table()) / plan.expected_units(rows) \
            * float(getattr(step.optimizer, "loss_scale", 1.0))
        event = plan.event(step.steps_made - 1, rows)
        self._probe._note(self._observed.asnumpy().reshape(-1)[1:].astype(np.float64) / unit,
                          event.noise_multiplier / _share(plan.rule, step, self._probe._table()), event.sampling)


def _share(rule: Any, step: nn.Cell, table: Parameter) -> float:
    """Share of the bound that the table's group has."""
    if not isinstance(rule, PerLayerClipping):
        return 1.0
    places = [parameter is table for parameter in step.network.trainable_params()]
    return rule.shares[rule.groups[places.index(True)]]
