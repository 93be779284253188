"""`mindarmour convert`: what is read comes back, the claim gained is said, and refusals are one line."""
import json

import mindspore.dataset as ds
import numpy as np
import pytest
from PIL import Image

from mindarmour import cli
from mindarmour.privacy.diff_privacy import PoissonSampler
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of

GENERATOR = """
import numpy as np

def examples():
    for number in range(30):
        yield np.full(2, number, np.float32), np.asarray(number, np.int32)

def arrays():
    return {"image": np.arange(30, dtype=np.float32)[:, None], "label": np.arange(30, dtype=np.int32)}

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys, *arguments):
    try:
        status = cli.main(["convert", *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def labels_of(path, name="label"):
    rows = ds.MindDataset(str(path), [name], shuffle=False).create_dict_iterator(num_epochs=1, output_numpy=True)
    return [int(row[name].ravel()[0]) for row in rows]


def csv(folder, name="rows.csv", start=0):
    lines = ["x,label", *(f"{number / 2},{number}" for number in range(start, start + 30))]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def test_csv_files_become_records_and_the_claim_gained_is_said(here, capsys):
    parts = [csv(here), csv(here, "more.csv", start=30)]
    status, out, _ = call(capsys, *parts, "a.mindrecord", "--types", "float", "int")
    assert status == 0 and sorted(labels_of("a.mindrecord")) == list(range(60))
    assert "60 records" in out and "shuffle (zero-out)" in out and "poisson (add-or-remove)" in out
    claim = claim_of(PoissonSampler(5).dataset(ds.MindDataset("a.mindrecord")))
    assert f"N = {claim.num_examples}" in out and claim.num_examples == 60


@pytest.mark.parametrize("name, columns, before", [("examples", ["--columns", "image", "label"], "full"),
                                                   ("arrays", [], None)])
def test_a_function_of_the_users_is_read_once(here, capsys, name, columns, before):
    (here / f"feed_{name}.py").write_text(GENERATOR)
    status, out, err = call(capsys, f"feed_{name}:{name}", "a.mindrecord", *columns, "--json")
    said = json.loads(out)
    assert status == 0, err
    assert labels_of("a.mindrecord") == list(range(30)) and said["records"] == 30
    assert (said["before"] and said["before"]["sampling"]) == before and said["now"]["sampling"] == "poisson"


def test_a_folder_of_images_stays_as_small_as_its_files(here, capsys):
    for number in range(12):
        (here / "images" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(here / f"images/{number % 2}/{number:02d}.png")
    status, _, err = call(capsys, "images", "a.mindrecord")
    assert status == 0, err
    rows = ds.MindDataset("a.mindrecord", ["image", "label"]).map(ds.vision.Decode(), "image")
    shades = {int(row[0].max()) for row in rows.create_tuple_iterator(num_epochs=1, output_numpy=True)}
    assert shades == {20 * number for number in range(12)}


def field(number, content):
    """A length-delimited field of a protocol buffer."""
    return bytes([number << 3 | 2, len(content)]) + content


def checksum(content):
    """CRC-32C, masked as TFRecord files have it."""
    crc = 0xffffffff
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    crc ^= 0xffffffff
    return ((crc >> 15 | crc << 17) + 0xa282ead8 & 0xffffffff).to_bytes(4, "little")


def tfrecord(path, labels):
    """Examples with one int64 feature."""
    with open(path, "wb") as file:
        for label in labels:
            feature = field(2, field(3, field(1, bytes([label]))))
            example = field(1, field(1, field(1, b"label") + feature))
            length = len(example).to_bytes(8, "little")
            file.write(length + checksum(length) + example + checksum(example))


def test_tfrecords_become_records(here, capsys):
    tfrecord("a.tfrecord", range(30))
    tfrecord("b.tfrecord", range(30, 50))
    status, out, err = call(capsys, "a.tfrecord", "b.tfrecord", "a.mindrecord")
    assert status == 0, err
    assert sorted(labels_of("a.mindrecord")) == list(range(50)) and "shuffle (zero-out)" in out


@pytest.mark.parametrize("arguments, match", [
    (["missing.csv", "a.mindrecord"], "missing.csv is none"), (["rows.txt", "a.mindrecord"], "--kind"),
    (["rows.csv", "feed:examples", "a.mindrecord"], "one kind"),
    (["feed:number", "a.mindrecord"], "must be a function"),
    (["nowhere:examples", "a.mindrecord"], "nowhere"), (["feed:examples", "a.mindrecord"], "--columns"),
    (["feed:examples", "a.mindrecord", "--types", "int"], "--types is for csv"),
    (["rows.csv", "there.mindrecord"], "overwrite"),
    (["text.csv", "a.mindrecord", "--types", "float", "int"], "text.csv could not be read")])
def test_refusals_are_one_line_and_leave_nothing(here, capsys, arguments, match):
    csv(here)
    (here / "feed.py").write_text(GENERATOR)
    (here / "there.mindrecord").write_text("old")
    (here / "text.csv").write_text("x,label\nword,1\n")
    status, _, err = call(capsys, *arguments)
    assert status == 2 and match in err and err.count("\n") == 1
    assert not (here / "a.mindrecord").exists() and (here / "there.mindrecord").read_text() == "old"
