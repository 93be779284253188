"""The likelihood ratio attack."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.score_attacks import checked_signals, result_of
from mindarmour.privacy.evaluation.membership.shadow_models import ShadowModels, equal_shares
from mindarmour.privacy.evaluation.membership.signals import Signals, logit_scaled_confidence
from mindarmour.utils import _validate

# from so many models on, a variance per record beats a common one (Carlini et al. 2022, figure 9)
ENOUGH_FOR_OWN_VARIANCE = 64
MINIMUM_MODELS = 4
_AS_GOOD_AS_NORMAL = 1e8
_SMALLEST_TAIL = 1e-300


class LiRA:
    """Score: how much likelier the model's confidence is if it trained on the record than if it did not.

    The confidence phi = log p_y - log(1 - p_y) is about normal over trainings. From the shadow models come its mean
    with and without the record; the score is the log ratio of the two densities, averaged over augmented queries.

    Args:
        mode (str): 'online' compares with models trained with and without the record; 'offline' only with those
            trained without (a one-sided test, weaker, but new records need no new shadow models).
        variance (str): 'global' for one variance of all records, 'per_example' for each its own, 'shrinkage' in
            between (each record's variance is drawn to a common value as far as the spread of the variances
            suggests, and the density becomes a Student t), 'auto' for 'shrinkage' below 64 models and
            'per_example' from there on.

    Threat model: black box; the attacker knows the training recipe and has records of the population, among them
    the audited ones, to train shadow models on.

    References:
        Carlini et al. 2022, "Membership inference attacks from first principles", algorithm 1 (online), equation 4
        (offline). Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression",
        section 6.2 (shrinkage of variances).

    Examples:
        >>> from mindarmour.privacy.evaluation import LiRA
        >>> LiRA(mode="online", variance="global")  # doctest: +ELLIPSIS
        <mindarmour.privacy.evaluation.membership.lira.LiRA object at ...>
    """

    def __init__(self, mode: str = "online", variance: str = "auto") -> None:
        self.mode = _validate.choice("mode", mode, ("online", "offline"))
        self.variance = _validate.choice("variance", variance, ("auto", "global", "per_example", "shrinkage"))

    def __call__(self, signals: Signals, shadow_models: ShadowModels, *, exclude: Sequence[int] = ()) -> AttackResult:
        """Attack.

        Args:
            signals (Signals): Of the audited model; its ids are positions in the shadow models' data set.
            shadow_models (ShadowModels): Trained shadow models, at least four.
            exclude (Sequence[int]): Shadow models to leave out.

        Returns:
            AttackResult.
        """
        checked_signals(signals)
        _validate.instance("shadow_models", shadow_models, ShadowModels)
        shadow, trained = shadow_models.statistics(logit_scaled_confidence, signals, exclude=exclude,
                                                   minimum=MINIMUM_MODELS)
        observed = logit_scaled_confidence(signals.queries, signals.labels)
        kind = self._kind(len(shadow))
        inside, outside = equal_shares(trained)
        without = Predictive(shadow, outside, kind)
        if self.mode == "online":
            scores = Predictive(shadow, inside, kind).log_density(observed) - without.log_density(observed)
        else:
            scores = without.surprise(observed)
        return result_of(self, signals, scores.mean(axis=1), mode=self.mode, variance=kind, models=len(shadow),
                         threat_model="black box with shadow models: the attacker can train models on the same "
                                      "population with the same recipe")

    def _kind(self, models: int) -> str:
        if self.variance != "auto":
            return self.variance
        return "per_example" if models >= ENOUGH_FOR_OWN_VARIANCE else "shrinkage"


class Predictive:
    """Distribution of phi per record and query, fitted on the shadow models that `mask` picks.

    Args:
        values (numpy.ndarray): phi [models, n, queries].
        mask (numpy.ndarray): Which models count for which record [models, n].
        kind (str): 'global', 'per_example' or 'shrinkage'.
    """

    def __init__(self, values: np.ndarray, mask: np.ndarray, kind: str) -> None:
        weights = mask[:, :, None].astype(float)
        count = weights.sum(axis=0)
        if count.min() < 2:
            raise ValueError(f"num_models must leave each record in and out of at least 2 training sets, but one has "
                             f"{int(count.min())}. Train more shadow models or exclude fewer.")
        self.mean = (values * weights).sum(axis=0) / count
        variance = (((values - self.mean) * weights) ** 2).sum(axis=0) / (count - 1)
        self._fit_scale(variance, count - 1, kind)
        if kind == "shrinkage":
            self.scale = self.scale * np.sqrt(1 + 1 / count)

    def _fit_scale(self, variance: np.ndarray, freedom: np.ndarray, kind: str) -> None:
        pooled = (variance * freedom).sum(axis=0) / freedom.sum(axis=0)
        # a model that ignores its data gives variance 0: keep densities finite
        floor = np.maximum(pooled * 1e-6, 1e-12)
        if kind == "per_example":
            self.freedom, squared = np.array(np.inf), variance
        elif kind == "global":
            self.freedom, squared = np.array(np.inf), np.broadcast_to(pooled, variance.shape)
        else:
            self.freedom, squared = shrink_variances(np.maximum(variance, floor), freedom)
        self.scale = np.sqrt(np.maximum(squared, floor))

    def _standardised(self, observed: np.ndarray) -> np.ndarray:
        return (observed - self.mean) / self.scale

    def log_density(self, observed: np.ndarray) -> np.ndarray:
        """Log density at `observed` [n, queries]."""
        return _log_density(self._standardised(observed), self.freedom) - np.log(self.scale)

    def surprise(self, observed: np.ndarray) -> np.ndarray:
        """-log P(a model without the record is at least as confident): orders like equation 4, without saturating."""
        return -_log_tail(self._standardised(observed), self.freedom)


def _log_density(x: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Log density of Student's t; of the normal distribution from very many degrees of freedom on."""
    from scipy import stats
    normal = np.broadcast_to(freedom > _AS_GOOD_AS_NORMAL, x.shape)
    return np.where(normal, stats.norm.logpdf(x), stats.t.logpdf(x, np.where(normal, 1.0, freedom)))


