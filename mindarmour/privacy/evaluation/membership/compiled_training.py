"""A training recipe for shadow models that compiles its step once and reads its batches from memory."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindarmour.privacy.evaluation.forward import single_precision
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.utils import _validate
from mindarmour.utils.parameters import assign, values_of


class CompiledTraining:
    """Trains one network after another with one compiled step: `train_fn` of `ShadowModels`, and of the audited model.

    `Model.train` compiles every new network and feeds it through a data pipeline, which takes longer than training
    where networks are small. Here the first call compiles; each later one draws new initial values, puts them into
    the compiled step (network and optimizer alike), trains, and takes the weights out. What a call returns depends
    on its arguments alone, not on the calls before it, except in cells that keep a state outside Parameters, such as
    the random stream of dropout.

    Args:
        new_network (Callable): () -> Cell with new initial values, drawn after `mindspore.set_seed(seed)`. Always of
            the same structure, since the first one is compiled.
        new_optimizer (Callable): Function from the list of trainable Parameters to an optimizer.
        loss_fn (Cell): Loss of (outputs, labels).
        epochs (int): Passes over the records.
        batch_size (int): Records per step; each epoch is shuffled anew and leaves out what fills no batch.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is below 1.

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.evaluation import CompiledTraining
        >>> loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
        >>> train = CompiledTraining(lambda: nn.Dense(5, 2), lambda weights: nn.Adam(weights, 0.1), loss,
        ...                          epochs=2, batch_size=10)
        >>> inputs, labels = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
        >>> first, _, again = (train(inputs, labels, seed) for seed in (1, 2, 1))
        >>> bool((first.weight.asnumpy() == again.weight.asnumpy()).all())
        True
    """

    def __init__(self, new_network: Callable[[], nn.Cell], new_optimizer: Callable[[list], nn.Optimizer],
                 loss_fn: nn.Cell, *, epochs: int, batch_size: int) -> None:
        for name, function in (("new_network", new_network), ("new_optimizer", new_optimizer)):
            if not callable(function) or isinstance(function, nn.Cell):
                raise TypeError(f"{name} must be a function that makes a new one each time, but got "
                                f"{type(function).__name__}.")
        self._new_network, self._new_optimizer = new_network, new_optimizer
        self._loss_fn = _validate.instance("loss_fn", loss_fn, nn.Cell)
        self._epochs = _validate.integer("epochs", epochs, low=1)
        self._batch_size = _validate.integer("batch_size", batch_size, low=1)
        self._step: Optional[nn.TrainOneStepCell] = None
        self._parts: tuple = ()

    def __call__(self, inputs: np.ndarray, labels: np.ndarray, seed: int) -> nn.Cell:
        """Train one network.

        Args:
            inputs (numpy.ndarray): Records [n, ...].
            labels (numpy.ndarray): Class numbers [n].
            seed (int): Of the initial values and of the batches.

        Returns:
            Cell: a new network with the trained weights, in evaluation state.

        Raises:
            ValueError: If there are fewer records than one batch takes, or the new network is built differently
                from the first one.
        """
        inputs, labels = read_records("inputs, labels", (inputs, labels))
        inputs, labels = single_precision(inputs), labels.astype(np.int32)
        if len(labels) < self._batch_size:
            raise ValueError(f"batch_size must be at most the number of records, but is {self._batch_size} for "
                             f"{len(labels)} records.")
        ms.set_seed(seed)
        network = self._new_network()
        parts = network, self._new_optimizer(network.trainable_params())
        step = self._prepared(*parts)
        for batch in _shuffled_batches(len(labels), self._batch_size, self._epochs, seed):
            step(Tensor(inputs[batch]), Tensor(labels[batch]))
        _copy_values(self._parts[0], network)
        return network.set_train(False)

    def _prepared(self, network: nn.Cell, optimizer: nn.Optimizer) -> nn.TrainOneStepCell:
        """The compiled step, with the initial values of a network and its optimizer."""
        if self._step is None:
            # built apart, so that what a call returns shares no Parameter with the compiled step
            own = self._new_network()
            self._parts = own, self._new_optimizer(own.trainable_params())
            self._step = nn.TrainOneStepCell(nn.WithLossCell(own, self._loss_fn), self._parts[1]).set_train()
        for source, target in zip((network, optimizer), self._parts):
            _copy_values(source, target)
        return self._step


def _shuffled_batches(count: int, batch_size: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Positions of the records of each step, every epoch in an order of its own."""
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(count)
        for start in range(0, count - batch_size + 1, batch_size):
            yield order[start:start + batch_size]


def _copy_values(source: nn.Cell, target: nn.Cell) -> None:
    """Give every Parameter of `target` the value of its counterpart, in order.

    Raises:
        ValueError: If the two are built differently.
    """
    pairs = [list(cell.get_parameters()) for cell in (source, target)]
    shapes = [[(parameter.shape, parameter.dtype) for parameter in cell] for cell in pairs]
    if shapes[0] != shapes[1]:
        raise ValueError(f"new_network and new_optimizer must build the same Parameters each time, but the first call "
                         f"gave {_described(pairs[1])} and this one {_described(pairs[0])}.")
    for old, new in zip(*pairs):
        assign(new, values_of(old))


def _described(parameters: list[Parameter]) -> str:
    return ", ".join(f"{parameter.name} {tuple(parameter.shape)}" for parameter in parameters[:6]) or "none"
