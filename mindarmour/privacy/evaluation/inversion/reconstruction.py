"""How good reconstructions are, beside what a random image of the same kind would score, with a figure."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from scipy.special import softmax

from mindarmour.privacy.evaluation.checks import checked_outputs
from mindarmour.privacy.evaluation.inversion.checks import check_classes, check_images
from mindarmour.utils import _validate as check
from mindarmour.utils.files import replacing
from mindarmour.utils.image_metrics import compute_psnr, compute_ssim

RECOGNISABLE_SSIM = 0.3
# half of the original's variance explained
RECOGNISABLE_CORRELATION = 0.7
BASELINE_QUANTILE = 0.95
MOST_PAIRS = 2000
LOWER_IS_CLOSER = ("mse", "relative_l2")


@dataclass(frozen=True)
class Metric:
    """One metric of all images and its random-pair baseline.

    Args:
        values (numpy.ndarray): One value an image, float64 [N].
        baseline (numpy.ndarray): The same metric between each original and other originals; empty without any.
    """

    values: np.ndarray
    baseline: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over the images."""
        return float(self.values.mean())

    @property
    def baseline_mean(self) -> float:
        """Mean over the random pairs, NaN without any."""
        return float(self.baseline.mean()) if self.baseline.size else math.nan


@dataclass(frozen=True)
class ReconstructionReport:
    """What `reconstruction_report` returns; index it by the metric's name.

    Args:
        metrics (dict): Name to `Metric`.
        recognised (numpy.ndarray): Whether each reconstruction passes for its original, bool [N].
        originals (numpy.ndarray): [N, C, H, W].
        reconstructions (numpy.ndarray): [N, C, H, W].
        data_range (float): Span of the values.
    """

    metrics: dict
    recognised: np.ndarray
    originals: np.ndarray
    reconstructions: np.ndarray
    data_range: float

    def __getitem__(self, name):
        return self.metrics[name]

    def __contains__(self, name):
        return name in self.metrics

    @property
    def outcome(self) -> str:
        """'recognisable' if at least half of the images pass, 'unrecognisable' if none, else 'partly'."""
        share = self.recognised.mean()
        if share == 0:
            return "unrecognisable"
        return "recognisable" if share >= 0.5 else "partly recognisable"

    def summary(self) -> str:
        """The metrics as a small table, baseline beside value, and the outcome."""
        lines = [f"{'metric':<14}{'mean':>10}{'random pair':>14}"]
        for name, metric in self.metrics.items():
            lines.append(f"{name:<14}{metric.mean:>10.4g}{metric.baseline_mean:>14.4g}")
        count = int(self.recognised.sum())
        lines.append(f"{self.outcome}: {count} of {len(self.recognised)} images")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON; an infinite or missing mean becomes None."""
        metrics = {name: {"mean": _finite(metric.mean), "random_pair": _finite(metric.baseline_mean)}
                   for name, metric in self.metrics.items()}
        return {"metrics": metrics, "outcome": self.outcome, "images": len(self.recognised),
                "recognised": int(self.recognised.sum())}

    def save_figure(self, path: Union[str, Path], *, title: str = "", most: int = 10) -> Path:
        """Draw originals, reconstructions and differences as three rows of a picture.

        Args:
            path (Union[str, Path]): File to write, its suffix says the format. Written whole or not at all.
            title (str): What the figure shows.
            most (int): Images drawn at most, the first ones.

        Returns:
            Path: the file.
        """
        from mindarmour.privacy.evaluation.inversion.reconstruction_figure import draw
        figure = draw(self, title, check.integer("most", most, low=1))
        path = Path(path)
        with replacing(path) as temporary:
            figure.savefig(temporary)
        return path


def _finite(value):
    return value if math.isfinite(value) else None


def _class_numbers(labels: np.ndarray, count: int) -> np.ndarray:
    """Classes int64 [N] of labels given as class numbers or, as documented, one-hot."""
    check.instance("labels", labels, np.ndarray)
    if labels.ndim == 2 and labels.shape[1] > 1 and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        labels = labels.argmax(1)
    if labels.dtype.kind not in "biu":
        raise TypeError(f"labels must be whole numbers, but have type {labels.dtype}.")
    return check_classes(labels, count=count)


def _relative_l2(original, other):
    length = np.linalg.norm(original)
    distance = np.linalg.norm(original - other)
    return distance / length if length else (0.0 if distance == 0 else math.inf)


def _correlation(original, other):
    """Pearson correlation of the pixels, 0 where one image is constant: blind to brightness and contrast."""
    a, b = original - original.mean(), other - other.mean()
    length = np.linalg.norm(a) * np.linalg.norm(b)
    return float(np.vdot(a, b) / length) if length else 0.0


def _distances(originals, others, data_range):
    """The pixel metrics of paired images, one float64 array a metric."""
    pairs = list(zip(originals, others))
    return {"mse": np.array([np.mean((a - b) ** 2) for a, b in pairs]),
            "psnr": np.array([compute_psnr(a, b, data_range) for a, b in pairs]),
            "ssim": np.array([compute_ssim(a, b, data_range, channel_axis=0) for a, b in pairs]),
            "relative_l2": np.array([_relative_l2(a, b) for a, b in pairs]),
            "correlation": np.array([_correlation(a, b) for a, b in pairs])}


def random_pairs(originals: np.ndarray, references: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices (original, reference) of pairs of different images, all of them or a fixed random choice."""
    distinct = np.array([[not np.array_equal(a, b) for b in references] for a in originals])
    first, second = np.nonzero(distinct)
    if len(first) > MOST_PAIRS:
        chosen = np.random.default_rng(seed).choice(len(first), MOST_PAIRS, replace=False)
        first, second = first[chosen], second[chosen]
    return first, second


