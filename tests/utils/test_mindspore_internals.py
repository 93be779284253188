"""One module knows MindSpore's private names."""
import re
from pathlib import Path

import mindspore as ms
import pytest
from mindspore import nn

from mindarmour.utils import mindspore_internals as internals

PACKAGE = Path(internals.__file__).resolve().parents[1]
PRIVATE = re.compile(r"_c_expression|from mindspore[\w.]* import .*\b_\w+|\bms\._\w+|mindspore\.[\w.]+\._\w+"
                     r"|\b(?:cell|network|copied|model|callback)\._(?:params|cells|append_dict)\b|ds\.engine\.")


@pytest.mark.parametrize("path", [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))])
def test_no_other_module_names_a_private_part(path):
    found = PRIVATE.findall((PACKAGE / path).read_text(encoding="utf-8"))
    assert bool(found) == (path == "utils/mindspore_internals.py"), found


def test_a_copied_cell_shares_parameters_and_has_tables_of_its_own():
    cell = nn.SequentialCell(nn.Dense(2, 2))
    copied = internals.copy_cell(cell)
    assert copied.trainable_params()[0] is cell.trainable_params()[0]
    del internals.own_cells(copied)["0"]
    assert list(internals.own_cells(cell)) == ["0"]
    inner = internals.copy_cell(cell[0])
    internals.own_parameters(inner).pop("weight")
    assert "weight" in internals.own_parameters(cell[0])


def test_waiting_for_operators_is_read_back():
    before = internals.waits_for_operators()
    try:
        for waits in (True, False):
            internals.wait_for_operators(waits)
            assert internals.waits_for_operators() is waits
    finally:
        internals.wait_for_operators(before)


def test_a_failed_gradient_is_forgotten():
    ms.set_context(mode=ms.PYNATIVE_MODE)

    def fails(x):
        raise ValueError("on purpose")

    with pytest.raises(ValueError):
        ms.grad(fails)(ms.Tensor(1.0))
    internals.forget_failed_gradient()
    assert float(ms.grad(lambda x: x * x)(ms.Tensor(3.0))) == 6.0
