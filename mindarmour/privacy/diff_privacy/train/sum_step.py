"""What every DP optimizer does with a clipped sum: check it, record it, add noise, divide, update."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional, Union

import mindspore as ms
from mindspore import Tensor, nn

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, FULL, ZERO_OUT
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseGaussianRandom
from mindarmour.privacy.diff_privacy.parallel.agreement import digest_of, require_agreement
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks, current_ranks
from mindarmour.privacy.diff_privacy.train.clipped_gradients import ClippedSum, ClippedTotal, Clipping
from mindarmour.privacy.diff_privacy.train.noised_update import SumUpdate, factor_of_batch
from mindarmour.privacy.diff_privacy.train.plan import event_of_sum
from mindarmour.privacy.diff_privacy.train.spending import Spending
from mindarmour.privacy.errors import LedgerMismatchError
from mindarmour.utils import LogUtil, _validate

LOGGER = LogUtil.get_instance()
TAG = "DPOptimizer"

Gradients = Union[ClippedSum, ClippedTotal, Sequence[Tensor]]


class SumStep:
    """Noise, division, update and record of one DP optimizer.

    Args:
        optimizer (Optimizer): Its `apply_noised` updates the parameters.
        mech (NoiseGaussianRandom): Multiplier by step, the bound C and the source of the noise.
        sampling (Sampling, optional): How batches are drawn; None claims no amplification.
        micro_batches (int, optional): Units of one rank, the divisor; None divides a sum by the units that a batch is
            expected to hold, and a batch clipped as one vector by 1.
        ledger (Ledger, optional): Where to record; None continues the ledger of the parameters.

    Guarantee:
        What is not a clipped sum is clipped here, as one vector; what is one gets noise for its own bound. The event
        is written from what is clipped and noised, before the device is asked to do it.
    """

    def __init__(self, optimizer: nn.Optimizer, mech: NoiseGaussianRandom, sampling: Optional[Sampling] = None,
                 micro_batches: Optional[int] = None, ledger: Optional[Ledger] = None) -> None:
        if mech.strategy is not None:
            raise ValueError("noise of a DP optimizer must be independent, but is correlated: its steps have no order "
                             "of records. Hand noise_mech to DPModel or PrivateLoop, with a plain optimizer.")
        self.mech = mech
        self.sampling = None if sampling is None else _validate.instance("sampling", sampling, Sampling)
        self._micro_batches = micro_batches
        self._optimizer = optimizer
        self._parameters = list(optimizer.parameters)
        self._shapes = [tuple(parameter.shape) for parameter in self._parameters]
        self._spending = Spending(self._parameters)
        if ledger is not None:
            self._record_in(_validate.instance("ledger", ledger, Ledger))
        self._made = 0
        self._updates: dict = {}
        self._homes: Optional[list[int]] = None

    @property
    def ledger(self) -> Ledger:
        """Ledger of the executed steps, and of what was spent on the parameters before."""
        return self._spending.ledger

    def _record_in(self, ledger: Ledger) -> None:
        before = {segment.run for segment in self._spending.ledger.segments}
        if not before <= {segment.run for segment in ledger.segments}:
            raise LedgerMismatchError("ledger must hold what was spent on the parameters before, but they were trained "
                                      "under another ledger. Leave ledger out to continue theirs.")
        self._spending.continue_from(ledger, None)

    def __call__(self, gradients: Gradients) -> object:
        """Update with noised gradients and record it; returns what the base optimizer returns."""
        ranks = current_ranks()
        total, clipping = self._taken(gradients, ranks)
        self._spending.refresh()
        multiplier, ledger = self.mech.multiplier_at(self._made), self.ledger
        event = self._event(clipping, multiplier)
        divisor = self._divisor(clipping, ranks)
        normals = ranks.normals(self.mech.source, ledger.steps, self._shapes)
        update = self._update(clipping is None, ranks)
        factor = factor_of_batch(total, self.mech.norm_bound) if clipping is None else 1.0
        ledger.record(event)
        self._made += 1
        bound = self.mech.norm_bound
        success = update(ms.mutable(tuple(total)), ms.mutable(tuple(map(Tensor, normals))),
                         Tensor(factor, ms.float32), Tensor(bound * multiplier * ranks.noise_share, ms.float32),
                         Tensor(divisor, ms.float32))
        if hasattr(self.mech, "advance_to"):
            self.mech.advance_to(self._made)
        return success

    def _taken(self, gradients: Gradients, ranks: Ranks) -> tuple[Sequence[Tensor], Optional[Clipping]]:
        """(one gradient for each parameter, how they were clipped; None if they were not)."""
        total = gradients.total if isinstance(gradients, ClippedSum) else gradients
        if isinstance(total, ClippedTotal):
            self._check(total.clipping)
            places = {id(parameter): i for i, parameter in enumerate(total.clipping.parameters)}
            return [total[places[id(parameter)]] for parameter in self._parameters], total.clipping
        _validate.instance("gradients", total, (tuple, list), "tuple or ClippedSum")
        shapes = [tuple(getattr(gradient, "shape", ())) for gradient in total]
        if shapes != self._shapes:
            raise ValueError(f"gradients must have the shapes of the parameters, {self._shapes}, but have {shapes}.")
        # what is not equal on all ranks would make their weights drift apart, by the gradients without their noise
        if ranks.world > 1:
            require_agreement(ranks, {f"gradient of '{parameter.name}'": digest_of(gradient.asnumpy())
                                      for parameter, gradient in zip(self._parameters, total)})
        if not self._made:
            LOGGER.warn(TAG, "The gradients do not come from clipped_gradient_fn: they are clipped here, as one vector "
                             "of norm %g, and recorded with twice that sensitivity.", self.mech.norm_bound)
        return total, None

    def _check(self, clipping: Clipping) -> None:
        """Raise where the sum contradicts what this optimizer was told."""
        if clipping.norm_bound != self.mech.norm_bound:
            raise ValueError(f"norm_bound of the optimizer and of the clipped sum must agree, but are "
                             f"{self.mech.norm_bound} and {clipping.norm_bound}.")
        known = {id(parameter) for parameter in clipping.parameters}
        foreign = [parameter.name for parameter in self._parameters if id(parameter) not in known]
        if foreign:
            raise ValueError(f"The clipped sum must hold gradients of all parameters of the optimizer, but "
                             f"{foreign[0]!r} is none of the network's trainable parameters.")

    def _event(self, clipping: Optional[Clipping], multiplier: float) -> StepEvent:
        if clipping is None:
            sampling = self.sampling or Sampling(FULL, 1, 1, ZERO_OUT)
            return StepEvent(sampling, multiplier, examples_per_unit=None, noise_source=self.mech.source.kind,
                             note="each batch was clipped as one vector")
        records = clipping.units * clipping.unit.examples
        sampling = self.sampling or Sampling(FULL, records, records, ZERO_OUT, views=clipping.unit.views)
        if clipping.unit.examples > 1 and sampling.relation == ADD_OR_REMOVE:
            # only a sampler's own data set is known to leave a hole where a record is missing, see `Plan`; elsewhere
            # the others could move into other micro-batches
            sampling = replace(sampling, relation=ZERO_OUT)
        return event_of_sum(sampling, multiplier, clipping.unit, self.mech.source.kind)

    def _divisor(self, clipping: Optional[Clipping], ranks: Ranks) -> float:
        """Public: the units that a batch is expected to hold."""
        expected = None
        if clipping is not None:
            exact = self.sampling is not None or not clipping.padded
            expected = clipping.units if self.sampling is None else self.sampling.batch_size / clipping.unit.examples
        if self._micro_batches is None:
            return 1.0 if expected is None else expected
        told = self._micro_batches * ranks.world
        if expected is not None and (told > expected or (exact and told != expected)):
            raise ValueError(f"micro_batches of the optimizer must be the units that are summed on a rank, "
                             f"{expected / ranks.world:g}{'' if exact else ' or fewer'}, but is "
                             f"{self._micro_batches}.")
        return told

    def _update(self, clips: bool, ranks: Ranks) -> SumUpdate:
        """The compiled update; compiled anew where a parameter's memory was replaced, which PyNative mode ignores."""
        homes = [parameter.data_ptr() for parameter in self._optimizer.get_parameters()] \
            if ms.get_context("mode") == ms.PYNATIVE_MODE else None
        if homes != self._homes:
            self._updates, self._homes = {}, homes
        if clips not in self._updates:
            self._updates[clips] = SumUpdate(self._optimizer, clips, ranks.rank_sum(self._shapes))
        return self._updates[clips]
