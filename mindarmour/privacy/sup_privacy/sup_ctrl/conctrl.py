"""The controller: it knows the schedule, chooses the masks and tells how sparse the network is."""
import weakref
from typing import cast

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindarmour.privacy.sup_privacy.sup_ctrl.cells import (
    ApplyMasks,
    DeWeightInCell,
    GradMaskInCell,
    progress_parameter,
)
from mindarmour.privacy.sup_privacy.sup_ctrl.layers import MaskLayerDes, get_one_mask_layer, match_layers
from mindarmour.privacy.sup_privacy.sup_ctrl.schedule import SuppressSchedule
from mindarmour.privacy.sup_privacy.sup_ctrl.selection import (
    GIVE_UP_BELOW,
    SMALL_LAYER,
    adjust_kept,
    grow_suppression,
    suppressed_count,
)
from mindarmour.privacy.sup_privacy.sup_ctrl.state import (
    MaskedLayer,
    SparsityRecord,
    fraction,
    total_and_two,
    zero_flags,
)
from mindarmour.utils._validate import choice, instance, integer, real
from mindarmour.utils.logger import LogUtil

__all__ = ["DeWeightInCell", "GradMaskInCell", "MaskLayerDes", "SparsityRecord", "SuppressCtrl",
           "SuppressPrivacyFactory", "get_one_mask_layer"]

LOGGER = LogUtil.get_instance()
TAG = "Suppress training."
GOOD_INTERVAL = (10, 20)  # steps between two choices, as the documentation advises


class SuppressPrivacyFactory:
    """Factory of controllers."""

    @staticmethod
    def create(networks, mask_layers, policy="local_train", end_epoch=10, batch_num=20, start_epoch=3,
               mask_times=1000, lr=0.05, sparse_end=0.90, sparse_start=0.0, *, seed=None):
        """A controller; see :class:`SuppressCtrl` for the arguments.

        Args:
            policy (str): 'local_train', the only policy.

        Raises:
            TypeError: `policy` is no str.
            ValueError: `policy` is another one.

        Examples:
            >>> from mindspore import nn
            >>> from mindarmour.privacy.sup_privacy import MaskLayerDes, SuppressPrivacyFactory
            >>> net = nn.Dense(20, 10)
            >>> ctrl = SuppressPrivacyFactory.create(net, [MaskLayerDes("weight", 0, False, False, -1)], lr=0.1)
            >>> ctrl.sparsity()
            {'weight': 0.0}
        """
        choice("policy", instance("policy", policy, str), ("local_train",))
        return SuppressCtrl(networks, mask_layers, end_epoch, batch_num, start_epoch, mask_times, lr, sparse_end,
                            sparse_start, seed=seed)