def _log_tail(x: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """log P(X >= x), finite. Beyond the range of doubles P is the density times (1 + x^2 / freedom) / x: exact as x
    grows, and Mills' ratio in the normal case."""
    from scipy import stats
    normal = np.broadcast_to(freedom > _AS_GOOD_AS_NORMAL, x.shape)
    degrees = np.where(normal, 1.0, freedom)
    tail = stats.t.sf(x, degrees)
    far = tail < _SMALLEST_TAIL
    distance = np.where(far, x, 1.0)
    beyond = stats.t.logpdf(distance, degrees) + np.log1p(distance ** 2 / degrees) - np.log(distance)
    exact = np.log(np.where(far, 1.0, tail))
    return np.where(normal, stats.norm.logsf(x), np.where(far, beyond, exact))


def shrink_variances(variance: np.ndarray, freedom: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior degrees of freedom and variances under a scaled inverse chi-square prior fitted to `variance`.

    The prior's parameters match the mean and the variance of log(variance) (Smyth 2004, section 6.2). Where the
    variances scatter no more than sampling explains, the prior is a point: one common variance.

    Args:
        variance (numpy.ndarray): Sample variances [n, queries], positive.
        freedom (numpy.ndarray): Their degrees of freedom, same shape or [n, 1].
    """
    from scipy.special import digamma, polygamma
    half = np.broadcast_to(freedom, variance.shape) / 2
    centred = np.log(variance) - digamma(half) + np.log(half)
    excess = centred.var(axis=0) - polygamma(1, half).mean(axis=0)
    prior_freedom = np.array([2 * inverse_trigamma(value) if value > 0 else np.inf for value in excess])
    correction = np.array([digamma(d / 2) - np.log(d / 2) if np.isfinite(d) else 0.0 for d in prior_freedom])
    prior_variance = np.exp(centred.mean(axis=0) + correction)
    weight = np.where(np.isinf(prior_freedom), 1.0, prior_freedom / (np.minimum(prior_freedom, 1e12) + freedom))
    return prior_freedom + freedom, weight * prior_variance + (1 - weight) * variance


def inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = `value` > 0, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma
    if value > 1e7:
        return 1 / np.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-10:
            break
    return x
