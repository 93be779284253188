"""What a model tells about its engine."""
import mindspore as ms
import pytest
from small_models import model_of
from small_networks import batch_for, dense

ROWS = 8


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("part", [None, 4])
@pytest.mark.parametrize("engine", ["ghost", "vmap", "loop"])
def test_the_engine_and_the_rule_of_each_parameter(engine, part):
    network = dense()
    model = model_of(network, engine=engine, physical_batch_size=part)
    assert model.engine is None
    model.train_network(*batch_for("dense", ROWS))
    assert model.engine.engine == engine and model.engine.reason == model.train_network.engine_reason
    assert model.engine.in_parts == (part is not None and engine != "loop")
    assert list(model.engine.rules) == [parameter.name for parameter in network.trainable_params()]
    assert (set(model.engine.rules.values()) == {"the gradient of each row"}) == (engine != "ghost")
    assert all(name in str(model.engine) for name in (engine, *model.engine.rules))
