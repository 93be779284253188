"""Shadow models: many trainings on random halves of a data set, kept on disk, shared by all attacks."""
from __future__ import annotations

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from tqdm import tqdm

from mindarmour.privacy.evaluation.checks import (
    checked_ids,
    checked_outputs,
    require_classes,
    warn_of_shared_records,
)
from mindarmour.privacy.evaluation.forward import predict_queries
from mindarmour.privacy.evaluation.membership.attack_result import write_text_atomically
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.privacy.evaluation.membership.signals import Signals, save_npz
from mindarmour.utils import _validate
from mindarmour.utils.logger import LogUtil

_TAG = "ShadowModels"
_PLAN_FILE = "plan.json"
# so that the halves share no random stream with data that the caller drew from the same seed
_HALVES_STREAM = 1978


@dataclass(frozen=True)
class CostEstimate:
    """What `ShadowModels.fit` still has to do.

    Args:
        models_to_train (int): Models not on disk yet.
        seconds_per_model (float): Mean time of the models trained so far, None before the first.
        seconds (float): Time for the rest, None before the first.
        disk_bytes (int): Upper bound of the size of all files, None before the first.
    """

    models_to_train: int
    seconds_per_model: Optional[float]
    seconds: Optional[float]
    disk_bytes: Optional[int]

    def __str__(self) -> str:
        if self.seconds_per_model is None or self.disk_bytes is None:
            return f"{self.models_to_train} models to train; the first one tells the time and space per model"
        return (f"{self.models_to_train} models to train, {self.seconds_per_model:.1f} s each: about "
                f"{self.seconds:.0f} s; {self.disk_bytes / 2 ** 20:.1f} MiB on disk in all")


