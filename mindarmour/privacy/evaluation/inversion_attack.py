"""White-box inversion: find the images whose features under a known network are the ones observed."""
from __future__ import annotations

from typing import Optional, Union

import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.evaluation.forward import evaluation_state
from mindarmour.privacy.evaluation.inversion.checks import check_bound, check_input_shape, check_weights
from mindarmour.privacy.evaluation.inversion.projected_descent import Descent, mean_square, minimise, total_variation
from mindarmour.privacy.evaluation.inversion.reconstruction import reconstruction_report
from mindarmour.utils import _validate as check

SIGN_STEP = 0.01
ADAM_STEP = 0.02
START_NOISE = 0.05


class PerImageInversionLoss(nn.Cell):
    """Loss of each image: w0 * relative feature error + w1 * total variation + w2 * mean square of the image.

    Args:
        network (Cell): From images to features.
        weights (Union[list, tuple]): The three weights.

    Inputs:
        images (Tensor): [B, C, H, W].
        target_features (Tensor): [B, ...].

    Outputs:
        Tensor, float32 [B].

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``
    """

    def __init__(self, network, weights):
        super().__init__(auto_prefix=False)
        self.network = network
        self.feature_weight, self.variation_weight, self.energy_weight = check_weights(weights)

    def construct(self, images, target_features):
        power = mean_square(target_features)
        # an all-zero target has no scale of its own
        power = ops.where(power > 0, power, ops.ones_like(power))
        error = mean_square(self.network(images) - target_features) / power
        return (self.feature_weight * error + self.variation_weight * total_variation(images)
                + self.energy_weight * mean_square(images))


class InversionLoss(nn.Cell):
    """Mean over the batch of `PerImageInversionLoss`, with the same arguments.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Examples:
        >>> import mindspore as ms
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.evaluation.inversion_attack import InversionLoss
        >>> images = ms.Tensor(np.ones((2, 1, 8, 8), np.float32))
        >>> print(InversionLoss(nn.Flatten(), (1, 0.2, 5))(images, ms.ops.zeros((2, 64))))
        6.0
    """

    def __init__(self, network, weights):
        super().__init__(auto_prefix=False)
        self.per_image = PerImageInversionLoss(network, weights)

    def construct(self, images, target_features):
        return self.per_image(images, target_features).mean()








class Evaluation(tuple):
    """The documented triple (relative L2, SSIM, confidence or None), with the whole report beside it.

    Attributes:
        report (ReconstructionReport): Every metric with its baseline, and the outcome.
    """

    def __new__(cls, report):
        self = super().__new__(cls, (report["relative_l2"].mean, report["ssim"].mean,
                                     report["confidence"].mean if "confidence" in report else None))
        self.report = report
        return self


