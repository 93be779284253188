"""Membership by quantile regression: one regression instead of shadow models."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.score_attacks import BLACK_BOX, checked_signals, just_above, result_of
from mindarmour.privacy.evaluation.membership.signals import Signals
from mindarmour.utils import _validate

_FOLDS = 4


class QuantileAttack:
    """Member if the confidence margin is higher than expected of a record with such features.

    A regression on public non-members predicts, from a record's features, the distribution of its margin
    z_y - max of the other logits under a model that did not train on it.

    Args:
        alpha (float): False positive rate at the attack's threshold, in (0, 1).
        method (str): 'gaussian' predicts mean and spread of the margin; 'quantile' its (1 - alpha)-quantile.
        seed (int): Seed of the regression.

    Threat model: black box; the attacker has public records that are surely not members, and trains nothing but the
    regression. It needs thousands of public records to gain on `LossAttack`.

    Guarantee: none for the regression itself; the threshold is set on a part of the public records that the
    regression has not seen, so the false positive rate is alpha in expectation.

    References:
        Bertran et al. 2023, "Scalable membership inference attacks via quantile regression", section 3.
    """

    def __init__(self, alpha: float = 0.01, method: str = "gaussian", seed: int = 0) -> None:
        self.alpha = _validate.real("alpha", alpha, low=0, high=1)
        self.method = _validate.choice("method", method, ("gaussian", "quantile"))
        self.seed = _validate.integer("seed", seed, low=0)

    def __call__(self, signals: Signals, public: Signals, features: np.ndarray,
                 public_features: np.ndarray) -> AttackResult:
        """Attack.

        Args:
            signals (Signals): Of the audited model on the audited records.
            public (Signals): Of the audited model on public non-members, disjoint from `signals`.
            features (numpy.ndarray): What is known of the audited records without the model, such as pixels
                [n, ...].
            public_features (numpy.ndarray): The same of the public records [m, ...].

        Returns:
            AttackResult, whose `decision()` is the attack at alpha.
        """
        checked_signals(signals)
        checked_signals(public, "public")
        inputs = _with_labels("features", features, signals)
        public_inputs = _with_labels("public_features", public_features, public)
        if public.is_member.any():
            raise ValueError(f"public must hold non-members only, but {int(public.is_member.sum())} are members.")
        held_out = np.random.default_rng(self.seed).random(len(public)) < 1 / _FOLDS
        rank = int(np.floor(self.alpha * (held_out.sum() + 1) + 1e-9))
        if rank < 1:
            raise ValueError(f"public must hold at least {_FOLDS} / alpha = {_FOLDS / self.alpha:.0f} records for "
                             f"alpha={self.alpha}, but got {len(public)}.")
        score = self._fit(public_inputs[~held_out], margin(public)[~held_out])
        calibration = np.sort(score(public_inputs[held_out], margin(public)[held_out]))
        return result_of(self, signals, score(inputs, margin(signals)), threshold=just_above(float(calibration[-rank])),
                         alpha=self.alpha, method=self.method,
                         threat_model=BLACK_BOX + ", and has public non-members")

    def _fit(self, inputs: np.ndarray, targets: np.ndarray) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Function (inputs, margins) -> scores."""
        if self.method == "quantile":
            bound = self._regressor(loss="quantile", quantile=1 - self.alpha).fit(inputs, targets)
            return lambda x, observed: observed - bound.predict(x)
        mean = self._regressor().fit(inputs, targets)
        # squares of out-of-fold residuals: those of the fitted records are too small
        log_square = np.log(self._residuals(inputs, targets) ** 2 + 1e-6)
        spread = self._regressor().fit(inputs, log_square)
        return lambda x, observed: (observed - mean.predict(x)) / np.exp(spread.predict(x) / 2)

    def _residuals(self, inputs, targets):
        from sklearn.model_selection import cross_val_predict
        return targets - cross_val_predict(self._regressor(), inputs, targets, cv=_FOLDS)

    def _regressor(self, **settings):
        from sklearn.ensemble import HistGradientBoostingRegressor
        return HistGradientBoostingRegressor(random_state=self.seed, **settings)


def margin(signals: Signals) -> np.ndarray:
    """z_y - max of the other logits [n]."""
    index = signals.labels[:, None]
    others = signals.logits.copy()
    np.put_along_axis(others, index, -np.inf, axis=1)
    return np.take_along_axis(signals.logits, index, axis=1)[:, 0] - others.max(axis=1)


def _with_labels(name: str, features: np.ndarray, signals: Signals) -> np.ndarray:
    array = np.asarray(features, np.float64)
    if array.ndim < 2 or len(array) != len(signals):
        raise ValueError(f"{name} must have one row per record, shape [{len(signals)}, ...], but got {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but has NaN or infinite entries.")
    return np.column_stack([array.reshape(len(array), -1), signals.labels])
