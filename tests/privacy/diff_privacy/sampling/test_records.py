"""Data as users have them: columns stay together, each record is read once a draw, and errors help."""
import gc
import os
import subprocess
import sys
import textwrap

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.dataset import transforms, vision
from mindspore.mindrecord import FileWriter
from PIL import Image
from records import COUNT, IMAGES, LABELS, epochs_of

from mindarmour.privacy.diff_privacy import BallsInBinsSampler, FixedSizeSampler, PoissonSampler, ShufflePartition
from mindarmour.privacy.diff_privacy.sampling.assembly import assembled
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.diff_privacy.sampling.records import columns_like, records_of

SAMPLERS = [PoissonSampler, BallsInBinsSampler, FixedSizeSampler, ShufflePartition]


class Source:
    """Rows by number; counts what it is asked for."""

    def __init__(self, row=lambda i: (IMAGES[i], LABELS[i])):
        self.row, self.calls = row, []

    def __len__(self):
        return COUNT

    def __getitem__(self, number):
        self.calls.append(number)
        return self.row(number)


class Arrow:
    """What is used of a pyarrow.Table."""

    num_rows, column_names = COUNT, ["image", "label"]

    class Cell:
        def __init__(self, value):
            self.value = value

        def as_py(self):
            return self.value

    def column(self, name):
        values = {"image": IMAGES, "label": LABELS}[name]
        return [self.Cell(value.tolist()) for value in values]


class HuggingFace(Source):
    """What is used of a datasets.Dataset."""

    column_names = ["label", "image"]


def mindrecord(folder, count=COUNT):
    path = str(folder / "rows.mindrecord")
    writer = FileWriter(path, 1)
    writer.add_schema({"image": {"type": "float32", "shape": [1]}, "label": {"type": "int32"}})
    writer.write_raw_data([{"image": IMAGES[i], "label": int(LABELS[i])} for i in range(count)])
    writer.commit()
    return path


def numpy_rows(**arguments):
    return ds.NumpySlicesDataset((IMAGES, LABELS), ["image", "label"], **arguments)


def iterable():
    yield from zip(IMAGES, LABELS)


def memory_map(folder):
    np.save(folder / "images.npy", IMAGES)
    return np.load(folder / "images.npy", mmap_mode="r"), LABELS


EVERYTHING = {
    "tuple": lambda f: (IMAGES, LABELS), "list": lambda f: [IMAGES, LABELS],
    "dict": lambda f: {"image": IMAGES, "label": LABELS},
    "lists of numbers": lambda f: (IMAGES.tolist(), LABELS.tolist()), "memory map": memory_map,
    "source of tuples": lambda f: Source(), "list of tuples": lambda f: list(zip(IMAGES, LABELS)),
    "source of NumPy scalars": lambda f: Source(lambda i: (IMAGES[i], LABELS[i])),
    "source of dicts": lambda f: Source(lambda i: {"image": IMAGES[i], "label": LABELS[i]}),
    "list of dicts": lambda f: [{"image": x, "label": y} for x, y in zip(IMAGES, LABELS)],
    "Hugging Face": lambda f: HuggingFace(lambda i: {"image": IMAGES[i].tolist(), "label": int(LABELS[i])}),
    "Arrow": lambda f: Arrow(), "slices": lambda f: numpy_rows(), "shuffled slices": lambda f: numpy_rows().shuffle(20),
    "generator data set": lambda f: ds.GeneratorDataset(Source(), ["image", "label"]),
    "iterable": lambda f: ds.GeneratorDataset(iterable, ["image", "label"]),
    "MindRecord": lambda f: ds.MindDataset(mindrecord(f)), "take all": lambda f: numpy_rows().skip(0).take(COUNT),
    "map": lambda f: numpy_rows(shuffle=False).map(transforms.TypeCast(np.float32), "image"),
    "filter": lambda f: numpy_rows().filter(lambda x, y: True),
    "columns turned": lambda f: numpy_rows().project(["label", "image"]),
    "subset": lambda f: numpy_rows(sampler=ds.SubsetRandomSampler(list(range(COUNT))[::-1])),
}


@pytest.mark.parametrize("kind", EVERYTHING)
@pytest.mark.parametrize("cls", SAMPLERS)
def test_columns_of_a_record_stay_together_whatever_holds_them(kind, cls, tmp_path):
    dataset = cls(10).dataset(EVERYTHING[kind](tmp_path), ["image", "label"])
    assert dataset.get_col_names() == ["image", "label", "is_real"] and claim_of(dataset).num_examples == COUNT
    seen = set()
    for images, labels, mask in epochs_of(dataset, 2):
        real = mask > 0
        assert len(images) == len(labels) == len(mask)
        assert np.array_equal(labels[real] + 1, images[real, 0]) and not images[~real].any()
        seen.update(labels[real].tolist())
    assert len(seen) > COUNT / 2


