"""Shared fixtures."""
import pytest


@pytest.fixture(params=["graph", "pynative"])
def mode(request):
    """Run a test in both of MindSpore's modes."""
    import mindspore as ms
    ms.set_context(mode=ms.GRAPH_MODE if request.param == "graph" else ms.PYNATIVE_MODE)
    yield request.param
    ms.set_context(mode=ms.PYNATIVE_MODE)
