"""The fingerprint follows the stored data and nothing else: not augmentation, not the number of records."""
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore.dataset import vision
from PIL import Image
from records import COUNT, IMAGES, LABELS

from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.diff_privacy import PoissonSampler
from mindarmour.privacy.diff_privacy.sampling import fingerprint as module
from mindarmour.privacy.diff_privacy.sampling.fingerprint import fingerprint
from mindarmour.privacy.errors import PrivacyWarning

KEY = b"key"


def shake(image):
    return image + np.random.default_rng().normal(size=image.shape).astype(np.float32)


def test_augmentation_in_a_map_changes_nothing():
    rows = ds.NumpySlicesDataset((IMAGES, LABELS), ["image", "label"])
    forms = [PoissonSampler(5).dataset(rows.map(shake, "image")), PoissonSampler(5).dataset(rows.map(shake, "image")),
             PoissonSampler(5).dataset(rows).map(shake, "image"), PoissonSampler(9).dataset(rows)]
    assert len({fingerprint(form, KEY) for form in forms}) == 1


class Augmenting:
    def __init__(self, labels=LABELS):
        self.labels, self.calls = labels, 0

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, number):
        self.calls += 1
        return shake(IMAGES[number % COUNT]), self.labels[number]


def test_a_source_that_augments_is_known_by_its_other_columns():
    one, same, other = (fingerprint(PoissonSampler(5).dataset(Augmenting(labels)), KEY)
                        for labels in (LABELS, LABELS, LABELS[::-1].copy()))
    assert one == same != other


def test_a_row_that_is_a_dictionary_is_named():
    class Nested:
        def __len__(self):
            return COUNT

        def __getitem__(self, number):
            return {"x": IMAGES[number]}, LABELS[number]

    with pytest.raises(ValueError, match="'b' must be arrays, but one is a dict"):
        fingerprint(ds.GeneratorDataset(Nested(), ["b", "label"]).batch(5), KEY)


def test_a_handful_of_records_is_read_however_many_there_are():
    source = Augmenting(np.arange(100_000))
    dataset = PoissonSampler(100).dataset(source)
    source.calls = 0
    fingerprint(dataset, KEY)
    assert source.calls == 2 * module._LOOKED_AT


@pytest.mark.parametrize("batched", [False, True])
def test_other_contents_names_and_counts_differ(batched):
    def form(images, names=("image", "label")):
        rows = ds.NumpySlicesDataset((images, LABELS[:len(images)]), list(names))
        return rows.batch(5) if batched else PoissonSampler(5).dataset(rows)

    prints = {fingerprint(form(*arguments), KEY) for arguments in (
        (IMAGES,), (IMAGES + 1,), (IMAGES[:-1],), (IMAGES.astype(np.float64),), (IMAGES, ("x", "label")))}
    assert len(prints) == 5 and fingerprint(form(IMAGES), KEY) in prints
    assert fingerprint(form(IMAGES), b"other key") not in prints


def test_an_image_folder_is_known_by_what_its_files_hold(tmp_path):
    def folder(name, shade):
        (tmp_path / name / "a").mkdir(parents=True)
        for number in range(6):
            Image.fromarray(np.full((8, 8, 3), shade + number, np.uint8)).save(tmp_path / name / "a" / f"{number}.png")
        rows = ds.ImageFolderDataset(str(tmp_path / name)).map([vision.Decode(), vision.RandomCrop(4)], "image")
        return PoissonSampler(3).dataset(rows)

    one, same, other = folder("one", 10), folder("same", 10), folder("other", 90)
    assert fingerprint(one, KEY) == fingerprint(one, KEY) == fingerprint(same, KEY) != fingerprint(other, KEY)


def test_a_stream_is_known_by_its_files(tmp_path):
    def stream(text):
        (tmp_path / "rows.csv").write_text(text)
        return ds.CSVDataset(str(tmp_path / "rows.csv"), column_defaults=[1.0, 1], column_names=["x", "y"]).batch(2)

    one = fingerprint(stream("1.0,1\n2.0,0\n"), KEY)
    assert one == fingerprint(stream("1.0,1\n2.0,0\n"), KEY) != fingerprint(stream("1.0,1\n3.0,0\n"), KEY)


def test_without_a_place_for_the_key_there_is_no_fingerprint_and_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    for name in ("MINDARMOUR_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    data = PoissonSampler(5).dataset((IMAGES, LABELS))
    for variable, value in (("HOME", "/proc/nohome"), ("MINDARMOUR_HOME", str(tmp_path / "file" / "home"))):
        monkeypatch.setenv(variable, value)
        with pytest.warns(PrivacyWarning, match="MINDARMOUR_HOME"):
            known = fingerprint(data)
        assert known is None
    Ledger().spend_on(known)  # the run goes on, on data that nobody can name


def test_a_key_that_is_there_is_used_from_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path))
    data = PoissonSampler(5).dataset((IMAGES, LABELS))
    known = fingerprint(data)
    module.key_file().chmod(0o400)
    tmp_path.chmod(0o500)
    assert fingerprint(data) == known is not None