def test_own_names_are_kept_chosen_and_ordered():
    data = {"a": IMAGES, "b": LABELS, "c": IMAGES}
    assert PoissonSampler(10).dataset(data).get_col_names() == ["a", "b", "c", "is_real"]
    assert PoissonSampler(10).dataset(data, ["b", "a"]).get_col_names() == ["b", "a", "is_real"]
    turned = PoissonSampler(10).dataset(numpy_rows(), ["label", "image"])
    labels, images, mask = epochs_of(turned, 1)[0]
    assert labels.dtype == np.int32 and np.array_equal(labels[mask > 0] + 1, images[mask > 0, 0])
    assert PoissonSampler(10).dataset(numpy_rows(), ["x", "y"]).get_col_names() == ["x", "y", "is_real"]
    assert PoissonSampler(10).dataset((IMAGES, LABELS)).get_col_names() == ["image", "label", "is_real"]


def test_a_source_is_asked_once_for_each_record_that_is_drawn():
    source = Source()
    dataset = PoissonSampler(10).dataset(source)
    source.calls.clear()
    drawn = sum(int(mask.sum()) for _, _, mask in epochs_of(dataset, 2))
    assert len(source.calls) == drawn


def test_augmentation_is_drawn_anew_in_each_step_for_drawn_records_only():
    calls = []

    def shake(image):
        calls.append(1)
        return image + np.random.default_rng().normal(size=1).astype(np.float32) * 1e-3

    dataset = ShufflePartition(10).dataset(numpy_rows(shuffle=False).map(shake, "image"))
    before = len(calls)
    first, second = (images[np.argsort(labels)] for images, labels, _ in (joined(epochs_of(dataset, 1)) for _ in "ab"))
    assert len(calls) - before == 2 * COUNT
    assert np.abs(first - second).max() < 0.02 and (first != second).all()


def joined(batches):
    return tuple(np.concatenate([batch[i][batch[-1] > 0] for batch in batches]) for i in range(3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for number in range(40):
        (root / str(number % 2)).mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number * 5, np.uint8)).save(root / str(number % 2) / f"{number:02d}.png")
    return str(root)


def augmented(folder):
    steps = [vision.Decode(), vision.RandomHorizontalFlip(), vision.Rescale(1 / 255, 0.0), vision.HWC2CHW()]
    return ds.ImageFolderDataset(folder).map(steps, "image").map(transforms.TypeCast(np.int32), "label")


@pytest.mark.parametrize("cls", SAMPLERS)
def test_image_folder_with_augmentation_in_minds_own_workers(folder, cls):
    dataset = cls(8).dataset(augmented(folder))
    for images, labels, mask in epochs_of(dataset, 2):
        numbers = np.round(images[:, 0, 0, 0] * 255 / 5).astype(int)
        assert images.shape[1:] == (3, 8, 8) and (numbers[mask > 0] % 2 == labels[mask > 0]).all()


def test_map_after_the_sampler_serves_transforms_and_callables_alike():
    images = np.random.default_rng(0).integers(0, 255, (COUNT, 8, 6, 3), dtype=np.uint8)
    transformed = PoissonSampler(10).dataset((images, LABELS)).map([vision.HWC2CHW()], "image")
    by_batch = PoissonSampler(10).dataset((images, LABELS)).map(lambda x: x.transpose(0, 3, 1, 2), "image")
    for dataset in (transformed, by_batch):
        for rows, labels, mask in epochs_of(dataset, 1):
            assert np.array_equal(rows[mask > 0], images[labels[mask > 0]].transpose(0, 3, 1, 2))


def test_strings_and_ragged_rows():
    words = [("ab" * (1 + i % 4)) for i in range(COUNT)]
    ids = [np.arange(1 + i % 7, dtype=np.int32) + 1 for i in range(COUNT)]
    for data in ({"ids": ids, "text": words, "label": LABELS},
                 Source(lambda i: {"ids": ids[i], "text": words[i], "label": LABELS[i]})):
        dataset = PoissonSampler(10, steps_per_epoch=8).dataset(data, pad_to={"ids": 9})
        for rows, texts, labels, mask in epochs_of(dataset, 1):
            assert rows.shape == (len(mask), 9)
            for row, text, label in zip(rows[mask > 0], texts[mask > 0], labels[mask > 0]):
                assert text == words[label] and np.array_equal(row[row > 0], ids[label])
            assert set(texts[mask == 0]) <= {""}


