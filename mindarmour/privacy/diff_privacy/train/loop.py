"""A custom training loop with one object: plan, step and ledger."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Optional

from mindspore import Tensor, nn
from mindspore.dataset import Dataset

from mindarmour.privacy.accounting import Ledger, PrivacySpent, privacy_spent
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseGaussianRandom
from mindarmour.privacy.diff_privacy.sampling.batches import MASK_COLUMN
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of, continue_draws, order_of
from mindarmour.privacy.diff_privacy.sampling.fingerprint import fingerprint
from mindarmour.privacy.diff_privacy.train.checkpoint import restored
from mindarmour.privacy.diff_privacy.train.plan import Plan, plan_of
from mindarmour.privacy.diff_privacy.train.step import TrainStep, train_step_of


def bind_to(step: TrainStep, plan: Plan, dataset: Dataset) -> None:
    """Train on this data set from now on: its claim, its mask, its fingerprint in the ledger."""
    names = dataset.get_col_names()
    sampling = claim_of(dataset, plan.ranks)
    mask_position = names.index(MASK_COLUMN) if MASK_COLUMN in names else None
    data = fingerprint(dataset)
    step.bind(replace(plan, sampling=sampling), mask_position, data, order_of(dataset))
    step.ledger.spend_on(data)
    continue_draws(dataset, step.ledger.steps)


class PrivateLoop:
    """The one way to write a training loop of one's own: clip, add noise, divide, update, each step recorded.

    Args:
        network (Cell): The network.
        loss_fn (Cell, optional): Called as loss_fn(network(*inputs), label); None if the network returns the loss.
        optimizer (Optimizer): A MindSpore optimizer over the network's parameters, or a DP optimizer, which then
            brings the noise.
        norm_bound (float): Clipping bound C, > 0; with `clip_mech` the bound of the first step.
        noise_mech (NoiseGaussianRandom, optional): From `NoiseMechanismsFactory`; None with a DP optimizer.
        **arguments: `micro_batches`, `clip_mech`, `engine`, `physical_batch_size`, `clipping`, `noise_placement`, as of
            `DPModel`; `micro_batches` is None unless given.

    Raises:
        TypeError, ValueError, UnsupportedLayerError: As `DPModel`.

    Guarantee:
        That of `DPModel`, whose step it takes. A batch has the claim of its data set if it comes out of `batches` and
        is trained once and unchanged; any other batch is recorded as a step in which every record may have taken
        part. Transform rows in the data set, before the sampler.

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.diff_privacy import NoiseGaussianRandom, PoissonSampler, PrivateLoop
        >>> network = nn.Dense(4, 2)
        >>> loop = PrivateLoop(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction='mean'),
        ...                    nn.SGD(network.trainable_params(), 0.1), 1.0, NoiseGaussianRandom(1.0, 2.0))
        >>> dataset = PoissonSampler(16).dataset((np.ones((64, 4), np.float32), np.zeros(64, np.int32)))
        >>> for _ in range(2):
        ...     for batch in loop.batches(dataset):
        ...         loss = loop.step(*batch)
        >>> loop.ledger.steps, round(loop.spent(1e-5).epsilon, 2)
        (8, 2.08)
    """

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], optimizer: nn.Optimizer, norm_bound: float = 1.0,
                 noise_mech: Optional[NoiseGaussianRandom] = None, **arguments: Any) -> None:
        self._plan = plan_of(network, optimizer, norm_bound, noise_mech, **arguments)
        self._step = train_step_of(network, loss_fn, optimizer, self._plan)

    @property
    def train_network(self) -> TrainStep:
        """The step as a Cell: what `mindspore.save_checkpoint` saves with its ledger."""
        return self._step

    @property
    def plan(self) -> Plan:
        """What is done at each step."""
        return self._step.plan

    @property
    def ledger(self) -> Ledger:
        """What was spent on the network's parameters."""
        return self._step.ledger

    def batches(self, dataset: Dataset) -> Iterator[tuple[Tensor, ...]]:
        """One epoch of a data set; hand each batch to `step` before the next is drawn.

        Raises:
            ValueError: The data set could put copies of one record into one batch.
            LedgerMismatchError: The ledger holds steps on other data.
        """
        bind_to(self._step, self._plan, dataset)
        self.ledger.start_epoch()
        for columns in dataset.create_tuple_iterator(num_epochs=1):
            self._step.admit(columns)
            yield tuple(columns)

    def step(self, *columns: Tensor) -> Tensor:
        """Train one batch, mask column included, and return its mean loss, which is private as it stands."""
        return self._step(*columns)

    def spent(self, delta: float, accountant: str = "rdp") -> PrivacySpent:
        """Privacy spent so far at `delta`; see `privacy_spent`."""
        return privacy_spent(self.ledger.entries, delta, accountant)

    def restore(self, checkpoint: Any, acknowledge: Optional[str] = None) -> None:
        """Continue a run from a checkpoint of `train_network`; see `DPModel.restore`."""
        restored(self._step, checkpoint, acknowledge)
