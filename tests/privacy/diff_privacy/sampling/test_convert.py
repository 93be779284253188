"""What is converted to MindRecord comes back as it was, is sampled, and never stands there half-written."""
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.dataset import vision
from PIL import Image
from records import COUNT, IMAGES, LABELS, epochs_of

from mindarmour.privacy.diff_privacy import PoissonSampler, convert_to_mindrecord


def columns_of_every_kind():
    return {
        "ids": [np.arange(1 + i % 5, dtype=np.int32) for i in range(COUNT)],
        "table": [np.full((1 + i % 3, 2), i, np.float64) for i in range(COUNT)],
        "image": IMAGES, "half": IMAGES.astype(np.float16), "small": LABELS.astype(np.int8),
        "flag": LABELS % 2 == 0, "pixels": np.arange(COUNT * 12, dtype=np.uint8).reshape(COUNT, 2, 2, 3),
        "bytes": [np.arange(3 + i, dtype=np.uint8)[::-1].copy() for i in range(COUNT)],
        "text": [f"größe {i}" for i in range(COUNT)], "label": LABELS.astype(np.int64)}


class DictRows:
    def __init__(self, columns):
        self.columns = columns

    def __len__(self):
        return COUNT

    def __getitem__(self, number):
        return {name: column[number] for name, column in self.columns.items()}


def read(path):
    return list(ds.MindDataset(str(path), shuffle=False).create_dict_iterator(num_epochs=1, output_numpy=True))


@pytest.mark.parametrize("form", ["columns", "rows", "stream"])
def test_every_kind_of_column_comes_back(form, tmp_path):
    columns, seen = columns_of_every_kind(), []
    stream = ds.GeneratorDataset(lambda: (tuple(np.asarray(c[i]) for c in columns.values()) for i in range(COUNT)),
                                 list(columns))
    data = {"columns": columns, "rows": DictRows(columns), "stream": stream}[form]
    assert convert_to_mindrecord(data, tmp_path / "a.mindrecord", progress=seen.append) == COUNT == seen[-1]
    rows = read(tmp_path / "a.mindrecord")
    assert len(rows) == COUNT
    for row in rows:
        number = int(row["label"])
        for name, column in columns.items():
            wanted = np.asarray(column[number])
            got = row[name].reshape(()) if wanted.ndim == 0 else row[name]
            assert got.shape == wanted.shape and (got == wanted).all(), name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mindrecord", "a.mindrecord.db"]


def test_a_stream_is_sampled_once_converted(tmp_path):
    stream = ds.GeneratorDataset(lambda: zip(IMAGES, LABELS), ["image", "label"])
    convert_to_mindrecord(stream, tmp_path / "a.mindrecord")
    dataset = PoissonSampler(10).dataset(ds.MindDataset(str(tmp_path / "a.mindrecord")), ["image", "label"])
    for images, labels, mask in epochs_of(dataset, 2):
        real = mask > 0
        assert np.array_equal(labels[real].ravel() + 1, images[real, 0])


def test_encoded_images_are_decoded_as_from_their_files(tmp_path):
    (tmp_path / "images" / "class").mkdir(parents=True)
    for number in range(12):
        picture = Image.fromarray(np.full((4, 5, 3), 20 * number, np.uint8))
        picture.save(tmp_path / "images" / "class" / f"{number:02d}.png")
    rows = ds.ImageFolderDataset(str(tmp_path / "images"), shuffle=False)
    convert_to_mindrecord(rows, tmp_path / "a.mindrecord", encoded=["image"])
    converted = ds.MindDataset(str(tmp_path / "a.mindrecord"), ["image", "label"], shuffle=False)
    shades = set()
    for images, _, mask in epochs_of(PoissonSampler(4).dataset(converted.map(vision.Decode(), "image")), 4):
        assert images.shape[1:] == (4, 5, 3)
        shades.update(images[mask > 0].max(axis=(1, 2, 3)).tolist())
    assert len(shades) > 4 and shades <= {20 * number for number in range(12)}
    with pytest.raises(ValueError, match="encoded must name columns"):
        convert_to_mindrecord(rows, tmp_path / "b.mindrecord", encoded=["x"])


def test_an_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "a.mindrecord"
    convert_to_mindrecord((IMAGES, LABELS), path)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        convert_to_mindrecord((IMAGES, LABELS), path)

    def broken():
        yield IMAGES[0], LABELS[0]
        yield np.zeros((1, 2), np.float32), LABELS[1]

    with pytest.raises(ValueError, match="'image' must have one type"):  # the second row has another dimension
        convert_to_mindrecord(ds.GeneratorDataset(broken, ["image", "label"]), path, overwrite=True)
    assert len(read(path)) == COUNT and len(list(tmp_path.iterdir())) == 2
    convert_to_mindrecord((IMAGES[:7], LABELS[:7]), path, overwrite=True)
    assert len(read(path)) == 7


@pytest.mark.parametrize("make, match", [
    (lambda: ds.NumpySlicesDataset((IMAGES, LABELS)).batch(5), "batch()"),
    (lambda: ds.NumpySlicesDataset((IMAGES, LABELS)).repeat(2), "repeat"),
    (lambda: {"a b": IMAGES}, "letters, digits"), (lambda: {"a": IMAGES, "b": LABELS[1:]}, "same number of rows"),
    (lambda: {"a": np.array([["x", "y"]] * 4)}, "'a' must hold numbers"),
    (lambda: ds.GeneratorDataset(lambda: iter(()), ["a"]), "has none")])
def test_what_cannot_be_converted_is_named(make, match, tmp_path):
    with pytest.raises(ValueError, match=match.replace("()", r"\(\)")):
        convert_to_mindrecord(make(), tmp_path / "a.mindrecord")
    assert not list(tmp_path.iterdir())