def _confidence(network, images, labels):
    """Probability of the label, and whether it is the most likely class."""
    from mindarmour.privacy.evaluation.forward import predict_queries
    outputs = predict_queries(network, images.astype(np.float32))[:, 0].astype(np.float64)
    if labels.min() < 0 or labels.max() >= outputs.shape[1]:
        raise ValueError(f"labels must be classes from 0 to {outputs.shape[1] - 1}, the network's, but range from "
                         f"{labels.min()} to {labels.max()}.")
    table = softmax(checked_outputs("outputs of network", outputs, ndim=2), axis=1)
    return table[np.arange(len(labels)), labels], (table.argmax(1) == labels).astype(float)


def _class_metrics(network, reconstructions, references, labels, pairs):
    confidence, match = _confidence(network, reconstructions, labels)
    if len(pairs[0]) == 0:
        empty = np.empty(0)
        return {"confidence": Metric(confidence, empty), "label_match": Metric(match, empty)}
    other_confidence, other_match = _confidence(network, references[pairs[1]], labels[pairs[0]])
    return {"confidence": Metric(confidence, other_confidence), "label_match": Metric(match, other_match)}


def _beats(metric, limit):
    """Above the limit and above what 95 % of random pairs reach; without pairs nothing is."""
    if not metric.baseline.size:
        return np.zeros(len(metric.values), bool)
    return metric.values > max(limit, np.quantile(metric.baseline, BASELINE_QUANTILE))


def _recognised(metrics):
    """By SSIM or by correlation: a perfect shape on a grey ground has a low SSIM, and the eye does not mind."""
    return _beats(metrics["ssim"], RECOGNISABLE_SSIM) | _beats(metrics["correlation"], RECOGNISABLE_CORRELATION)


def reconstruction_report(original: np.ndarray, reconstructed: np.ndarray, *, data_range: float,
                          labels: Optional[np.ndarray] = None, network: Optional[Callable] = None,
                          references: Optional[np.ndarray] = None) -> ReconstructionReport:
    """Measure reconstructions, each metric beside its random-pair baseline.

    The baseline is the metric between each original and other real images: what an attack reaches that knows
    the kind of image and nothing of this one. Two digits on black have an SSIM near 0.3 although they share nothing
    but the background, so a value alone says little. A reconstruction counts as recognised if its SSIM exceeds
    both 0.3 (He et al. 2019) and 95 % of the random pairs, or its correlation both 0.7 and 95 % of them.

    Args:
        original (numpy.ndarray): True images [N, C, H, W], sides of at least 7.
        reconstructed (numpy.ndarray): Their reconstructions, same shape.
        data_range (float): Span of the values that images can take.
        labels (Union[numpy.ndarray, None]): True classes int [N], or one-hot [N, K].
        network (Union[Cell, None]): A classifier, better not the attacked one: adds `confidence` in the true
            class and `label_match`. Needs `labels`.
        references (Union[numpy.ndarray, None]): Other real images [M, C, H, W] for the baseline; None pairs the
            originals with each other.

    Returns:
        ReconstructionReport: metrics mse, psnr (dB), ssim, relative_l2, correlation, and confidence and
            label_match with a network.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If shapes do not fit, a value is not finite, or only one of labels and network is given.

    References:
        He, Zhang and Lee (2019), "Model inversion attacks against collaborative inference", section 4.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import reconstruction_report
        >>> images = np.random.default_rng(0).random((4, 1, 8, 8))
        >>> reconstruction_report(images, np.clip(images + 0.01, 0, 1), data_range=1).outcome
        'recognisable'
        >>> reconstruction_report(images, images[::-1], data_range=1).outcome
        'unrecognisable'
    """
    originals, reconstructions = check_images("original", original), check_images("reconstructed", reconstructed)
    if originals.shape != reconstructions.shape:
        raise ValueError(f"reconstructed must have the shape {originals.shape} of original, but has "
                         f"{reconstructions.shape}.")
    if (labels is None) != (network is None):
        raise ValueError("labels and network must be given together: the classifier is asked for the true class.")
    check.real("data_range", data_range, low=0)
    others = originals if references is None else check_images("references", references)
    if others.shape[1:] != originals.shape[1:]:
        raise ValueError(f"references must hold images of shape {originals.shape[1:]}, but have "
                         f"{others.shape[1:]}.")
    pairs = random_pairs(originals, others)
    baseline = _distances(originals[pairs[0]], others[pairs[1]], data_range)
    metrics = {name: Metric(values, baseline[name])
               for name, values in _distances(originals, reconstructions, data_range).items()}
    if network is not None:
        labels = _class_numbers(labels, len(originals))
        metrics.update(_class_metrics(network, reconstructions, others, labels, pairs))
    return ReconstructionReport(metrics, _recognised(metrics), originals, reconstructions, data_range)