class SuppressCtrl(nn.Cell):
    """Chooses, step by step, the weights that a network has to do without.

    From `start_epoch` on the weights smallest in magnitude are set to 0 and held there, more and more of them, until a
    fraction `sparse_end` of each described layer is suppressed (:class:`SuppressSchedule` has the formula). The masks
    are Parameters of this Cell. Nothing else in the network changes, neither names nor gradients.
    `mindspore.save_checkpoint(ctrl, file)` keeps the masks and the position in the schedule, as does a checkpoint of a
    SuppressModel's train network; `load_param_into_net` brings them back.

    Args:
        networks (Cell): The network to train.
        mask_layers (list[MaskLayerDes]): The layers to suppress.
        end_epoch (int): Epoch in which the target is reached, from 1.
        batch_num (int): Steps of an epoch; compared with the data set when training begins.
        start_epoch (int): First epoch with suppression, from 1.
        mask_times (int): How often masks are chosen.
        lr (Union[float, None]): Learning rate of the first step, compared with the optimizer's. The
            suppression does not use it; None if there is nothing to compare.
        sparse_end (float): Fraction of suppressed weights at the end, in (0, 1).
        sparse_start (float): Fraction at the beginning of `start_epoch`, in [0, sparse_end).
        seed (Union[int, None]): Seed of the noise that `is_add_noise` asks for. None: `mindspore.get_seed()`,
            or fresh if that is not set. The same seed gives the same noise at the same step, after a resume
            too.

    Guarantee:
        None in the sense of differential privacy: which weights survive depends on the data. On top of a
        DPModel the masks are a function of weights that are private already, and cost nothing
        (post-processing; Dwork and Roth 2014, proposition 2.1).

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, a description fits no parameter or several, or a layer is so
            small or its `min_num` so large that nothing could ever be suppressed.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, networks, mask_layers, end_epoch, batch_num, start_epoch, mask_times, lr, sparse_end,
                 sparse_start, *, seed=None):
        super().__init__(auto_prefix=False)
        instance("networks", networks, nn.Cell)
        instance("mask_layers", mask_layers, list)
        self.schedule = SuppressSchedule(end_epoch, batch_num, start_epoch, mask_times, sparse_end, sparse_start)
        self.lr = None if lr is None else real("lr", lr, low=0)
        self.mask_layers = list(mask_layers)
        pairs = match_layers(networks.trainable_params(), mask_layers)
        if not pairs:
            raise ValueError("mask_layers must describe at least one layer, but got an empty list.")
        self._entropy = _entropy(seed)
        self._build(pairs)
        for des, weight in pairs:
            _refuse_unreachable(des, weight, sparse_end)
            des.inited = True
        self.mask_due = False
        self.target_sparsity = 0.0
        self.history = []
        self._checked_network = None
        self._hint_interval()

    def _build(self, pairs):
        self.grad_masks = nn.CellList([GradMaskInCell(weight) for _, weight in pairs], auto_prefix=False)
        self.apply_masks = ApplyMasks([DeWeightInCell(weight, grad_mask)
                                       for (_, weight), grad_mask in zip(pairs, self.grad_masks)])
        self.progress = progress_parameter()
        self._layers = tuple(MaskedLayer(des, weight, grad_mask.mask)
                             for (des, weight), grad_mask in zip(pairs, self.grad_masks))

    @property
    def batch_num(self):
        """Steps of an epoch."""
        return self.schedule.batch_num

    @property
    def position(self):
        """Steps behind us; 0 before the first. Loaded from a checkpoint with the masks."""
        return int(self.progress.asnumpy()[0])

    @property
    def masked_parameters(self):
        """Pairs (description, parameter)."""
        return [(layer.des, layer.weight) for layer in self._layers]

    def update_status(self, cur_epoch, cur_step, cur_step_in_epoch):
        """Move on to `cur_step`: sets `mask_due` and `target_sparsity`.

        Args:
            cur_epoch (int): Epoch, from 1.
            cur_step (int): Step of the run, from 1; never one that was passed already.
            cur_step_in_epoch (int): Step of the epoch, from 1.

        Raises:
            ValueError: The three contradict each other or `batch_num`, or `cur_step` is behind us.
        """
        integer("cur_step_in_epoch", cur_step_in_epoch, low=1, high=self.batch_num)
        position = self.position
        expected = (integer("cur_epoch", cur_epoch, low=1) - 1) * self.batch_num + cur_step_in_epoch
        if integer("cur_step", cur_step) != expected:
            raise ValueError(f"cur_step must be step {cur_step_in_epoch} of epoch {cur_epoch}, which is {expected} "
                             f"with batch_num={self.batch_num}, but got {cur_step}.")
        if cur_step <= position:
            raise ValueError(f"cur_step must lie behind the {position} steps taken, but got {cur_step}. Use a new "
                             f"SuppressCtrl for a new run.")
        self.mask_due = self.schedule.updates_until(cur_step) > self.schedule.updates_until(position)
        self.target_sparsity = float(self.schedule.sparsity(cur_step))
        self.progress.set_data(Tensor([cur_step], ms.int32))

    def update_mask(self, networks, cur_step, target_sparse=0.0):
        """Choose the masks anew and set the suppressed weights to 0.

        Args:
            networks (Cell): The network of the constructor, or a Cell that contains it.
            cur_step (int): Step of the run, from 1.
            target_sparse (float): Fraction to suppress; 0: what the schedule says at `cur_step`.

        Raises:
            ValueError: `networks` does not hold the described parameters.
        """
        self._check_network(networks)
        integer("cur_step", cur_step, low=1)
        target = real("target_sparse", target_sparse, low=0, high=1, closed="low")
        target = target or float(self.schedule.sparsity(cur_step))
        for index, layer in enumerate(self._layers):
            flat = layer.values
            magnitude = np.abs(flat)
            stop = suppressed_count(flat.size, target, layer.des.min_num)
            if flat.size > SMALL_LAYER:
                self.update_mask_layer_approximity(flat, magnitude, stop, index)
            else:
                threshold = np.partition(magnitude, stop - 1)[stop - 1] if stop else 0.0
                self.update_mask_layer(flat, threshold, stop, magnitude.max(), index)
        self.history.append(self._record(cur_step, target))

    def update_mask_layer(self, weight_array_flat, sparse_weight_thd, sparse_stop_pos, weight_abs_max, layer_index):
        """Choose the mask of a small layer, with its floor, cap and noise.

        Args:
            weight_array_flat (ndarray): Flat weights, [N].
            sparse_weight_thd (float): Largest magnitude that may be suppressed.
            sparse_stop_pos (int): Weights to be suppressed in all, at most.
            weight_abs_max (float): Largest magnitude. The first layer is left as it is if that is below 0.02.
            layer_index (int): Position in `mask_layers`.
        """
        layer = self._layer_at(layer_index, weight_array_flat)
        if layer_index == 0 and weight_abs_max < GIVE_UP_BELOW:
            LOGGER.warn(TAG, "no weight of the first layer %s exceeds %s: it is left as it is.", layer.weight.name,
                        GIVE_UP_BELOW)
            return
        below = int(np.count_nonzero(np.abs(weight_array_flat) <= sparse_weight_thd))
        kept = grow_suppression(weight_array_flat, layer.kept, min(below, sparse_stop_pos))
        des = layer.des
        values = adjust_kept(weight_array_flat, kept, is_add_noise=des.is_add_noise, is_lower_clip=des.is_lower_clip,
                             upper_bound=des.upper_bound, rng=self._noise_source(layer_index))
        layer.store(values, kept)

    def update_mask_layer_approximity(self, weight_array_flat, weight_array_flat_abs, actual_stop_pos, layer_index):
        """Choose the mask of a large layer. The documented name promises an approximation; the choice is exact.

        Args:
            weight_array_flat (ndarray): Flat weights, [N].
            weight_array_flat_abs (ndarray): Their magnitudes.
            actual_stop_pos (int): Weights to be suppressed in all.
            layer_index (int): Position in `mask_layers`.
        """
        layer = self._layer_at(layer_index, weight_array_flat)
        layer.store(weight_array_flat, grow_suppression(weight_array_flat_abs, layer.kept, actual_stop_pos))

    def reset_zeros(self):
        """Set every suppressed weight back to exactly 0. Needed where the compiled step does not do it itself."""
        self.apply_masks()

    def sparsity(self):
        """Parameter name to the fraction of its weights that the mask suppresses."""
        return {layer.weight.name: fraction(~layer.kept) for layer in self._layers}

    def calc_theoretical_sparse_for_conv(self):
        """What the masks suppress of the described convolutions: (all of them, the first, the second)."""
        return total_and_two([~layer.kept for layer in self._layers if layer.weight.ndim == 4])

    def calc_actual_sparse_for_conv(self, networks):
        """Share of zeros (up to 1e-7) in the described convolutions of `networks`: (all, the first, the second)."""
        names = [layer.weight.name for layer in self._layers if layer.weight.ndim == 4]
        return total_and_two([zero_flags(networks, name) for name in names])

    def calc_actual_sparse_for_fc1(self, networks):
        """Share of zeros (up to 1e-7) in the first described dense layer of `networks`; 0.0 if there is none."""
        names = [layer.weight.name for layer in self._layers if layer.weight.ndim == 2]
        return self.calc_actual_sparse_for_layer(networks, names[0]) if names else 0.0

    def calc_actual_sparse_for_layer(self, networks, layer_name):
        """Share of zeros (up to 1e-7) in the parameter called `layer_name`, described or not; 0.0 if there is none."""
        instance("layer_name", layer_name, str)
        return fraction(zero_flags(networks, layer_name))

    def progress_line(self):
        """One line: step, target and what is suppressed now."""
        record = self._record(self.position, self.target_sparsity)
        layers = ", ".join(f"{name} {value:.3f}" for name, value in record.layers.items())
        return f"step {record.step}: target {record.target:.3f}, suppressed {record.total:.3f} ({layers})"

    def print_paras(self):
        """Log the described layers with their shapes and sparsity at INFO."""
        for layer in self._layers:
            LOGGER.info(TAG, "%s %s: %r, suppressed %.3f", layer.weight.name, layer.weight.shape, layer.des,
                        fraction(~layer.kept))

    def _record(self, step, target):
        suppressed = {layer.weight.name: ~layer.kept for layer in self._layers}
        layers = {name: fraction(flags) for name, flags in suppressed.items()}
        return SparsityRecord(step, target, layers, fraction(np.concatenate(list(suppressed.values()))))

    def _noise_source(self, layer_index):
        return np.random.default_rng([cast(int, self._entropy), self.position, layer_index])

    def _layer_at(self, layer_index, flat):
        integer("layer_index", layer_index, low=0, high=len(self._layers) - 1)
        layer = self._layers[layer_index]
        if np.shape(flat) != (layer.weight.size,):
            raise ValueError(f"weight_array_flat must have the shape ({layer.weight.size},) for {layer.weight.name}, "
                             f"but got {np.shape(flat)}.")
        return layer

    def _check_network(self, networks):
        if self._checked_network is not None and self._checked_network() is networks:
            return
        instance("networks", networks, nn.Cell)
        held = {id(item) for item in networks.get_parameters()}
        missing = [layer.weight.name for layer in self._layers if id(layer.weight) not in held]
        if missing:
            raise ValueError(f"networks must hold the parameters this SuppressCtrl was built for, but has not "
                             f"{', '.join(missing)}. Pass the network given to SuppressCtrl.")
        self._checked_network = weakref.ref(networks)

    def _hint_interval(self):
        interval = self.schedule.total / self.schedule.mask_times
        low, high = GOOD_INTERVAL
        if not low <= interval <= high:
            LOGGER.info(TAG, "masks are chosen every %.4g steps; %d to %d are advised: set mask_times to about %d.",
                        interval, low, high, max(1, round(self.schedule.total / 15)))


def _entropy(seed):
    if seed is None:
        seed = ms.get_seed()
    if seed is None:
        return np.random.SeedSequence().entropy
    return integer("seed", seed, low=0)


def _refuse_unreachable(des, weight, sparse_end):
    if des.min_num > weight.size:
        raise ValueError(f"min_num must be at most the {weight.size} weights of {weight.name}, but got {des.min_num}.")
    if suppressed_count(weight.size, sparse_end, des.min_num) == 0:
        raise ValueError(f"sparse_end={sparse_end} with min_num={des.min_num} never suppresses any of the "
                         f"{weight.size} weights of {weight.name}. Lower min_num, raise sparse_end or leave the "
                         f"layer out.")
