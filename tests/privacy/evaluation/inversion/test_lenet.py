"""White-box inversion of a trained LeNet-5 on real digits reaches the published figures."""
import time

import mindspore as ms
import numpy as np
import pytest

from examples.privacy.inversion_attack import scene as sc
from mindarmour.privacy.evaluation import ImageInversionAttack


@pytest.fixture(scope="module")
def victim():
    scene = sc.digits()
    ms.set_seed(1)
    images, labels = (part[:1000] for part in scene.train)
    ms.set_context(mode=ms.GRAPH_MODE)
    network = sc.train(scene.new_network(), images, labels, 4)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    assert sc.accuracy(network, *scene.test) > 0.7, "a network that has learned something"
    return scene, network


def inverted(victim, layer, weights, iterations):
    """Report on ten held-out digits, one a class, and seconds per image."""
    scene, network = victim
    images, _ = sc.one_of_each_class(*scene.test)
    front = scene.front(network, layer)
    attack = ImageInversionAttack(front, images.shape[1:], scene.bound, weights)
    start = time.perf_counter()
    found = attack.generate(front(ms.Tensor(images)).asnumpy(), iterations, seed=0)
    seconds = (time.perf_counter() - start) / len(images)
    return attack.evaluate(images, found).report, seconds


def test_digits_behind_conv1_are_recovered_within_seconds(victim):
    report, seconds = inverted(victim, "conv1", (1, 1e-6, 1e-6), 150)
    assert report["ssim"].mean >= 0.95 and report["ssim"].mean > report["ssim"].baseline_mean + 0.2
    assert seconds < 5


def test_digits_behind_relu2_reach_the_published_psnr(victim):
    report, _ = inverted(victim, "relu2", (1, 1e-2, 1e-6), 200)
    # He et al. 2019, table 3: 15.10 dB
    assert report["psnr"].mean >= 15.1 > report["psnr"].baseline_mean
    assert np.all(report.recognised)
