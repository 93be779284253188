"""The pictures of docs/architecture.md are those of the code, and the tool tells floors and circles."""
import pytest

from tools import architecture


def test_the_page_shows_the_imports_of_the_code():
    assert architecture.main(["--check"]) == 0


def test_each_room_stands_above_what_it_imports():
    assert architecture.floors({"top": {"low", "middle"}, "middle": {"low"}, "low": set()}) == [
        ["low"], ["middle"], ["top"]]


def test_a_circle_is_named():
    with pytest.raises(ValueError, match=r"\['a', 'b'\] run in a circle"):
        architecture.floors({"a": {"b"}, "b": {"a"}, "c": set()})


def test_a_page_without_its_marks_is_refused():
    with pytest.raises(ValueError, match="must hold the line"):
        architecture.page("# Architecture\n")