class ShadowModels:
    """Trains `num_models` models, each on a random half of the records, and keeps their outputs on all records.

    Each record is in the training set of exactly half of the models. Only outputs are kept, not the models: one
    file per model in `cache_dir`, each written in one piece. A run that was killed goes on where it stopped, and
    a folder that belongs to another data set, seed or number of models is refused.

    The training recipe is not part of what is compared: use another `cache_dir`, or another `tag`, for another
    `train_fn`.

    Args:
        train_fn (Callable): `train_fn(inputs, labels, seed)` trains one model and returns it: a MindSpore `Model`
            (a `DPModel` too) or `Cell`, a classifier with `predict_proba`, or a function from inputs to logits.
            It should be the recipe of the audited model.
        dataset (Dataset or tuple): All records, audited and other: a MindSpore data set with the columns image and
            label, or the arrays (inputs [n, ...], labels [n]). A record's id is its position.
        num_models (int): Number of models, even, at least 2.
        seed (int): Seed of the halves and of the seeds given to `train_fn`.
        cache_dir (str): Folder of the files.
        population (Dataset or tuple): Records that no model trains on, for `RMIA`.
        augmentations (Sequence[Callable]): Functions from a batch of inputs to the augmented batch; the audited
            model's `collect_signals` must use the same.
        tag (str): Name of the training recipe, compared with the one in `cache_dir`.
        batch_size (int): Records per forward pass.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If `num_models` is odd or below 2, the data are unusable, or `cache_dir` holds the files of
            other shadow models.

    References:
        Carlini et al. 2022, "Membership inference attacks from first principles", section V-A.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import ShadowModels
        >>> def train(inputs, labels, seed):
        ...     centres = np.stack([inputs[labels == label].mean(axis=0) for label in (0, 1)])
        ...     return lambda x: -((x[:, None] - centres) ** 2).sum(axis=2)
        >>> records = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 2
        >>> store = ShadowModels(train, records, num_models=4, seed=0, cache_dir=tempfile.mkdtemp())
        >>> store.fit(progress=False).keep.sum(axis=0).tolist() == [2] * 40
        True
    """

    def __init__(self, train_fn: Callable, dataset: Any, num_models: int = 16, seed: int = 0,
                 cache_dir: Union[str, os.PathLike] = "shadow_models", *, population: Any = None,
                 augmentations: Sequence[Callable] = (), tag: str = "", batch_size: int = 256) -> None:
        if not callable(train_fn):
            raise TypeError(f"train_fn must be a function (inputs, labels, seed) -> model, but got "
                            f"{type(train_fn).__name__}.")
        self._train_fn = train_fn
        self.num_models = _validate.integer("num_models", num_models, low=2)
        if num_models % 2:
            raise ValueError(f"num_models must be even, so that each record is in half of the training sets, but got "
                             f"{num_models}.")
        self._seed = _validate.integer("seed", seed, low=0)
        self._inputs, self.labels = read_records("dataset", dataset)
        self._population = None if population is None else read_records("population", population)
        self._check_population()
        self._augmentations = tuple(augmentations)
        self._batch_size = _validate.integer("batch_size", batch_size, low=1)
        self._folder = Path(cache_dir)
        self.keep = balanced_halves(self.num_models, len(self.labels), self._seed)
        self._claim_folder(_validate.instance("tag", tag, str))

    def _check_population(self) -> None:
        labels = [self.labels]
        if self._population is not None:
            labels.append(self._population[1])
            warn_of_shared_records("dataset", (self._inputs, self.labels), "population", self._population,
                                   "shadow models train on them, and RMIA takes them for unseen")
        # a class that no half of the records has still needs its column
        self._classes = 1 + max(int(part.max()) for part in labels)

    def _claim_folder(self, tag: str) -> None:
        plan = {"num_models": self.num_models, "seed": self._seed, "tag": tag, "views": len(self._augmentations),
                "dataset": fingerprint(self._inputs, self.labels),
                "population": "" if self._population is None else fingerprint(*self._population)}
        path = self._folder / _PLAN_FILE
        if not path.exists():
            write_text_atomically(path, json.dumps(plan, indent=2) + "\n")
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name in plan if plan[name] != found.get(name)]
        if different:
            name = different[0]
            raise ValueError(f"cache_dir '{self._folder}' holds shadow models with another {name} ({found.get(name)!r} "
                             f"there, {plan[name]!r} here). Use another cache_dir, or delete the folder to start anew.")

    def fit(self, *, progress: bool = True) -> ShadowModels:
        """Train what is missing and return self.

        Args:
            progress (bool): Print the cost estimate and show a progress bar.
        """
        missing = self.missing()
        if not missing:
            return self
        if progress:
            tqdm.write(f"Shadow models: {self.cost_estimate()}.")
        with tqdm(total=self.num_models, initial=self.num_models - len(missing), desc="Shadow models", unit="model",
                  disable=not progress) as bar:
            for number, index in enumerate(missing):
                self._train_one(index)
                bar.update()
                if progress and number == 0:
                    bar.write(f"Shadow models: {self.cost_estimate()}.")
        return self

    def _train_one(self, index: int) -> None:
        start = time.perf_counter()
        chosen = self.keep[index]
        model = self._train_fn(self._inputs[chosen], self.labels[chosen], self._model_seed(index))
        outputs = {"logits": self._outputs(model, self._inputs)}
        if self._population is not None:
            outputs["population"] = self._outputs(model, self._population[0])
        save_npz(self._file(index), {**outputs, "keep": chosen, "seconds": np.float64(time.perf_counter() - start)})

    def _outputs(self, model: Any, inputs: np.ndarray) -> np.ndarray:
        queries = predict_queries(model, inputs, self._augmentations, batch_size=self._batch_size,
                                  classes=self._classes)
        outputs = checked_outputs("outputs of train_fn's model", queries, ndim=3)
        return require_classes("outputs of train_fn's model", outputs, self._classes).astype(np.float32)

    def _model_seed(self, index: int) -> int:
        return int(np.random.SeedSequence([self._seed, index]).generate_state(1)[0] >> 1)

    def _file(self, index: int) -> Path:
        return self._folder / f"shadow_{index:04d}.npz"

    def missing(self) -> list[int]:
        """Numbers of the models that are not on disk yet; unreadable files count as missing."""
        return [index for index in range(self.num_models) if not self._is_readable(index)]

    def _is_readable(self, index: int) -> bool:
        path = self._file(index)
        if not path.exists():
            return False
        try:
            with np.load(path, allow_pickle=False) as file:
                return bool(np.array_equal(file["keep"], self.keep[index]))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            LogUtil.get_instance().warn(_TAG, "'%s' cannot be read and will be trained again.", path)
            return False

    def cost_estimate(self) -> CostEstimate:
        """`CostEstimate` of what `fit` still has to do, from the models trained so far."""
        missing = self.missing()
        done = sorted(set(range(self.num_models)) - set(missing))
        if not done:
            return CostEstimate(len(missing), None, None, None)
        seconds = float(np.mean([self._read(index, "seconds") for index in done]))
        size = int(np.mean([self._file(index).stat().st_size for index in done])) * self.num_models
        return CostEstimate(len(missing), seconds, seconds * len(missing), size)

    def _read(self, index: int, name: str) -> np.ndarray:
        with np.load(self._file(index), allow_pickle=False) as file:
            return file[name]

    def logits(self, index: int) -> np.ndarray:
        """Outputs of one model on all records [n, 1 + views, classes]."""
        self._require_fitted()
        return self._read(index, "logits")

    def population_logits(self, index: int) -> np.ndarray:
        """Outputs of one model on the population [m, 1 + views, classes]."""
        self._require_fitted()
        if self._population is None:
            raise ValueError("population must be given to ShadowModels, because RMIA compares with records that no "
                             "shadow model trained on; these shadow models were made without.")
        return self._read(index, "population")

    @property
    def population_labels(self) -> Optional[np.ndarray]:
        """True classes of the population [m], None without one."""
        return None if self._population is None else self._population[1]

    def signals(self, index: int, ids: Optional[np.ndarray] = None) -> Signals:
        """`Signals` of one shadow model in the place of the audited one.

        Args:
            index (int): Number of the model. Attack it with the other models: `LiRA()(signals, store,
                exclude=[index])`.
            ids (numpy.ndarray): Records to audit; default all.
        """
        index = _validate.integer("index", index, low=0, high=self.num_models - 1)
        ids = np.arange(len(self.labels)) if ids is None else np.asarray(ids)
        outputs = self.logits(index)[ids]
        return Signals(outputs[:, 0], self.labels[ids], self.keep[index, ids], ids,
                       outputs[:, 1:] if self._augmentations else None)

    def population_signals(self, index: int) -> Signals:
        """`Signals` of one shadow model on the population, all of them non-members."""
        outputs = self.population_logits(index)
        return Signals(outputs[:, 0], self._population[1], np.zeros(len(outputs), bool),
                       views=outputs[:, 1:] if self._augmentations else None)

    def statistics(self, statistic: Callable, signals: Signals, *, exclude: Iterable[int] = (),
                   minimum: int = 2) -> tuple[np.ndarray, np.ndarray]:
        """A statistic of each shadow model on the audited records.

        Args:
            statistic (Callable): Function (logits [n, queries, classes], labels [n]) -> [n, queries].
            signals (Signals): Of the audited model; its ids say which records.
            exclude (Sequence[int]): Models to leave out, such as the audited one.
            minimum (int): Models the attack needs.

        Returns:
            tuple of the statistics [models, n, queries] and whether each record was trained on [models, n].
        """
        chosen = self._chosen(exclude, minimum)
        self._check_audited(signals)
        queries = signals.queries.shape[1]
        rows = []
        for index in chosen:
            rows.append(statistic(self.logits(index)[signals.ids, :queries], signals.labels))
        return np.stack(rows), self.keep[chosen][:, signals.ids]

    def population_statistics(self, statistic: Callable, population: Signals, *, exclude: Iterable[int] = (),
                              minimum: int = 2) -> np.ndarray:
        """As `statistics`, on the population, which no model trained on: [models, m, queries]."""
        chosen = self._chosen(exclude, minimum)
        known = self.population_labels
        if known is not None and not np.array_equal(population.labels, known):
            raise ValueError(f"population must be the audited model's signals on the records given to ShadowModels as "
                             f"population, in that order: its {len(population)} labels differ from the "
                             f"{len(known)} labels there.")
        queries = population.queries.shape[1]
        return np.stack([statistic(self.population_logits(index)[:, :queries], population.labels)
                         for index in chosen])

    def _chosen(self, exclude: Iterable[int], minimum: int) -> list[int]:
        self._require_fitted()
        excluded = {_validate.integer("exclude", index, low=0, high=self.num_models - 1) for index in exclude}
        chosen = [index for index in range(self.num_models) if index not in excluded]
        if len(chosen) < minimum:
            raise ValueError(f"num_models must leave at least {minimum} shadow models for this attack, but "
                             f"{len(chosen)} of {self.num_models} are left. Train more shadow models.")
        return chosen

    def _require_fitted(self) -> None:
        if self._missing_files():
            raise ValueError(f"ShadowModels must be trained before an attack, but {len(self._missing_files())} of "
                             f"{self.num_models} models are missing in '{self._folder}'. Call fit() first.")

    def _missing_files(self) -> list[int]:
        return [index for index in range(self.num_models) if not self._file(index).exists()]

    def _check_audited(self, signals: Signals) -> None:
        _validate.instance("signals", signals, Signals)
        if signals.ids.min() < 0 or signals.ids.max() >= len(self.labels):
            raise ValueError(f"ids of the signals must be positions in the data set of the shadow models, 0 to "
                             f"{len(self.labels) - 1}, but they reach from {signals.ids.min()} to {signals.ids.max()}. "
                             f"Pass ids=(member ids, non-member ids) to collect_signals.")
        wrong = signals.labels != self.labels[signals.ids]
        if wrong.any():
            raise ValueError(f"ids of the signals must point to the same records in the data set of the shadow "
                             f"models, but {int(wrong.sum())} of {len(wrong)} labels differ there.")
        views = 1 + len(self._augmentations)
        if signals.queries.shape[1] > views:
            raise ValueError(f"signals must hold the augmented views of the shadow models ({views - 1}) or none, but "
                             f"hold {signals.queries.shape[1] - 1}.")

    def split(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Random halves of all records for one more model, such as the audited one.

        Returns:
            tuple of member ids and non-member ids, sorted.
        """
        seed = _validate.integer("seed", seed, low=0)
        order = np.random.default_rng([self._seed, seed, 1]).permutation(len(self.labels))
        half = len(order) // 2
        return np.sort(checked_ids(order[:half], half)), np.sort(order[half:])

    def subset(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Arrays (inputs, labels) of some records."""
        return self._inputs[ids], self.labels[ids]

    def __repr__(self) -> str:
        return f"ShadowModels({self.num_models} models, {len(self.labels)} records, {asdict(self.cost_estimate())})"


def equal_shares(trained: np.ndarray) -> list[np.ndarray]:
    """Masks of as many models with as without each record, [models, n] each.

    Leaving out a shadow model that stands in for the audited one leaves its members one model fewer with them than
    without. A density, or a mean of probabilities, of fewer models would tell members apart, or hide them.

    Args:
        trained (numpy.ndarray): Which model trained on which record [models, n].
    """
    count = np.minimum(trained.sum(axis=0), (~trained).sum(axis=0))
    return [mask & (np.cumsum(mask, axis=0) <= count) for mask in (trained, ~trained)]


def balanced_halves(num_models: int, num_records: int, seed: int) -> np.ndarray:
    """Which model trains on which record: bool [models, records], half of the models per record."""
    ranks = np.argsort(np.random.default_rng([seed, _HALVES_STREAM]).random((num_models, num_records)), axis=0)
    return ranks < num_models // 2


def fingerprint(inputs: np.ndarray, labels: np.ndarray) -> str:
    """Short hash of the shapes, types and values of arrays."""
    digest = hashlib.sha256()
    for array in (np.ascontiguousarray(inputs), np.ascontiguousarray(labels)):
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(memoryview(array).cast("B"))
    return digest.hexdigest()[:16]
