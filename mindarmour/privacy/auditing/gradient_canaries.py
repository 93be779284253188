"""White-box audit through the suite as it is: canaries whose gradient is one coordinate, clipped to the bound.

The claim is the ledger's, step by step: each reading remembers the run and the step that made it, and is compared with
what the ledger says of that step. Readings of one run are never scored against the ledger of another.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from mindspore import Parameter, nn
from mindspore.train import Callback

from mindarmour.privacy.accounting import Ledger, StepEvent
from mindarmour.privacy.accounting.events import POISSON
from mindarmour.privacy.auditing.claim import claim_of_ledger
from mindarmour.privacy.auditing.places import TABLE, InNetwork, InTable, Place, shares
from mindarmour.privacy.auditing.plan import AuditPlan
from mindarmour.privacy.auditing.readings import ParameterNoise, Readings
from mindarmour.privacy.auditing.result import AuditResult
from mindarmour.privacy.auditing.rows import CanaryRecords, with_coins
from mindarmour.privacy.auditing.scoring import CanaryScores, audited
from mindarmour.privacy.diff_privacy.grads.protocol import loss_reduction
from mindarmour.privacy.diff_privacy.sampling.batches import SamplerDataset
from mindarmour.privacy.diff_privacy.sampling.records import records_of
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream, derive_key

__all__ = ["TABLE", "GradientCanaries"]
_PLACES = {"table": InTable, "network": InNetwork}


@dataclass(frozen=True)
class _Reading:
    """What one step read: run and number of the step in it, canaries, and the rest of each Parameter."""

    run: str
    step: int
    canaries: np.ndarray
    rest: Optional[np.ndarray]


class GradientCanaries:
    """Canaries that each move one coordinate by exactly the bound.

    Sampler, mask, clipping, noise, divisor and ledger are those of the real run. In a table the canaries are rows
    beside the network: ordinary gradients never touch it, its noise never touches the network, and the run costs
    little more. In the network they are coordinates of every trainable Parameter: noise that is missing on one layer
    shows, but the engine cannot be 'ghost' and the records' gradient is computed twice.

    Args:
        count (int): Canaries, at least 10. They are records of the run: keep them a small share of the data.
        seed (int): Of the coins; 0 draws from operating-system entropy.
        coordinates (str): 'table' or 'network'.

    Guarantee:
        `audit` says 'contradicted' of a true claim with probability at most 1 - confidence. It tests what the
        observed coordinates show: those of the table alone, or those of every trainable Parameter.

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

    def __init__(self, count: int, seed: int = 0, coordinates: str = "table") -> None:
        self.count = _validate.integer("count", count, low=10)
        _validate.integer("seed", seed, low=0)
        self._place_of = _PLACES[_validate.choice("coordinates", coordinates, tuple(_PLACES))]
        self._stream = SecureStream(None if seed == 0 else derive_key("canaries", seed))
        self.is_in = self._stream.integers(2, count).astype(bool)
        self._keys = self._stream.permutation(count)
        self._place: Optional[Place] = None
        self._network: Optional[nn.Cell] = None
        self._shares: Optional[np.ndarray] = None
        self._readings: list[_Reading] = []

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
        self._place = self._place_of(network, loss_fn, self.count, self._stream)
        self._network = network
        return self._place.cell

    def unwrap(self) -> nn.Cell:
        """The user's network, trained, without the canaries: what to save and to release."""
        self._wrapped()
        return self._network

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
        """The callback that reads the noised gradient at each step; hand it to `DPModel.train`."""
        return _Reader(self)

    def audit(self, ledger: Ledger, delta: float = 1e-5, confidence: float = 0.95) -> AuditResult:
        """Test the ledger's claim by the readings.

        Args:
            ledger (Ledger): Of the model that was trained.
            delta (float): In (0, 1).
            confidence (float): In (0, 1).

        Raises:
            ValueError: No readings, or readings of a run or step that the ledger does not hold.
        """
        readings = self.result(ledger)
        claim = claim_of_ledger(ledger, delta)
        plan = AuditPlan.for_claim(self.count, claim.statement.epsilon, delta, confidence)
        unread = ledger.steps - len(self._readings)
        notes = (self._wrapped().scope, *((f"{unread} of {ledger.steps} steps were not read",) if unread else ()))
        return audited(CanaryScores(readings.scores(), self.is_in, self._keys), claim, plan,
                       readings.checks(plan.alpha / 2), kind=self._wrapped().kind, notes=notes)

    def result(self, ledger: Ledger) -> Readings:
        """The readings so far, beside what the ledger says of their steps.

        Args:
            ledger (Ledger): Of the model that was trained.
        """
        events = self._events(ledger)
        sampling = events[0].sampling
        if any(event.sampling != sampling for event in events):
            raise ValueError("All steps that were read must have one sampling, but the ledger has several for them. "
                             "Take new canaries for another data set.")
        per_epoch = None if sampling.kind == POISSON else sampling.steps_per_epoch
        rate = sampling.batch_size / sampling.num_examples if per_epoch is None else 1 / per_epoch
        share = self._shares[self._wrapped().owners()]
        return Readings(np.stack([reading.canaries for reading in self._readings]),
                        np.array([event.noise_multiplier for event in events]), self.is_in, rate, per_epoch, share,
                        self._parameters())

    def _parameters(self) -> Optional[ParameterNoise]:
        if self._readings[0].rest is None:
            return None
        return ParameterNoise(np.stack([reading.rest for reading in self._readings]), self._place.noise_only,
                              tuple(parameter.name for parameter in self._place.observed))

    def _events(self, ledger: Ledger) -> list[StepEvent]:
        """What the ledger says of each step that was read."""
        known: dict[str, list] = {}
        for segment in ledger.segments:
            known.setdefault(segment.run, []).extend(entry for entry in segment.entries for _ in range(entry.steps))
        if not self._readings or any(r.run not in known or r.step >= len(known[r.run]) for r in self._readings):
            raise ValueError(f"There must be readings, and of steps that the ledger holds, but there are "
                             f"{len(self._readings)} readings of the runs {sorted({r.run for r in self._readings})} "
                             f"and the ledger holds {({run: len(steps) for run, steps in known.items()})}. Pass "
                             f"callbacks=[probe.readings()] to DPModel.train, and this model's ledger here.")
        return [known[reading.run][reading.step].event for reading in self._readings]

    def _wrapped(self) -> Place:
        if self._place is None:
            raise ValueError("There must be a network to audit. Call wrap(network, loss_fn) first.")
        return self._place

    def _note(self, reading: _Reading, share: np.ndarray) -> None:
        if self._shares is not None and (self._shares != share).any():
            raise ValueError("The clipping rule must be the same in all steps that are read. Take new canaries.")
        self._shares = share
        self._readings.append(reading)