@pytest.mark.parametrize("multiprocessing", [False, True])
def test_workers_and_processes_load_each_drawn_record_and_end(multiprocessing):
    source = ds.GeneratorDataset(Source(), ["image", "label"], num_parallel_workers=2,
                                 python_multiprocessing=multiprocessing)
    dataset = PoissonSampler(10).dataset(source.map(np.negative, "image", num_parallel_workers=2,
                                                    python_multiprocessing=multiprocessing))
    before = children()
    draws = []
    for images, labels, mask in epochs_of(dataset, 2):
        assert np.array_equal(labels[mask > 0] + 1, -images[mask > 0, 0])
        draws.append(tuple(labels[mask > 0]))
    assert len(set(draws)) == len(draws), "no draw is repeated"
    gc.collect()
    assert children() <= before


def children():
    command = ["ps", "-o", "pid=", "--ppid", str(os.getpid())]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return {pid for pid in found.stdout.split() if alive(pid)}


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_an_interruption_leaves_no_process(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(textwrap.dedent("""
        import os, signal, numpy as np, mindspore.dataset as ds
        from mindarmour.privacy.diff_privacy import PoissonSampler

        class Source:
            def __len__(self): return 400
            def __getitem__(self, i): return np.full(3, i, np.float32), np.asarray(i)

        rows = ds.GeneratorDataset(Source(), ["image", "label"], num_parallel_workers=2, python_multiprocessing=True)
        dataset = PoissonSampler(40).dataset(rows.map(np.negative, "image", num_parallel_workers=2,
                                                      python_multiprocessing=True))
        for step, batch in enumerate(dataset.create_tuple_iterator(num_epochs=3)):
            if step == 2:
                print(os.getpid(), flush=True)
                os.kill(os.getpid(), signal.SIGINT)
    """))
    job = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert "KeyboardInterrupt" in job.stderr
    left = subprocess.run(["pgrep", "-f", str(script)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


BAD = {
    "batched": (lambda: numpy_rows().batch(4), "batch()"),
    "padded": (lambda: numpy_rows().padded_batch(4, pad_info={}), "padded_batch"),
    "bucketed": (lambda: numpy_rows().bucket_batch_by_length(["image"], [1], [5, 5]), "bucket_batch_by_length"),
    "repeated": (lambda: numpy_rows().repeat(2), "repeat"), "sum": (lambda: numpy_rows() + numpy_rows(), "concat"),
    "zip": (lambda: numpy_rows().zip(numpy_rows().rename(["image", "label"], ["a", "b"])), "zip"),
    "replacement": (lambda: numpy_rows(sampler=ds.RandomSampler(replacement=True)), "replacement"),
    "weights": (lambda: numpy_rows(sampler=ds.WeightedRandomSampler([1.0] * COUNT)), "WeightedRandomSampler"),
    "some at random": (lambda: numpy_rows(sampler=ds.RandomSampler(num_samples=10)), "anew in each pass"),
    "subset with repeats": (lambda: numpy_rows(sampler=[0, 0, 1]), "different"),
    "shards": (lambda: numpy_rows(num_shards=2, shard_id=0), "num_shards"),
    "batch sampler": (lambda: ds.GeneratorDataset(Source(), ["a", "b"], batch_sampler=[[1, 2]]), "batch_sampler"),
    "sampled twice": (lambda: PoissonSampler(5).dataset((IMAGES, LABELS)), "sampler"),
    "lengths": (lambda: (IMAGES, LABELS[:-1]), "same number of rows"), "nothing": (lambda: (), "column"),
    "nested": (lambda: ((LABELS, IMAGES), LABELS), "holds 2 of them"), "scalar": (lambda: (IMAGES, 3), "'label'"),
    "ragged": (lambda: ([np.zeros(1 + i % 3) for i in range(COUNT)], LABELS), "'image'.*pad_to"),
    "objects": (lambda: ([object()] * COUNT, LABELS), "'image'"), "empty source": (lambda: [], "column|records"),
    "three columns": (lambda: (IMAGES, IMAGES, LABELS), "column_names must name the 3 columns"),
    "mask among the data": (lambda: {"image": IMAGES, "is_real": LABELS}, "is_real"),
}


@pytest.mark.parametrize("kind", BAD)
def test_refusals_name_what_came_and_what_to_change(kind):
    make, match = BAD[kind]
    with pytest.raises(ValueError, match=match.replace("()", r"\(\)")) as refusal:
        PoissonSampler(10).dataset(make())
    assert len(str(refusal.value)) > 40


def test_a_generator_is_told_how_to_be_converted():
    with pytest.raises(TypeError, match="got generator.*convert_to_mindrecord"):
        PoissonSampler(10).dataset(iterable())


def test_ragged_rows_of_a_pipeline_name_the_column_and_the_shapes():
    rows = Source(lambda i: (np.zeros(2 + i % 3, np.float32), LABELS[i]))
    with pytest.raises(ValueError, match="'image'.*pad_to"):
        PoissonSampler(30).dataset(rows)
    with pytest.raises(ValueError, match="pad_to must name columns"):
        PoissonSampler(30).dataset(rows, pad_to={"x": 4})
    with pytest.raises(RuntimeError, match="must fit into pad_to"):
        PoissonSampler(30).dataset(rows, pad_to={"image": 3})


def test_rows_of_another_shape_or_type_are_neither_broadcast_nor_cast():
    like = [((2,), np.dtype(np.int32))]
    for block in (np.zeros((3, 1), np.int32), np.zeros((3, 2), np.float32), np.zeros((3, 2), np.int64)):
        with pytest.raises(ValueError, match="'x' must have one shape and type"):
            list(assembled(iter([[block]]), [np.array([0, -1, 1, 2])], ["x"], like))


def test_rows_with_other_columns_than_the_first_are_named():
    rows = Source(lambda i: {"image": IMAGES[i], **({"label": LABELS[i]} if i % 2 == 0 else {})})
    with pytest.raises(RuntimeError, match=r"lacks \['label'\]"):
        PoissonSampler(30).dataset(rows)


def test_two_maps_of_one_sampler_and_a_pipeline_that_goes_on_being_used():
    rows = numpy_rows(shuffle=False)
    dataset = PoissonSampler(10).dataset(rows)
    plus, minus = dataset.map(np.abs, "image"), dataset.map(np.negative, "image")
    for sign, mapped in ((1, plus), (-1, minus), (1, dataset)):
        images, labels, _ = joined(epochs_of(mapped, 1))
        assert np.array_equal(labels + 1, sign * images[:, 0])
    assert len(list(rows.batch(10).create_tuple_iterator(num_epochs=1))) == 5
    assert claim_of(PoissonSampler(10).dataset(rows)).num_examples == COUNT


def test_a_subset_of_a_source_is_what_is_drawn_from():
    for sampler in (ds.SubsetSampler([4, 9, 30, 7]), ds.SubsetRandomSampler([4, 9, 30, 7])):
        dataset = PoissonSampler(2, steps_per_epoch=30).dataset(numpy_rows(sampler=sampler))
        assert claim_of(dataset).num_examples == 4
        _, labels, _ = joined(epochs_of(dataset, 1))
        assert set(labels) == {4, 9, 30, 7}
    dataset = PoissonSampler(2, steps_per_epoch=30).dataset(numpy_rows(sampler=ds.SequentialSampler(10, 5)))
    assert set(joined(epochs_of(dataset, 1))[1]) == set(range(10, 15))


def test_more_records_than_are_handed_over_at_a_time(monkeypatch):
    monkeypatch.setattr("mindarmour.privacy.diff_privacy.sampling.records._AHEAD", 17)
    records = records_of(numpy_rows())
    draws = [np.array(part) for part in ([3, 4], [], [-1, 0, -1], list(range(40)), [], [7, -1, 7, 7])]
    gathered = list(records.gather(draws, columns_like(records)))
    assert len(gathered) == len(draws)
    for places, (images, labels) in zip(draws, gathered):
        assert np.array_equal(labels, np.maximum(places, 0)) and images.shape == (len(places), 1)
        assert np.array_equal(images[:, 0], places + 1), "zeros at holes"


def test_more_draws_than_records_from_mindrecord(tmp_path):
    dataset = PoissonSampler(40, steps_per_epoch=12).dataset(ds.MindDataset(mindrecord(tmp_path)), ["image", "label"])
    for images, labels, mask in epochs_of(dataset, 1):
        assert np.array_equal(labels[mask > 0] + 1, images[mask > 0, 0])


def test_a_stream_too_large_for_memory_is_to_be_converted(monkeypatch):
    monkeypatch.setattr("mindarmour.privacy.diff_privacy.sampling.records._MOST_BYTES", 100)
    with pytest.raises(ValueError, match="convert_to_mindrecord"):
        PoissonSampler(10).dataset(ds.GeneratorDataset(iterable, ["image", "label"]))
