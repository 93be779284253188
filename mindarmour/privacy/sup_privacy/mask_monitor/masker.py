"""The callback that drives the suppression."""
from mindspore.train import Model
from mindspore.train.callback import Callback, ModelCheckpoint
from tqdm import tqdm

from mindarmour.privacy.sup_privacy.sup_ctrl.conctrl import SuppressCtrl
from mindarmour.privacy.sup_privacy.train.checks import check_optimizer
from mindarmour.utils._validate import boolean, instance
from mindarmour.utils.logger import LogUtil

LOGGER = LogUtil.get_instance()
TAG = "Suppress training."
LOG_EVERY = 100


def as_list(callbacks):
    """Callbacks as MindSpore takes them (None, one, or several), as a list."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


class _StepEnd(Callback):
    """Keeps the documented `step_end`, a name that MindSpore's `fit` refuses in the user's own class."""

    def step_end(self, run_context):
        """The former name of `on_train_step_end`."""
        self.on_train_step_end(run_context)


class SuppressMasker(_StepEnd):
    """Moves the schedule on after each step and has the masks chosen when they are due.

    With a SuppressModel the compiled step keeps suppressed weights at 0. With any other Model, a DPModel say,
    this callback sets them to 0 after each step; put it before ModelCheckpoint then.

    Args:
        model (Model): The model that trains.
        suppress_ctrl (SuppressCtrl): The controller; for a SuppressModel the one that was linked.
        progress (bool): Show a progress bar with the sparsity. Default: False.
        partial_run (bool): Accept a call of `train` that ends before `end_epoch`, because the run is to be
            resumed. Default: False.

    Guarantee:
        Does not change what a DPModel guarantees: masks are chosen from the weights after a noised update.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: When training begins: `batch_num`, `end_epoch` or the optimizer contradict the controller.
    """

    def __init__(self, model, suppress_ctrl, *, progress=False, partial_run=False):
        super().__init__()
        self.model = instance("model", model, Model)
        self.suppress_ctrl = instance("suppress_ctrl", suppress_ctrl, SuppressCtrl)
        self.progress = boolean("progress", progress)
        self.partial_run = boolean("partial_run", partial_run)
        self._bar = None

    @property
    def _step_applies_masks(self):
        return getattr(self.model, "suppress_ctrl", None) is self.suppress_ctrl

    def on_train_begin(self, run_context):
        """Refuse a run that contradicts the controller."""
        params = run_context.original_args()
        _check_run(self.suppress_ctrl, params, self.partial_run)
        if not self._step_applies_masks:
            self._check_foreign_model(params)
        if self.progress:
            self._bar = tqdm(total=params.epoch_num * params.batch_num, unit="step")

    def on_train_step_end(self, run_context):
        """Move on by one step."""
        params = run_context.original_args()
        ctrl = self.suppress_ctrl
        step = ctrl.position + 1
        epoch, step_in_epoch = (step - 1) // ctrl.batch_num + 1, (step - 1) % ctrl.batch_num + 1
        ctrl.update_status(epoch, step, step_in_epoch)
        if ctrl.mask_due:
            ctrl.update_mask(params.train_network, step)
        elif not self._step_applies_masks:
            ctrl.reset_zeros()
        self._show(step_in_epoch)

    def on_train_end(self, run_context):
        """Close the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show(self, step_in_epoch):
        if step_in_epoch % LOG_EVERY == 1:
            LOGGER.info(TAG, "%s", self.suppress_ctrl.progress_line())
        if self._bar is not None:
            if self.suppress_ctrl.mask_due:
                self._bar.set_postfix(suppressed=f"{self.suppress_ctrl.history[-1].total:.3f}", refresh=False)
            self._bar.update()

    def _check_foreign_model(self, params):
        if hasattr(self.model, "link_suppress_ctrl"):
            raise ValueError("link_suppress_ctrl(suppress_ctrl) must be called with the controller of this "
                             "SuppressMasker before training.")
        if params.optimizer is not None:
            check_optimizer(self.suppress_ctrl, params.optimizer)
        order = [isinstance(item, ModelCheckpoint) for item in params.list_callback]
        if True in order and order.index(True) < params.list_callback.index(self):
            raise ValueError("callbacks must name SuppressMasker before ModelCheckpoint, or checkpoints would "
                             "hold weights that are not suppressed yet.")


def _check_run(suppress_ctrl, params, partial_run):
    schedule = suppress_ctrl.schedule
    if params.get("dataset_sink_mode"):
        raise ValueError("dataset_sink_mode must be False: with True callbacks run once per epoch, and masks could "
                         "not follow the schedule.")
    if params.batch_num != schedule.batch_num:
        raise ValueError(f"batch_num must be the {params.batch_num} steps of an epoch of the data set, but "
                         f"SuppressCtrl got {schedule.batch_num}. Pass batch_num={params.batch_num}.")
    reached = suppress_ctrl.position + params.epoch_num * params.batch_num
    if reached < schedule.last_step and not partial_run:
        raise ValueError(f"end_epoch={schedule.end_epoch} must be reached, but the run ends after step {reached} and "
                         f"the last masks are due at step {schedule.last_step}. Train more epochs, lower end_epoch, "
                         f"or say SuppressMasker(..., partial_run=True) if the run is to be resumed.")