class _Reader(Callback):
    """Reads the noised gradients after each step, in units of the bound that clipped them."""

    def __init__(self, probe: GradientCanaries) -> None:
        self._probe = probe
        self._copies: tuple[Parameter, ...] = ()
        self._bound = 0.0

    def on_train_begin(self, run_context: Any) -> None:
        step = run_context.original_args().train_network
        if step.plan.micro_batches is not None:
            raise ValueError(f"micro_batches must be None for gradient canaries, which measure single records, but is "
                             f"{step.plan.micro_batches}.")
        self._copies = step.observe(*self._probe._wrapped().observed)

    def on_train_step_begin(self, run_context: Any) -> None:
        arguments = run_context.original_args()
        self._bound = float(arguments.train_network.norm_bound.asnumpy())
        self._probe._wrapped().prepare(arguments.train_network, tuple(arguments.train_dataset_element))

    def on_train_step_end(self, run_context: Any) -> None:
        step, place = run_context.original_args().train_network, self._probe._wrapped()
        unit = float(getattr(step.optimizer, "loss_scale", 1.0)) / step.plan.expected_units(step.rows)
        sums = [copy.asnumpy().reshape(-1).astype(np.float64) / unit for copy in self._copies]
        share = shares(step.plan.rule, step.network, place.observed)
        canaries, rest = place.read(sums, self._bound)
        run = step.ledger.segments[-1]
        self._probe._note(_Reading(run.run, run.steps - 1, canaries / share[place.owners()], rest), share)
