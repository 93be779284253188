"""Both halves of a network, split behind a layer: by the network's own protocol, or by the name of a child cell.

A network that offers `get_layer_output(x, layer)` and `forward_from(feature, layer)` is asked directly, in graph
mode too. Any other Cell is split with hooks on the child of that name. Hooks exist under PyNative only, so these
halves run under PyNative whatever the mode is, and the mode is restored.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindarmour.utils import _validate as check


@contextmanager
def pynative_mode() -> Iterator[None]:
    """Run under PyNative, then return to the mode from before."""
    mode = ms.get_context("mode")
    if mode == ms.PYNATIVE_MODE:
        yield
        return
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        yield
    finally:
        ms.set_context(mode=mode)


def find_layer(network: nn.Cell, split_layer: str) -> nn.Cell:
    """The child cell of that name.

    Raises:
        ValueError: If there is none; the message lists the names there are.
    """
    names = {name: cell for name, cell in network.cells_and_names() if name}
    if split_layer not in names:
        raise ValueError(f"split_layer must be the name of a layer of {type(network).__name__}, one of "
                         f"{', '.join(names) or 'none, it has no layers'}, but got {split_layer!r}.")
    return names[split_layer]


class _ProtocolHead(nn.Cell):
    def __init__(self, network, split_layer):
        super().__init__(auto_prefix=False)
        self.network = network
        self.split_layer = split_layer

    def construct(self, images):
        return self.network.get_layer_output(images, self.split_layer)


class _ProtocolTail(nn.Cell):
    def __init__(self, network, split_layer):
        super().__init__(auto_prefix=False)
        self.network = network
        self.split_layer = split_layer

    def construct(self, feature, images):
        return self.network.forward_from(feature, self.split_layer)


class _Hooked:
    """Calls of a network with one child watched or overruled."""

    def __init__(self, network, split_layer):
        self._network = network
        self._name = split_layer
        self._layer = find_layer(network, split_layer)

    def _run(self, hook, images):
        handle = self._layer.register_forward_hook(hook)
        try:
            with pynative_mode():
                return self._network(images)
        finally:
            handle.remove()

    def _check_once(self, calls):
        if calls != 1:
            raise ValueError(f"split_layer '{self._name}' must be called once in a forward pass of "
                             f"{type(self._network).__name__}, but is called {calls} times: name another layer, or "
                             f"give the network the methods get_layer_output and forward_from.")


class _HookedHead(_Hooked):
    def __call__(self, images):
        seen = []

        def watch(cell, inputs, output):
            seen.append(output)

        self._run(watch, images)
        self._check_once(len(seen))
        return seen[0]


class _HookedTail(_Hooked):
    """The layers before the split are run on zeros and what they return is replaced."""

    def __call__(self, feature, images):
        calls = []

        def overrule(cell, inputs, output):
            calls.append(output)
            if output.shape != feature.shape:
                raise ValueError(f"the feature at split_layer '{self._name}' must have shape {output.shape}, but has "
                                 f"{feature.shape}.")
            return feature

        output = self._run(overrule, ops.zeros_like(images))
        self._check_once(len(calls))
        return output


def head_of(network: nn.Cell, split_layer: str) -> Callable[[Tensor], Tensor]:
    """Function from images to the output of the layer `split_layer`.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If the network does not have the layer.
    """
    check.instance("network", network, nn.Cell)
    check.instance("split_layer", split_layer, str)
    if hasattr(network, "get_layer_output"):
        return _ProtocolHead(network, split_layer)
    return _HookedHead(network, split_layer)


def tail_of(network: nn.Cell, split_layer: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Function from (feature, images) to the network's output, where only the feature decides.

    The images lend their shape to the layers before the split, which are not part of the tail.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If the network does not have the layer.
    """
    check.instance("network", network, nn.Cell)
    check.instance("split_layer", split_layer, str)
    if hasattr(network, "forward_from"):
        return _ProtocolTail(network, split_layer)
    return _HookedTail(network, split_layer)


def checked_output(half: Callable, network: nn.Cell, split_layer: str, *inputs: Tensor) -> Tensor:
    """Output of a half, once, with one clear error where the network's own protocol does not know the layer.

    Raises:
        ValueError: If the protocol fails or returns anything but a Tensor.
    """
    if isinstance(half, _Hooked):
        return half(*inputs)
    cause = None
    try:
        output = half(*inputs)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, NameError) as error:
        output, cause = None, error
    if not isinstance(output, Tensor):
        names = ", ".join(name for name, _ in network.cells_and_names() if name)
        raise ValueError(f"split_layer must be a layer that get_layer_output and forward_from of "
                         f"{type(network).__name__} know, but {split_layer!r} gave "
                         f"{'an error' if cause else type(output).__name__}. Its layers are {names}.") from cause
    return output
