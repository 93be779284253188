"""Files appear whole or stay as they were."""
import pytest

from mindarmour.utils.files import replacing


def test_the_new_content_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "new" / "file.json"
    for text in ("first", "second"):
        with replacing(str(path)) as temporary:
            assert temporary.parent == path.parent and temporary.suffix == ".json"
            temporary.write_text(text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_the_old_file_stands_and_nothing_is_left_over(tmp_path, stop):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(stop), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise stop
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "file.txt"):
        pass
