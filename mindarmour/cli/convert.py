"""`mindarmour convert`: a stream becomes a MindRecord file, from which samplers can draw."""
from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any, cast

from mindarmour.cli import options, output, progress

_DIFF_PRIVACY = "mindarmour.privacy.diff_privacy"
_KINDS = ("csv", "tfrecord", "images", "mindrecord", "python")
_SUFFIXES = {".csv": "csv", ".tfrecord": "tfrecord", ".tfrecords": "tfrecord", ".mindrecord": "mindrecord"}
_DESCRIPTION = ("Write a stream of examples, once, to a MindRecord file, whose records samplers can draw: the steps "
                "then have a claim that a stream cannot have.")
_EXAMPLES = ("mindarmour convert train.csv train.mindrecord --types float float int",
             "mindarmour convert part-0.tfrecord part-1.tfrecord train.mindrecord",
             "mindarmour convert images/ images.mindrecord",
             "mindarmour convert my_project.data:examples train.mindrecord --columns ids label")
_DEFAULTS = {"int": 0, "float": 0.0, "string": ""}


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("convert", help="write a stream to a file that samplers can draw from",
                                 **options.parser_options(_DESCRIPTION, _EXAMPLES))
    parser.add_argument("source", nargs="+", metavar="SOURCE",
                        help="files of one kind, a folder with one folder of images for each class, or "
                             "MODULE:FUNCTION, which returns a data set, arrays or an iterable of examples")
    parser.add_argument("target", metavar="FILE.mindrecord", help="what is written; beside it stands its index, .db")
    parser.add_argument("--kind", choices=_KINDS, help="kind of the sources (default: by their names)")
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="names of the columns, in order (default: the "
                                                                     "source's own; of a CSV file, its first line)")
    parser.add_argument("--types", nargs="+", choices=tuple(_DEFAULTS), metavar="TYPE",
                        help="types of a CSV file's columns: int, float, string (default: all strings)")
    parser.add_argument("--encoded", nargs="+", default=[], metavar="NAME",
                        help="columns that hold the bytes of image files (default: image, of a folder of images)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file, once the new one is complete")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run, parser=parser)


def _run(arguments: argparse.Namespace) -> int:
    kind = arguments.kind or _kind_of(arguments.source)
    if arguments.types and kind != "csv":
        raise ValueError(f"--types is for csv, but the source is {kind}. Leave it out.")
    if kind == "images" and not arguments.encoded:
        arguments.encoded = ["image"]
    progress.stage("loading MindSpore")
    # by name: whoever imports the command line must not wait for MindSpore
    convert = importlib.import_module(f"{_DIFF_PRIVACY}.sampling.convert")
    try:
        source = _SOURCES[kind](arguments)
        count = convert.convert_to_mindrecord(source, arguments.target, arguments.columns, arguments.encoded,
                                              arguments.overwrite, lambda done: progress.stage(f"{done} records"))
        before, now = _claim_before(source), _claim_now(arguments.target)
    except RuntimeError as error:  # MindSpore's, with pages of its own source after the first lines
        raise ValueError(f"{' '.join(arguments.source)} could not be read: {str(error).strip()[:500]}") from error
    _say(arguments, count, before, now)
    return 0


def _kind_of(sources: list[str]) -> str:
    kinds = {_kind_of_one(source) for source in sources}
    if len(kinds) > 1 or "" in kinds:
        raise ValueError(f"SOURCE must be files of one kind (.csv, .tfrecord, .mindrecord), a folder of images or "
                         f"MODULE:FUNCTION, but got {' '.join(sources)}. Say --kind if their names do not.")
    return kinds.pop()


def _kind_of_one(source: str) -> str:
    if Path(source).is_dir():
        return "images"
    if ":" in source and not Path(source).exists():
        return "python"
    return _SUFFIXES.get(Path(source).suffix.lower(), "")


def _data_sets() -> Any:
    return importlib.import_module("mindspore.dataset")


def _files(arguments: argparse.Namespace) -> list[str]:
    for name in arguments.source:
        if not Path(name).is_file():
            raise FileNotFoundError(f"SOURCE must be files, but {name} is none.")
    return list(arguments.source)


def _only(arguments: argparse.Namespace) -> str:
    if len(arguments.source) > 1:
        raise ValueError(f"SOURCE must be one, but got {' '.join(arguments.source)}.")
    return arguments.source[0]


def _csv(arguments: argparse.Namespace) -> Any:
    defaults = [_DEFAULTS[name] for name in arguments.types] if arguments.types else None
    return _data_sets().CSVDataset(_files(arguments), column_defaults=defaults, column_names=arguments.columns,
                                   shuffle=False)


def _tfrecord(arguments: argparse.Namespace) -> Any:
    return _data_sets().TFRecordDataset(_files(arguments), shuffle=False)


def _mindrecord(arguments: argparse.Namespace) -> Any:
    return _data_sets().MindDataset(_files(arguments), shuffle=False)


def _images(arguments: argparse.Namespace) -> Any:
    return _data_sets().ImageFolderDataset(_only(arguments), shuffle=False)


def _python(arguments: argparse.Namespace) -> Any:
    module, _, name = _only(arguments).partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name, None)
    finally:
        sys.path.pop(0)
    if not callable(found):
        raise ValueError(f"{module}:{name} must be a function, but {module} has none of this name.")
    data = found()
    if hasattr(data, "__len__") or hasattr(data, "create_tuple_iterator"):
        return data
    if not hasattr(data, "__iter__"):
        raise TypeError(f"{module}:{name} must return a data set, arrays or an iterable of examples, but returned "
                        f"{type(data).__name__}.")
    if not arguments.columns:
        raise ValueError(f"--columns must name the columns of the examples of {module}:{name}.")
    passes: list[Any] = [data]  # what has been returned is the first pass, and a generator has no other
    return _data_sets().GeneratorDataset(lambda: iter(cast(Any, passes.pop() if passes else found())),
                                         arguments.columns, shuffle=False)


_SOURCES = {"csv": _csv, "tfrecord": _tfrecord, "images": _images, "mindrecord": _mindrecord, "python": _python}


def _claim_before(source: Any) -> Any:
    """What `source.batch(...)` can claim; None for data that are no data set."""
    if not hasattr(source, "create_tuple_iterator"):
        return None
    claims = importlib.import_module(f"{_DIFF_PRIVACY}.sampling.claims")
    pipelines = importlib.import_module(f"{_DIFF_PRIVACY}.sampling.pipelines")
    return claims.claim_of(pipelines.copied(source).batch(1))


def _claim_now(path: str) -> Any:
    samplers = importlib.import_module(f"{_DIFF_PRIVACY}.sampling.samplers")
    return samplers.PoissonSampler(1).dataset(_data_sets().MindDataset(path)).claim


def _say(arguments: argparse.Namespace, count: int, before: Any, now: Any) -> None:
    if arguments.json:
        output.print_json({"file": arguments.target, "records": count,
                           "before": before and {"sampling": before.kind, "relation": before.relation},
                           "now": {"sampling": now.kind, "relation": now.relation}})
        return
    print(f"{count} records in {arguments.target}")
    if before is not None:
        print(f"batches of the source itself: {before.kind} ({before.relation}), no amplification by sampling")
    print(f"PoissonSampler(size).dataset(MindDataset({arguments.target!r})): {now.kind} ({now.relation}), amplified by "
          f"sampling, N = {now.num_examples}")
