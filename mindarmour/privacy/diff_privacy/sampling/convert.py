"""One conversion for data that cannot be read by record number: a MindRecord file, which can."""
from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Callable, Optional, Union

import mindspore.dataset as ds
import numpy as np
from mindspore.mindrecord import FileWriter

from mindarmour.privacy.diff_privacy.sampling.records import one_example_rows

# Rows handed to MindRecord at a time.
_ROWS = 256
# MindRecord keeps these; other numbers are widened to the first of them that holds every value.
_KEPT = ("int32", "int64", "float32", "float64")


def convert_to_mindrecord(data: Any, path: Union[str, os.PathLike], column_names: Optional[Sequence[str]] = None,
                          encoded: Sequence[str] = (), overwrite: bool = False,
                          progress: Optional[Callable[[int], Any]] = None) -> int:
    """Write data to a MindRecord file, whose records samplers can read by number.

    Convert before decoding and augmentation: images stay as small as their files, and `map` on the converted data set
    augments anew in each step.

    Args:
        data (Any): A MindSpore data set with one example a row, streams (`TFRecordDataset`, `CSVDataset`, a generator
            without length) included; or whatever `dataset(...)` of a sampler takes. A row's columns may be strings, or
            numbers of any shape, of which the first dimension may differ from row to row. MindRecord keeps int32,
            int64, float32 and float64; other numbers are stored in the first of these that holds every value.
        path (str, PathLike): The file. Beside it stands its index, `path` + '.db'; both are needed, and MindRecord does
            not allow that they are renamed.
        column_names (Sequence[str], optional): As in `dataset(...)` of a sampler.
        encoded (Sequence[str]): Columns that hold encoded images (one-dimensional uint8, as `ImageFolderDataset` reads
            them): stored as bytes, for `vision.Decode()`.
        overwrite (bool): Whether an existing file is replaced; it stays as it is until the new one is complete.
        progress (Callable, optional): Called with the number of records written so far.

    Returns:
        int, the number of records.

    Raises:
        FileExistsError: `path` exists and `overwrite` is False.
        ValueError: Rows that are batches, repeated rows, columns of other types or changing dimensions, no rows, a row
            that MindRecord does not keep.

    Examples:
        >>> import tempfile
        >>> import mindspore.dataset as ds
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import PoissonSampler, convert_to_mindrecord
        >>> def stream():
        ...     for number in range(50):
        ...         yield np.full(3, number, np.float32), np.asarray(number % 2, np.int32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = folder + "/stream.mindrecord"
        ...     print(convert_to_mindrecord(ds.GeneratorDataset(stream, ["image", "label"]), file))
        ...     print(PoissonSampler(10).dataset(ds.MindDataset(file), ["image", "label"]).get_dataset_size())
        50
        5
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"path must not exist, but {path} does. Pass overwrite=True to replace it.")
    names, rows = one_example_rows(data, column_names)
    for name in names:
        if not re.fullmatch(r"[0-9A-Za-z_]+", name):
            raise ValueError(f"Names of columns must consist of letters, digits and _, as MindRecord demands, but one "
                             f"is {name!r}. Rename it with .rename(...) or column_names.")
    if not set(encoded) <= set(names):
        raise ValueError(f"encoded must name columns of the data, {names}, but names "
                         f"{sorted(set(encoded) - set(names))}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    # MindRecord wants the name that it was written under, so a folder is temporary and not the name
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".convert") as folder:
        count = _write(rows, names, encoded, str(Path(folder) / path.name), progress)
        path.unlink(missing_ok=True)  # no moment has a new index beside an old file
        for name in (f"{path.name}.db", path.name):
            os.replace(Path(folder) / name, path.with_name(name))
    return count


def _write(rows: Iterable[Sequence[np.ndarray]], names: list[str], encoded: Sequence[str], path: str,
           progress: Optional[Callable[[int], Any]]) -> int:
    writer, schema, held, count = FileWriter(path, 1), {}, [], 0
    for row in rows:
        if not schema:
            schema = {name: _field(name, value, name in encoded) for name, value in zip(names, row)}
            writer.add_schema(schema)
        held.append({name: _value(name, value, schema[name]) for name, value in zip(names, row)})
        count += 1
        if len(held) == _ROWS:
            writer.write_raw_data(held)
            held = []
            if progress:
                progress(count)
    if not count:
        raise ValueError("data must hold records, but has none.")
    if held:
        writer.write_raw_data(held)
    writer.commit()
    kept = ds.MindDataset(path).get_dataset_size()
    if kept != count:  # MindRecord only logs what it leaves out
        raise ValueError(f"Every record must arrive in {Path(path).name}, but MindRecord kept {kept} of {count}; its "
                         f"log names the rows that it left out.")
    if progress and held:
        progress(count)
    return count


def _field(name: str, value: np.ndarray, encoded: bool) -> dict[str, Any]:
    """MindRecord's description of a column, from its first row."""
    if encoded:
        return {"type": "bytes"}
    kind = _type_of(name, value)
    return {"type": kind, "shape": [-1, *value.shape[1:]]} if value.ndim else {"type": kind}


def _type_of(name: str, value: np.ndarray) -> str:
    if value.dtype.kind == "U" and value.ndim == 0:
        return "string"
    for kept in _KEPT:
        if value.dtype.kind in "biuf" and np.can_cast(value.dtype, kept):
            return kept
    raise ValueError(f"Column {name!r} must hold numbers or single strings, but a row has shape {value.shape} of "
                     f"{value.dtype}. Leave the column out with .project(...), split it, or name it in encoded if it "
                     f"holds encoded images.")


def _value(name: str, value: np.ndarray, field: dict[str, Any]) -> Any:
    """A row's entry as MindRecord takes it."""
    kind, shape = field["type"], field.get("shape", [])
    if kind == "bytes":
        fits = value.ndim == 1 and value.dtype == np.uint8
    else:
        fits = (value.ndim == len(shape) and list(value.shape[1:]) == shape[1:] and value.size > 0
                and _type_of(name, value) == kind)
    if not fits:
        raise ValueError(f"Rows of column {name!r} must have one type, at least one value and, but for the first, "
                         f"equal dimensions; the column is {kind} {shape}, and a row is {value.dtype} "
                         f"{list(value.shape)}. Bring them to one form with .map(...).")
    if kind == "string":
        return str(value)
    if kind == "bytes":
        return value.tobytes()
    return value.astype(kind) if value.ndim else value.astype(kind).item()
