"""Training with suppressed weights behind MindSpore's Model."""
from mindspore import nn
from mindspore.train import Model

from mindarmour.privacy.sup_privacy.mask_monitor.masker import SuppressMasker, as_list
from mindarmour.privacy.sup_privacy.sup_ctrl.conctrl import SuppressCtrl
from mindarmour.privacy.sup_privacy.train.checks import check_optimizer
from mindarmour.utils._validate import instance

__all__ = ["SuppressModel", "SuppressedStep", "TrainOneStepCell"]


class SuppressedStep(nn.Cell):
    """Any train step, followed inside the same compiled graph by setting the suppressed weights to 0.

    What the optimizer did does not matter, be it momentum, weight decay, an adaptive rate or a skipped step:
    the suppressed weights are exactly 0 when the step ends.

    Args:
        train_cell (Cell): One training step, such as `mindspore.nn.TrainOneStepCell`.
        suppress_ctrl (SuppressCtrl): Holds the masks.

    Inputs:
        - **inputs** - Those of `train_cell`.

    Outputs:
        Those of `train_cell`.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, train_cell, suppress_ctrl):
        super().__init__(auto_prefix=False)
        self.train_cell = instance("train_cell", train_cell, nn.Cell)
        self.apply_masks = instance("suppress_ctrl", suppress_ctrl, SuppressCtrl).apply_masks
        self.progress = suppress_ctrl.progress  # so that a checkpoint of this step holds the position
        if train_cell.get_inputs() is not None:
            self.set_inputs(*train_cell.get_inputs())

    def construct(self, *inputs):
        outputs = self.train_cell(*inputs)
        self.apply_masks()
        return outputs


class TrainOneStepCell(SuppressedStep):
    """A suppressed training step for loops written by hand.

    Args:
        network (Cell): Network that returns the loss.
        optimizer (Optimizer): Updates the parameters.
        sens (float): Scale of the loss, as in `mindspore.nn.TrainOneStepCell`. Default: 1.0.
        suppress_ctrl (SuppressCtrl): Holds the masks; required.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The controller contradicts the optimizer.
    """

    def __init__(self, network, optimizer, sens=1.0, *, suppress_ctrl):
        instance("suppress_ctrl", suppress_ctrl, SuppressCtrl)
        check_optimizer(suppress_ctrl, instance("optimizer", optimizer, nn.Optimizer))
        super().__init__(nn.TrainOneStepCell(network, optimizer, sens), suppress_ctrl)


class SuppressModel(Model):
    """A Model that trains with suppressed weights, in graph mode as in PyNative.

    Args:
        network (Cell): The network to train.
        loss_fn (Cell): Loss function.
        optimizer (Optimizer): Any optimizer of MindSpore.
        kwargs: Further arguments of `mindspore.train.Model`, such as `metrics` or `loss_scale_manager`.

    Raises:
        TypeError: `network` is no Cell or `optimizer` no Optimizer.

    Examples:
        >>> import mindspore as ms
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.sup_privacy import (MaskLayerDes, SuppressMasker, SuppressModel,
        ...                                             SuppressPrivacyFactory)
        >>> rng = np.random.default_rng(1)
        >>> data = ms.dataset.NumpySlicesDataset({"x": rng.random((80, 6), np.float32),
        ...                                       "y": rng.random((80, 5), np.float32)}).batch(8)
        >>> net = nn.Dense(6, 5)
        >>> model = SuppressModel(net, nn.MSELoss(), nn.Momentum(net.trainable_params(), 0.1, 0.9))
        >>> layers = [MaskLayerDes("weight", 0, False, False, -1)]
        >>> ctrl = SuppressPrivacyFactory.create(net, layers, end_epoch=4, batch_num=10, start_epoch=2,
        ...                                      mask_times=30, lr=0.1)
        >>> model.link_suppress_ctrl(ctrl)
        >>> model.train(4, data, callbacks=[SuppressMasker(model, ctrl)])
        >>> round(ctrl.calc_actual_sparse_for_layer(net, "weight"), 3)
        0.9

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, network, loss_fn, optimizer, **kwargs):
        instance("network", network, nn.Cell)
        instance("optimizer", optimizer, nn.Optimizer)
        self.suppress_ctrl = None
        super().__init__(network, loss_fn, optimizer, **kwargs)
        self._plain_step = self._train_network
        self.network_end = self._train_network

    def link_suppress_ctrl(self, suppress_pri_ctrl):
        """Put the controller's masks into the compiled step.

        Args:
            suppress_pri_ctrl (SuppressCtrl): Built for this model's network.

        Raises:
            TypeError: It is no SuppressCtrl.
            ValueError: Its layers, `grad_idx` or `lr` contradict the optimizer.
        """
        instance("suppress_pri_ctrl", suppress_pri_ctrl, SuppressCtrl)
        check_optimizer(suppress_pri_ctrl, self._optimizer)
        self.suppress_ctrl = suppress_pri_ctrl
        self._train_network = SuppressedStep(self._plain_step, suppress_pri_ctrl)
        self._train_network._jit_config_dict = self._plain_step.jit_config_dict
        self.network_end = self._train_network

    def train(self, epoch, train_dataset, callbacks=None, *args, **kwargs):
        """As `mindspore.train.Model.train`, with the linked SuppressMasker among the callbacks.

        Raises:
            ValueError: No controller is linked, or no SuppressMasker of it is among the callbacks.
        """
        super().train(epoch, train_dataset, self._masker_first(callbacks), *args, **kwargs)

    def fit(self, epoch, train_dataset, valid_dataset=None, valid_frequency=1, callbacks=None, *args,
            **kwargs):
        """As `mindspore.train.Model.fit`, with the linked SuppressMasker among the callbacks.

        Raises:
            ValueError: No controller is linked, or no SuppressMasker of it is among the callbacks.
        """
        super().fit(epoch, train_dataset, valid_dataset, valid_frequency, self._masker_first(callbacks), *args,
                    **kwargs)

    def _masker_first(self, callbacks):
        """The callbacks with the masker in front, so that none sees, or saves, weights not masked yet."""
        if self.suppress_ctrl is None:
            raise ValueError("link_suppress_ctrl(suppress_ctrl) must come before training: without it nothing "
                             "would be suppressed.")
        callbacks = as_list(callbacks)
        maskers = [item for item in callbacks if isinstance(item, SuppressMasker)]
        if [item.suppress_ctrl for item in maskers] != [self.suppress_ctrl]:
            raise ValueError(f"callbacks must contain one SuppressMasker(model, suppress_ctrl) with the linked "
                             f"SuppressCtrl, but got {len(maskers)} maskers, none or not only one with it.")
        return maskers + [item for item in callbacks if not isinstance(item, SuppressMasker)]
