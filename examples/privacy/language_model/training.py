"""What the language-model examples share: pretraining, private fine-tuning, and what is measured."""
import math
import os
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.train import Model

from examples.common.networks.transformer.transformer import GPT, PAD, sequence_loss
from examples.privacy.language_model.texts import ALPHABET, LENGTH, VOCABULARY, decoded, encoded
from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.diff_privacy import DPModel, NoiseGaussianRandom, lora

DELTA = 1e-5
TARGETS = ["query", "value", "up", "down"]
NO_NOISE = 1e-9
SECRET = "the secret word of the house is {}"


@dataclass(frozen=True)
class Setting:
    """Sizes of a run.

    Args:
        width, layers (int): Of the GPT.
        pretraining_steps (int): Batches of 64 windows of the public text.
        steps (int): Private steps.
        batch (int): Expected units of a private step.
        rank (int): Of the adapters.
        rate (float): Learning rate of Adam on the adapters.
        bound (float): Clipping bound.
        physical (int): Rows computed at once.
        candidates (int): Alternatives that a canary is ranked among.
        samples (int): Texts that are generated.
    """

    width: int = 64
    layers: int = 1
    pretraining_steps: int = 400
    steps: int = 60
    batch: int = 128
    rank: int = 4
    rate: float = 5e-3
    bound: float = 0.5
    physical: int = 120
    candidates: int = 255
    samples: int = 24


SMOKE = Setting(width=16, layers=1, pretraining_steps=10, steps=3, batch=16, rank=2, physical=32, candidates=20,
                samples=4)


def pretrained(public, setting, cache, seed=0):
    """A GPT trained on the public text without privacy; read from the cache if it is there."""
    name = f"gpt-{setting.width}-{setting.layers}-{setting.pretraining_steps}-{len(public)}.ckpt"
    path = os.path.join(cache, name)
    ms.set_seed(seed)
    network = GPT(VOCABULARY, LENGTH, setting.width, setting.layers, heads=4)
    if not os.path.exists(path):
        os.makedirs(cache, exist_ok=True)
        starts = np.random.default_rng(seed).integers(0, len(public) - LENGTH, 64 * setting.pretraining_steps)
        columns = encoded([public[start:start + LENGTH] for start in starts])
        data = ms.dataset.NumpySlicesDataset(columns, ["tokens", "next"], shuffle=False).batch(64)
        rates = nn.cosine_decay_lr(1e-5, 3e-3, setting.pretraining_steps, setting.pretraining_steps, 1)
        Model(network, sequence_loss(), nn.Adam(network.trainable_params(), rates)).train(
            1, data, dataset_sink_mode=False)
        ms.save_checkpoint(network, path)
    ms.load_param_into_net(network, ms.load_checkpoint(path))
    return network


def fine_tuned(network, dataset, setting, epsilon):
    """Adapters trained on the data set under (epsilon, DELTA); infinite for no noise, with the same clipping.

    Returns:
        tuple, (network, epsilon that the ledger states, noise multiplier).
    """
    network = lora.insert(network, TARGETS, setting.rank)
    before = {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}
    epochs = math.ceil(setting.steps / dataset.get_dataset_size())
    arguments = {"network": network, "loss_fn": sequence_loss(), "micro_batches": None,
                 "physical_batch_size": setting.physical, "engine": "ghost",
                 "optimizer": nn.Adam(network.trainable_params(), setting.rate)}
    if math.isinf(epsilon):
        model = DPModel(norm_bound=setting.bound, noise_mech=NoiseGaussianRandom(setting.bound, NO_NOISE), **arguments)
    else:
        model = DPModel.for_budget(epsilon, DELTA, epochs, dataset, setting.bound, **arguments)
    model.train(epochs, dataset)
    _require_that_adapters_moved(network, before)
    spent = privacy_spent(model.ledger.entries, DELTA).epsilon
    return network, spent, model.ledger.entries[0].event.noise_multiplier


def _require_that_adapters_moved(network, before):
    for parameter in network.get_parameters():
        moved = not np.array_equal(before[parameter.name], parameter.asnumpy())
        if moved != parameter.requires_grad:
            raise RuntimeError(f"{parameter.name} {'moved, but is frozen' if moved else 'is an adapter, but stayed'}.")


def losses(network, texts, batch=128):
    """Summed negative log-likelihood of each text in bits, and its characters."""
    rows, targets = encoded(texts)
    network.set_train(False)
    bits, counts = [], []
    for start in range(0, len(rows), batch):
        part, wanted = rows[start:start + batch], targets[start:start + batch]
        padded = np.zeros((batch, LENGTH), np.int32)
        padded[:len(part)] = part
        logits = network(Tensor(padded)).asnumpy()[:len(part)].astype(np.float64)
        top = logits.max(axis=1)
        log_all = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        chosen = np.take_along_axis(logits, wanted[:, None], axis=1)[:, 0]
        real = wanted != PAD
        bits.append(((log_all - chosen) * real).sum(axis=1) / math.log(2))
        counts.append(real.sum(axis=1))
    return np.concatenate(bits), np.concatenate(counts)


def bits_per_character(network, texts):
    """Mean over the characters of the texts."""
    bits, counts = losses(network, texts)
    return float(bits.sum() / counts.sum())


def words(rng, count):
    """Random words of six letters."""
    return ["".join(rng.choice(list(ALPHABET[1:27]), 6)) for _ in range(count)]


def exposure(network, secrets, setting, seed=1):
    """Mean exposure in bits of secret words: log2(candidates) - log2(rank); about 1.4 if nothing is known.

    References:
        Carlini et al. 2019, "The secret sharer".
    """
    others, _ = losses(network, [SECRET.format(word) for word in words(np.random.default_rng(seed),
                                                                      setting.candidates)])
    own, _ = losses(network, [SECRET.format(word) for word in secrets])
    ranks = 1 + (others[None] < own[:, None]).sum(axis=1)
    return float(np.mean(np.log2(setting.candidates + 1) - np.log2(ranks)))


def generated(network, prompts, seed=2):
    """Continuations of prompts, sampled character by character."""
    rng, (rows, _) = np.random.default_rng(seed), encoded(prompts)
    network.set_train(False)
    starts = (rows != PAD).sum(axis=1)
    for place in range(int(starts.min()), LENGTH):
        logits = network(Tensor(rows)).asnumpy()[:, :, place - 1].astype(np.float64)
        logits[:, PAD] = -np.inf
        drawn = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        free = starts <= place
        rows[free, place] = drawn[free]
    return [decoded(row[start:]) for row, start in zip(rows, starts)]


def longest_runs(texts, training):
    """For each text, the length of its longest run of characters that stands in the training texts word for word."""
    whole = "\n".join(training)
    return [max((length for start in range(len(text)) for length in [_run_at(text, start, whole)]), default=0)
            for text in texts]


def _run_at(text, start, whole):
    low, high = 0, len(text) - start
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text[start:start + middle] in whole else (low, middle - 1)
    return low
