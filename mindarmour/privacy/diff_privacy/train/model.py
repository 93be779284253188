"""DPModel: `mindspore.train.Model` that trains with differential privacy."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Optional

import mindspore as ms
from mindspore import amp, nn
from mindspore.dataset import Dataset
from mindspore.train import Model

from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.accounting.events import SHUFFLE
from mindarmour.privacy.accounting.strategies import Strategy
from mindarmour.privacy.diff_privacy.clipping.adaptive import AdaClippingWithGaussianRandom
from mindarmour.privacy.diff_privacy.grads.report import EngineReport
from mindarmour.privacy.diff_privacy.noise.correlated import NoiseCorrelatedRandom
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseGaussianRandom
from mindarmour.privacy.diff_privacy.parallel.agreement import parameter_facts, plan_facts, require_agreement
from mindarmour.privacy.diff_privacy.parallel.ranks import EVERY_RANK, current_ranks, is_main_rank, outlive_sigterm
from mindarmour.privacy.diff_privacy.parallel.sums import broadcast_parameters
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.diff_privacy.sampling.evaluation import for_metrics
from mindarmour.privacy.diff_privacy.sampling.fingerprint import fingerprint
from mindarmour.privacy.diff_privacy.sampling.labels import check_labels
from mindarmour.privacy.diff_privacy.train.budget import multiplier_for_budget
from mindarmour.privacy.diff_privacy.train.checkpoint import LedgerCallback, restored
from mindarmour.privacy.diff_privacy.train.loop import bind_to
from mindarmour.privacy.diff_privacy.train.loss_scale import fixed_loss_scale
from mindarmour.privacy.diff_privacy.train.plan import Rule, plan_of
from mindarmour.privacy.diff_privacy.train.step import TrainStep, train_step_of
from mindarmour.utils import LogUtil, _validate

LOGGER = LogUtil.get_instance()
TAG = "DPModel"


class DPModel(Model):
    """A `mindspore.train.Model` whose training clips each unit's gradient and adds Gaussian noise to the sum.

    Args:
        micro_batches (int, optional): Units per batch (of one rank); must divide its size. None means one unit per
            example, the strongest guarantee. A unit of several examples has sensitivity 2C, which the accountant
            counts.
        norm_bound (float): Clipping bound C, > 0; with `clip_mech` the bound of the first step.
        noise_mech (Cell): From `NoiseMechanismsFactory`. Exactly one of `noise_mech` and a DP optimizer is given.
        clip_mech (Cell): From `ClipMechanismsFactory`: adapts the bound. Not with a decaying `noise_mech`.
        optimizer (Optimizer): A MindSpore optimizer over the network's parameters, or an instance of a class from
            `DPOptimizerClassFactory`.
        engine (str): How per-unit gradients are computed: 'auto', 'ghost', 'vmap' or 'loop'.
        physical_batch_size (int, optional): Rows computed at once. Larger batches are clipped and summed in parts, and
            noise is added once: memory follows the part, the guarantee is that of the batch.
        clipping (Cell, optional): `PerLayerClipping` or `AutomaticClipping`; None clips each unit's whole gradient.
        noise_placement (str): Under data parallelism, 'every_rank' (each rank adds its share before the sum), 'rank0'
            (rank 0 adds all of it) or 'slices' (each rank adds that of its part); see `parallel.Ranks`.
        **kwargs: Arguments of `Model`: network, loss_fn, metrics, eval_network, eval_indexes, amp_level ('O0' or
            'O2'), loss_scale_manager, keep_batchnorm_fp32.

    Raises:
        TypeError: `norm_bound` is not a float, or a mechanism is not of its documented type.
        ValueError: An argument out of range, mechanisms that exclude or contradict each other, an unsupported
            `amp_level` or `boost_level`.
        UnsupportedLayerError: The network computes batch statistics (see `replace_batch_norm`).

    Guarantee:
        One step releases the clipped sum of the units plus Gaussian noise of standard deviation multiplier * C for
        the bound C that clipped that step. Sensitivity: C for units of one example, 2C for larger ones (zero-out;
        with `PoissonSampler` and `BallsInBinsSampler` also add-or-remove; with `FixedSizeSampler` 2C under
        replace-one). `train_network.ledger` records what ran; monitors turn it into epsilon. Void for metrics that
        were computed on training data and published, for hyper-parameters tuned on the same data, and for seeded
        noise against whoever knows the seed.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    References:
        Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1. Ponomareva et al. 2023, "How to
        DP-fy ML", section 5.6 (micro-batches double the sensitivity).

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory
        >>> network = nn.Dense(4, 2)
        >>> noise_mech = NoiseMechanismsFactory.create('Gaussian', norm_bound=1.0, initial_noise_multiplier=1.5)
        >>> model = DPModel(micro_batches=None, norm_bound=1.0, noise_mech=noise_mech, network=network,
        ...                 loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction='mean'),
        ...                 optimizer=nn.Momentum(network.trainable_params(), 0.1, 0.9))
    """

    def __init__(self, micro_batches: Optional[int] = 2, norm_bound: float = 1.0,
                 noise_mech: Optional[NoiseGaussianRandom] = None,
                 clip_mech: Optional[AdaClippingWithGaussianRandom] = None, optimizer: nn.Optimizer = nn.Momentum,
                 engine: str = "auto", physical_batch_size: Optional[int] = None, clipping: Optional[Rule] = None,
                 noise_placement: str = EVERY_RANK, **kwargs: Any) -> None:
        _check_model_arguments(kwargs)
        self._plan = plan_of(kwargs.get("network"), optimizer, norm_bound, noise_mech, micro_batches=micro_batches,
                             clip_mech=clip_mech, engine=engine, physical_batch_size=physical_batch_size,
                             clipping=clipping, noise_placement=noise_placement)
        super().__init__(optimizer=optimizer, **kwargs)

    @classmethod
    def for_budget(cls, epsilon: float, delta: float, epochs: int, dataset: Dataset, norm_bound: float = 1.0,
                   accountant: str = "rdp", seed: int = 0, strategy: Optional[Strategy] = None,
                   **arguments: Any) -> DPModel:
        """A model whose noise makes `epochs` epochs on `dataset` cost at most `epsilon` at `delta`.

        Args:
            epsilon (float): Budget, above 0.
            delta (float): In (0, 1); advised: below one over the number of examples.
            epochs (int): Epochs that will be trained, at least 1. More would pass the budget: to stop before that,
                train with a monitor and `stop_at_budget=True`.
            dataset (Dataset): The data set that `train` will get; its sampler decides what a step costs.
            norm_bound (float): Clipping bound C, > 0.
            accountant (str): 'rdp', 'zcdp' or 'pld' (less noise for the same epsilon, some seconds slower).
            seed (int): Of the noise; see `NoiseMechanismsFactory.create`.
            strategy (Strategy, optional): Of correlated noise; None for independent noise. See `recommended_strategy`.
            **arguments: Further arguments of DPModel but `noise_mech`; `micro_batches` is None unless given.

        Raises:
            ValueError: No noise keeps the budget.

        Examples:
            >>> import numpy as np
            >>> from mindspore import nn
            >>> from mindarmour.privacy.diff_privacy import DPModel, PoissonSampler
            >>> data = np.zeros((1000, 4), np.float32), np.zeros(1000, np.int32)
            >>> dataset, network = PoissonSampler(batch_size=100).dataset(data), nn.Dense(4, 2)
            >>> model = DPModel.for_budget(epsilon=3.0, delta=1e-4, epochs=5, dataset=dataset, network=network,
            ...                            loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction='mean'),
            ...                            optimizer=nn.SGD(network.trainable_params(), 0.1))
        """
        _validate.real("norm_bound", norm_bound, low=0, strict_float=True)
        if arguments.get("noise_mech") is not None:
            raise ValueError("noise_mech must be left out: its multiplier follows from the budget.")
        arguments = {"micro_batches": None, **arguments}
        planned = {name: value for name, value in arguments.items() if name in _PLANNED}
        unknown_noise = _noise(norm_bound, 1.0, seed, strategy)
        plan = plan_of(arguments.get("network"), arguments.get("optimizer"), norm_bound, unknown_noise, **planned)
        plan = replace(plan, sampling=claim_of(dataset, plan.ranks))
        multiplier = multiplier_for_budget(epsilon, delta, epochs, dataset, plan, accountant)
        return cls(norm_bound=norm_bound, noise_mech=_noise(norm_bound, multiplier, seed, strategy), **arguments)

    @property
    def ledger(self) -> Ledger:
        """What was spent on the network's parameters so far, whoever trained them."""
        return self.train_network.ledger

    @property
    def engine(self) -> Optional[EngineReport]:
        """Which engine runs, why, and by which rule for each Parameter; None before the first step."""
        return self.train_network.engine_report

    def _build_train_network(self) -> TrainStep:
        network = _validate.instance("network", self._network, nn.Cell)
        scale = fixed_loss_scale(self._loss_scale_manager)
        # Model would ask the step for an overflow flag; the step drops single units instead
        self._loss_scale_manager = None
        if self._amp_level == "O2":
            network = amp.auto_mixed_precision(network, "O2")
        return train_step_of(network, self._loss_fn, self._optimizer, self._plan, scale)

    def train(self, epoch: int, train_dataset: Dataset, callbacks: Any = None, dataset_sink_mode: bool = False,
              sink_size: int = -1, initial_epoch: int = 0) -> None:
        """Train as `Model.train` does; `train_dataset` may have more than two columns and a mask `is_real`.

        Raises:
            ValueError: `dataset_sink_mode` is True (noise is drawn on the host at every step), or the data set
                could put copies of one record into one batch.
        """
        with self._training_on(train_dataset, dataset_sink_mode, epoch):
            super().train(epoch, train_dataset, _with_ledger(callbacks), False, sink_size, initial_epoch)

    def fit(self, epoch: int, train_dataset: Dataset, valid_dataset: Optional[Dataset] = None,
            valid_frequency: int = 1, callbacks: Any = None, dataset_sink_mode: bool = False,
            valid_dataset_sink_mode: bool = False, sink_size: int = -1, initial_epoch: int = 0) -> None:
        """Train and evaluate as `Model.fit` does; see `train` and `eval`."""
        valid_dataset = None if valid_dataset is None else for_metrics(valid_dataset)
        with self._training_on(train_dataset, dataset_sink_mode, epoch):
            super().fit(epoch, train_dataset, valid_dataset, valid_frequency, _with_ledger(callbacks), False,
                        valid_dataset_sink_mode, sink_size, initial_epoch)

    def eval(self, valid_dataset: Dataset, callbacks: Any = None, dataset_sink_mode: bool = False) -> dict:
        """Metrics as `Model.eval` computes them; of a sampler's data set each record counts once, and no hole does.

        Guarantee:
            None: metrics of training data that are published are no part of the guarantee.
        """
        return super().eval(for_metrics(valid_dataset), callbacks, dataset_sink_mode)

    def restore(self, checkpoint: Any, acknowledge: Optional[str] = None) -> None:
        """Continue a run from a checkpoint that `ModelCheckpoint` wrote while a DPModel trained.

        Loads weights, optimizer state, bound and ledger; what was spent stays spent, and seeded noise goes on where
        it stopped. Follow with `train(..., initial_epoch=...)` as with a plain Model.

        Args:
            checkpoint (str, dict): Path, or what `mindspore.load_checkpoint` returned.
            acknowledge (str, optional): Without a ledger in the checkpoint epsilon is infinite, because nothing is
                known of how its weights came to be. A statement given here, for example 'pretrained on public
                data', is written into the ledger and vouches for them; it also allows training on other data than
                the ledger's.

        Raises:
            LedgerMismatchError: The checkpoint's ledger was cut short or edited.
            ValueError: The checkpoint lacks parameters of the network.
        """
        restored(self.train_network, checkpoint, acknowledge)

    @contextlib.contextmanager
    def _training_on(self, dataset: Dataset, dataset_sink_mode: bool, epochs: int) -> Iterator[None]:
        if dataset_sink_mode:
            raise ValueError("dataset_sink_mode must be False: noise is drawn on the host at every step, and sink "
                             "mode would run an epoch without it.")
        check_labels(dataset, self._loss_fn)
        bind_to(self.train_network, self._plan, dataset)
        self._agree_on_start(dataset, epochs)
        if self.train_network.plan.sampling.kind == SHUFFLE and is_main_rank():
            LOGGER.info(TAG, "The data set is a partition (shuffle and batch): no amplification by sampling. "
                             "PoissonSampler gives much smaller epsilons.")
        loss_fn = self._loss_fn
        if len(dataset.get_col_names()) != 2:
            self._loss_fn = None  # Model insists on two columns when it knows of a loss
        try:
            with outlive_sigterm(self._plan.ranks):
                yield
        finally:
            self._loss_fn = loss_fn
        require_agreement(self._plan.ranks, parameter_facts(self.train_network.get_parameters()))

    def _agree_on_start(self, dataset: Dataset, epochs: int) -> None:
        """Refuse ranks that would train differently, before the first step."""
        ranks, step = self._plan.ranks, self.train_network
        if ranks.world == 1:
            return
        if current_ranks(ranks.noise_placement) != ranks:
            raise ValueError(f"The parallel mode must be set before the DPModel is made, but the model was made for "
                             f"{ranks} and now runs on {current_ranks(ranks.noise_placement)}.")
        if ms.get_auto_parallel_context("parameter_broadcast"):
            broadcast_parameters(ranks, step.get_parameters())
        ledger = step.ledger
        require_agreement(ranks, {
            **plan_facts(step.plan), "number of epochs": epochs, "steps per epoch": dataset.get_dataset_size(),
            "data set": fingerprint(dataset, key=b"ranks"), "number of steps trained": ledger.steps,
            "ledger": ledger.entries, **parameter_facts(step.get_parameters())})


def _noise(norm_bound: float, multiplier: float, seed: int, strategy: Optional[Strategy]) -> NoiseGaussianRandom:
    if strategy is None:
        return NoiseGaussianRandom(norm_bound, multiplier, seed)
    return NoiseCorrelatedRandom(norm_bound, multiplier, seed, strategy)


def _with_ledger(callbacks: Any) -> list:
    if not isinstance(callbacks, (list, tuple)):
        callbacks = [] if callbacks is None else [callbacks]
    return [LedgerCallback(), *callbacks]


# Arguments of DPModel that decide what a step costs, beside bound, noise and optimizer.
_PLANNED = ("micro_batches", "clip_mech", "engine", "physical_batch_size", "clipping", "noise_placement")


def _check_model_arguments(kwargs: dict) -> None:
    if kwargs.get("amp_level", "O0") not in ("O0", "O2"):
        raise ValueError(f"amp_level must be 'O0' or 'O2', but got {kwargs['amp_level']!r}.")
    if kwargs.get("boost_level", "O0") != "O0":
        raise ValueError(f"boost_level must be 'O0': boosting changes the gradients after clipping, but got "
                         f"{kwargs['boost_level']!r}.")