class ImageInversionAttack:
    """Reconstruct images from the features that a known network computed from them.

    The images start near grey and descend, all in one batch and one compiled step, to
    w0 * MSE(f(x), t) / MSE(t, 0) + w1 * TV(x) + w2 * MSE(x, 0), kept inside `input_bound` after every step. The
    iterate with the lowest loss is returned. With w1 and w2 near zero this is regularised maximum likelihood
    estimation.

    Threat model: white box. The attacker knows the weights of the layers that made the features (the client's part
    in split inference) and sees the features; nothing else. Success needs features that keep the image: the deeper
    the layer, the worse the picture.

    Args:
        network (Cell): From images to features, such as the first layers of a classifier.
        input_shape (tuple): Shape of one image as the network takes it, channels first.
        input_bound (Union[list, tuple]): (low, high) of the values of an image.
        loss_weights (Union[list, tuple]): Positive weights of features, total variation and energy. The defaults
            are those of the documentation and lean to smooth, dark images; (1, 1e-6, 1e-6) trusts the features
            alone and is the choice for shallow layers.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If a bound, weight or side is out of range or their number is wrong.

    References:
        Mahendran and Vedaldi (2015), "Understanding deep image representations by inverting them".
        He, Zhang and Lee (2019), "Model inversion attacks against collaborative inference", algorithm 1.

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.evaluation import ImageInversionAttack
        >>> attack = ImageInversionAttack(nn.Conv2d(1, 4, 3), (1, 8, 8), (0, 1), (1, 1e-6, 1e-6))
        >>> attack.generate(np.zeros((2, 4, 8, 8), np.float32), iters=5).shape
        (2, 1, 8, 8)
    """

    def __init__(self, network: nn.Cell, input_shape: tuple, input_bound: Union[list, tuple],
                 loss_weights: Union[list, tuple] = (1, 0.2, 5)) -> None:
        self._network = check.instance("network", network, nn.Cell)
        self._shape = check_input_shape(input_shape)
        self._bound = check_bound(input_bound)
        self._weights = check_weights(loss_weights)

    def generate(self, target_features: np.ndarray, iters: int = 100, *, method: str = "adam",
                 lr: Optional[float] = None, seed: Optional[int] = None) -> np.ndarray:
        """Images whose features are close to the target.

        Args:
            target_features (numpy.ndarray): Features [N, ...], one row an image.
            iters (int): Steps.
            method (str): 'adam', or 'sign' for a fixed step along the sign of the gradient.
            lr (Union[float, None]): First step in units of the image's values; None takes 2 % of the span of
                `input_bound` for 'adam' and 0.01 for 'sign'.
            seed (Union[int, None]): Makes the random start repeat; None draws a fresh one.

        Returns:
            numpy.ndarray, float32 [N, *input_shape], inside `input_bound`.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If the features do not have the network's output shape or are not finite, or a number is
                out of range.
        """
        low, high = self._bound
        rate = lr if lr is not None else (ADAM_STEP * (high - low) if method == "adam" else SIGN_STEP)
        descent = Descent(self._bound, iters, method, rate)
        seed = None if seed is None else check.integer("seed", seed, low=0)
        target = self._check_target(target_features)
        loss = PerImageInversionLoss(self._network, self._weights)
        with evaluation_state(self._network):
            return minimise(loss, self._start(len(target), method, seed), Tensor(target), descent)[0]

    def _start(self, count, method, seed):
        """Near black for 'sign', as documented; near grey for 'adam' (He et al. 2019)."""
        low, high = self._bound
        noise = START_NOISE * np.random.default_rng(seed).random((count, *self._shape))
        if method == "sign":
            return np.clip(noise, low, high)
        return (low + high) / 2 + (high - low) * (noise - START_NOISE / 2)

    def _check_target(self, target):
        check.instance("target_features", target, np.ndarray)
        with evaluation_state(self._network):
            expected = self._network(Tensor(np.zeros((1, *self._shape), np.float32))).shape[1:]
        if target.ndim < 2 or target.shape[1:] != expected or len(target) == 0:
            raise ValueError(f"target_features must have shape {('N', *expected)}, as the network's output for "
                             f"images of shape {self._shape}, but have {target.shape}.")
        if not np.isfinite(target).all():
            raise ValueError("target_features must be finite, but hold NaN or infinity.")
        return target.astype(np.float32)

    def evaluate(self, original_images: np.ndarray, inversion_images: np.ndarray,
                 labels: Optional[np.ndarray] = None, new_network: Optional[nn.Cell] = None) -> Evaluation:
        """How close the images came.

        Args:
            original_images (numpy.ndarray): The true images [N, C, H, W], each side at least 7.
            inversion_images (numpy.ndarray): The reconstructions, of the same shape.
            labels (Union[numpy.ndarray, None]): True classes int [N], or one-hot [N, K].
            new_network (Union[Cell, None]): A classifier, better not the attacked one, whose confidence in the
                true class is measured. Needs `labels`.

        Returns:
            Evaluation: a tuple (mean relative L2 distance, mean SSIM over the span of `input_bound`, mean
            confidence or None) whose attribute `report` holds PSNR, the random-pair baselines and the outcome.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If shapes or the number of labels do not fit.
        """
        if new_network is not None and labels is None:
            raise ValueError("labels must be given with new_network: its confidence is that of the true class.")
        low, high = self._bound
        report = reconstruction_report(original_images, inversion_images, data_range=high - low,
                                       labels=labels if new_network is not None else None, network=new_network)
        return Evaluation(report)
