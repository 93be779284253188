"""Share a model update under differential privacy: few weights, each with noise."""
from __future__ import annotations

import math
import re
import warnings
from typing import Optional, Union

import numpy as np
from mindspore import Parameter, nn

from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.accounting.events import ReleaseEvent
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.privacy.release.sparse_vector import PublishedSparseVector, SparseVector
from mindarmour.utils import _validate
from mindarmour.utils.parameters import assign, values_of
from mindarmour.utils.secure_random import SecureStream

_FORMS = {"sound": SparseVector, "published": PublishedSparseVector}
_Model = Union[nn.Cell, "dict[str, Parameter]"]
# The last part of a name such as 'bn1.moving_variance' or 'running_var'.
_VARIANCE = re.compile(r"(^|_)var(iance)?$")
# Share of the base model's variance below which noise may not take it.
_LEAST_VARIANCE = 0.1


class ModelSanitizer:
    """Release a proportion of a model's update by the sparse vector technique; the rest stays as it was.

    `sanitize` divides the update (model minus base model) by `epochs`, clips it to [-gamma, gamma], compares
    each magnitude with the threshold tau under Laplace noise, gives the values that pass fresh Laplace noise
    until the stated proportion of all weights is released, multiplies by `epochs` again and adds the base
    model. Weights that were not released get their base value, and so does every parameter that is no
    floating-point number. Moving variances never fall below a tenth of the base model's: below 0 the network would
    answer NaN. Cutting a released value costs no privacy. A NaN in the model counts as no update, an infinity as one
    at the clipping bound: a refusal would tell about the update.

    Args:
        epochs (int): Local training epochs between the base model and the model to sanitize, at least 1.
        eps1 (float): Budget of the noise on the threshold, above 0.
        eps3 (float): Budget of the noise on the released values, above 0.
        eps2 (float, optional): Budget of the noise on the comparisons, above 0. None means
            (2 * release_proportion * sensitivity) ** (2/3) * eps1, the documented default. The split that
            wins most is eps2 = (2 * c) ** (2/3) * eps1 for c released weights (Lyu et al. 2017, equation 12).
        release_proportion (float): Share of the weights to release, in [0, 1).
        sensitivity (float): How far two updates may differ in one weight, after division and clipping; at
            least 2 * gamma, since nothing else bounds it.
        gamma (float): Clipping bound of one weight's update per epoch, above 0.
        tau (float): Threshold for magnitudes, at least 0. Choose it without looking at the update.
        base_model (Union[Cell, dict], optional): Where the training started: a Cell or a dict of Parameters
            by name. May be set later, and again for every round; its values are copied.
        form (str): 'sound' (default) or 'published', see Guarantee.
        ledger (Ledger, optional): Where to record; None makes a new one.

    Guarantee:
        'sound': each call of `sanitize` is (eps1 + eps2 + eps3)-differentially private, and calls add up. The
        unit is the whole update of one client: any two updates whatsoever are neighbours. That is local
        differential privacy of the update, so the number does not compare with the epsilon of DP-SGD, which
        hides one example. tau, gamma and the proportion must not be computed from the update.

        'published': the listing of Li et al. 2019. It differs in three places, and the ledger therefore
        states epsilon = infinity: the noise is added to the unclipped value, whose change nothing bounds
        (clipping afterwards does not repair that); the noise on the threshold is drawn anew for every
        comparison, which is not the mechanism that was proven; its scale takes `sensitivity` where the
        magnitude's is half of it (harmless). `claimed_epsilon` holds the number that the paper would state.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget that is not positive, a proportion outside [0, 1), sensitivity below 2 * gamma,
            no base model or a NaN in it, a model whose parameters differ from the base model's in name, type or
            shape, or budgets that do not fit one grid.

    References:
        Li et al. 2019, "Privacy-preserving federated brain tumour segmentation", algorithm 1.
        Lyu, Su, Li 2017, "Understanding the sparse vector technique for differential privacy", algorithm 7
        and theorem 4; its table of unsound variants.

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.release import ModelSanitizer
        >>> network = nn.Dense(8, 2)
        >>> sanitizer = ModelSanitizer(epochs=1, eps1=1.0, eps3=1.0, base_model=network)
        >>> # train the network locally, then
        >>> sanitizer.sanitize(network) <= 7
        True
    """

    def __init__(self, epochs: int, eps1: float, eps3: float, eps2: Optional[float] = None,
                 release_proportion: float = 0.4, sensitivity: float = 1.0, gamma: float = 0.5, tau: float = 0.1, *,
                 base_model: Optional[_Model] = None, form: str = "sound", ledger: Optional[Ledger] = None) -> None:
        self._epochs = _validate.integer("epochs", epochs, low=1)
        self._proportion = _validate.real("release_proportion", release_proportion, low=0, high=1,
                                          closed="low")
        self._clip = _validate.real("gamma", gamma, low=0)
        sensitivity = _checked_sensitivity(sensitivity, self._clip)
        eps1 = _validate.real("eps1", eps1, low=0)
        eps3 = _validate.real("eps3", eps3, low=0)
        if eps2 is None:
            # a proportion of 0 releases nothing and needs no budget, but the formula must not divide by it
            eps2 = (2 * self._proportion * sensitivity) ** (2 / 3) * eps1 or eps1
        eps2 = _validate.real("eps2", eps2, low=0)
        tau = _validate.real("tau", tau, low=0, closed="low")
        self._form = _validate.choice("form", form, tuple(_FORMS))
        self._technique = _FORMS[form](eps1, eps2, eps3, sensitivity, self._clip, tau)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)
        self._base = {}
        if base_model is not None:
            self.base_model = base_model
        if form == "published":
            warnings.warn("form='published' bounds no epsilon: noise goes onto unclipped updates, and the "
                          "ledger states infinity. Use form='sound' for a guarantee.", PrivacyWarning,
                          stacklevel=2)

    @property
    def eps1(self) -> float:
        """Budget of the noise on the threshold."""
        return self._technique.eps_threshold

    @property
    def eps2(self) -> float:
        """Budget of the noise on the comparisons."""
        return self._technique.eps_query

    @property
    def eps3(self) -> float:
        """Budget of the noise on the released values."""
        return self._technique.eps_release

    @property
    def claimed_epsilon(self) -> float:
        """eps1 + eps2 + eps3."""
        return self.eps1 + self.eps2 + self.eps3

    @property
    def epsilon(self) -> float:
        """Cost of one call of `sanitize`: the claimed sum for the sound form, infinity for the published."""
        return self.claimed_epsilon if self._form == "sound" else math.inf

    @property
    def base_model(self) -> dict[str, np.ndarray]:
        """Values of the base model by parameter name, as NumPy arrays; empty until set."""
        return {name: value.copy() for name, value in self._base.items()}

    @base_model.setter
    def base_model(self, model: _Model) -> None:
        values = {name: values_of(parameter) for name, parameter in _parameters("base_model", model).items()}
        _refuse_non_finite("base_model", values)
        self._base = values

    def sanitize(self, model: _Model) -> int:
        """Replace the model's parameters, in place, by what may be shared, and record the event.

        Args:
            model (Union[Cell, dict]): The trained model, with the base model's parameter names and shapes.

        Returns:
            int, how many weights were released: at most the stated proportion of all (rounded down), fewer
            only if too few passed the threshold.
        """
        parameters = _parameters("model", model)
        base, update = self._update(parameters)
        count = math.floor(self._proportion * len(update))
        released = np.empty(0, np.int64)
        shared = np.concatenate([value.ravel() for value in base.values()]) if base else update
        if count:
            stream = SecureStream()
            released = self._technique.select(update, count, stream)
            values = self._technique.release(update[released], count, stream)
            shared[released] += (self._epochs * values).astype(shared.dtype)
            self.ledger.record(self._event())
        self._write(parameters, base, shared)
        return len(released)

    def _update(self, parameters: dict[str, Parameter]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The base values that may change, and the flat update per epoch."""
        values = {name: values_of(parameter) for name, parameter in parameters.items()}
        _refuse_mismatch(self._base, values)
        floats = {name: value for name, value in self._base.items() if _is_float(value)}
        with np.errstate(over="ignore", invalid="ignore"):
            parts = [(_widened(values[name]) - value).ravel() / self._epochs for name, value in floats.items()]
        update = np.concatenate(parts) if parts else np.empty(0, np.float32)
        return floats, np.nan_to_num(update, copy=False, nan=0.0)  # infinities become the largest floats, then clipped

    def _write(self, parameters: dict[str, Parameter], floats: dict[str, np.ndarray], shared: np.ndarray) -> None:
        start = 0
        for name, parameter in parameters.items():
            value = self._base[name]
            if name in floats:
                noised = shared[start:start + value.size].reshape(value.shape)
                start += value.size
                value = np.maximum(noised, _LEAST_VARIANCE * value) if _is_variance(parameter, value) else noised
            assign(parameter, value)

    def _event(self) -> ReleaseEvent:
        return ReleaseEvent(self.epsilon, 0.0, f"sparse vector sharing, {self._form} form", "whole update")


def _checked_sensitivity(sensitivity: float, gamma: float) -> float:
    sensitivity = _validate.real("sensitivity", sensitivity, low=0)
    if sensitivity < 2 * gamma:
        raise ValueError(f"sensitivity = {sensitivity} is below 2 * gamma = {2 * gamma}, but values clipped "
                         f"to [-{gamma}, {gamma}] can differ by that much. Raise sensitivity or lower gamma.")
    return sensitivity


def _parameters(name: str, model: _Model) -> dict[str, Parameter]:
    """Parameters by name, of a Cell or of a dict."""
    if isinstance(model, dict):
        parameters = dict(model)
    elif hasattr(model, "parameters_and_names"):
        parameters = {parameter.name: parameter for _, parameter in model.parameters_and_names()}
    else:
        raise TypeError(f"{name} must be a Cell or a dict of Parameters, but got {type(model).__name__}.")
    if not parameters:
        raise ValueError(f"{name} must have at least one Parameter, but got none.")
    if not all(isinstance(parameter, Parameter) for parameter in parameters.values()):
        raise TypeError(f"{name} must hold Parameters only.")
    return parameters


def _widened(value: np.ndarray) -> np.ndarray:
    """At least float32, in which the difference of two float16 numbers cannot overflow."""
    return value.astype(np.promote_types(value.dtype, np.float32))


def _is_variance(parameter: Parameter, base: np.ndarray) -> bool:
    """A statistic that is positive by nature: called a variance, or not trained and positive everywhere."""
    called = _VARIANCE.search(parameter.name.lower().rsplit(".", 1)[-1])
    return bool((base >= 0).all() and (called or (not parameter.requires_grad and (base > 0).all())))


def _is_float(value: np.ndarray) -> bool:
    return np.issubdtype(value.dtype, np.floating)


def _refuse_mismatch(base: dict[str, np.ndarray], values: dict[str, np.ndarray]) -> None:
    if not base:
        raise ValueError("base_model is not set: assign the model that training started from first.")
    missing, extra = sorted(base.keys() - values.keys()), sorted(values.keys() - base.keys())
    if missing or extra:
        raise ValueError(f"model does not match base_model: missing parameters {missing}, unknown parameters "
                         f"{extra}. Sanitize the model that was trained from the base model.")
    for name, value in base.items():
        if value.shape != values[name].shape or value.dtype != values[name].dtype:
            raise ValueError(f"model does not match base_model: parameter '{name}' is {values[name].dtype}"
                             f"{values[name].shape}, but the base is {value.dtype}{value.shape}.")


def _refuse_non_finite(name: str, values: dict[str, np.ndarray]) -> None:
    for parameter, value in values.items():
        if _is_float(value) and not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, but parameter '{parameter}' holds NaN or infinity; "
                             "train again with a smaller learning rate.")
