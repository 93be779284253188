"""Shared fixtures."""
import sys

import pytest


def pytest_collection_finish():
    """Each operator to its end in PyNative mode: tests of a few rows take half the time without the hand-over
    between MindSpore's threads, which wait actively."""
    if "mindspore" in sys.modules:
        sys.modules["mindspore"].runtime.launch_blocking()


@pytest.fixture(autouse=True)
def mode_for_the_next_test():
    """A test that leaves another mode behind does not decide how the next one runs."""
    yield
    if "mindspore" in sys.modules:
        sys.modules["mindspore"].set_context(mode=sys.modules["mindspore"].PYNATIVE_MODE)


@pytest.fixture(params=["graph", "pynative"])
def mode(request):
    """Run a test in both of MindSpore's modes."""
    import mindspore as ms
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    return request.param
