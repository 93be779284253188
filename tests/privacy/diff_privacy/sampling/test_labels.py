"""Labels that a loss of classes cannot read are named before anything is trained."""
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from records import IMAGES, LABELS

from mindarmour.privacy.diff_privacy import DPModel, NoiseGaussianRandom, PoissonSampler, augmented_views
from mindarmour.privacy.diff_privacy.sampling.labels import check_labels

CLASSES = (LABELS % 3 == 0).astype(np.int32)


def model_of(network, loss=None):
    loss = loss or nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return DPModel(micro_batches=None, norm_bound=1.0, noise_mech=NoiseGaussianRandom(1.0, 1.0), network=network,
                   loss_fn=loss, optimizer=nn.SGD(network.trainable_params(), 0.1))


@pytest.mark.parametrize("labels, match", [
    (CLASSES.astype(np.float32), r"'label' holds float32 of shape \(\).*TypeCast"),
    (CLASSES[:, None], r"'label' has shape \(1,\).*reshape")])
def test_labels_that_are_no_classes_are_named_with_the_line_to_write(labels, match):
    dataset = PoissonSampler(8).dataset((IMAGES, labels))
    model = model_of(nn.Dense(1, 2))
    with pytest.raises(ValueError, match=match):
        model.train(1, dataset)
    assert model.ledger.steps == 0
    views = augmented_views(dataset, 2, lambda rows, generator: rows)
    with pytest.raises(ValueError, match=match):
        check_labels(views.rename(["image"], ["x"]), nn.SoftmaxCrossEntropyWithLogits(sparse=True))


def test_labels_that_a_loss_can_read_pass():
    for labels, loss in ((CLASSES, nn.SoftmaxCrossEntropyWithLogits(sparse=True)), (CLASSES, nn.CrossEntropyLoss()),
                         (np.eye(2, dtype=np.float32)[CLASSES], nn.CrossEntropyLoss()), (IMAGES, nn.MSELoss()),
                         (np.eye(2, dtype=np.float32)[CLASSES], nn.SoftmaxCrossEntropyWithLogits()), (IMAGES, None)):
        check_labels(PoissonSampler(8).dataset((IMAGES, labels)), loss)
    check_labels(ds.NumpySlicesDataset((IMAGES, IMAGES)).batch(4), nn.CrossEntropyLoss())
