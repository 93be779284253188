"""The same fine-tuning where a person is the unit: a speaker of a play with all speeches.

Three ways at each epsilon: speakers are drawn as a whole (`UserPoissonSampler`, up to G speeches each); single speeches
are drawn from data cut to G of each speaker, at the noise that gives a *speaker* this epsilon (the mixture of
Gaussians); and single speeches with the noise that gives one *speech* this epsilon, where a speaker pays what is
printed.

    python users.py [--epsilons 8 2] [--seeds 1] [--cache FOLDER] [--output FILE] [--plot FILE] [--smoke]
"""
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np
from mindspore import nn

from examples.common.arguments import example_arguments, use_device
from examples.common.networks.transformer.transformer import sequence_loss
from examples.privacy.language_model import texts, training
from examples.privacy.language_model.fine_tune import read
from examples.privacy.language_model.report import add_flags, finished, plotted
from mindarmour.privacy.accounting import LedgerEntry, StepEvent, privacy_spent
from mindarmour.privacy.diff_privacy import (
    DPModel,
    NoiseGaussianRandom,
    PoissonSampler,
    UserPoissonSampler,
    lora,
)

MOST, MOST_IN_SMOKE = 4, 2  # speeches of a speaker that take part
WAYS = ("speakers drawn", "speeches drawn, stated for speakers", "speeches drawn, stated for speeches")


def cut(private, most, seed):
    """At most so many speeches of each speaker, chosen once: (texts, speakers)."""
    order, taken, chosen = np.random.default_rng(seed).permutation(len(private.texts)), {}, []
    for place in order:
        speaker = private.speakers[place]
        if taken.setdefault(speaker, 0) < most:
            taken[speaker] += 1
            chosen.append(place)
    return [private.texts[place] for place in chosen], [private.speakers[place] for place in chosen]


def per_speaker(sampling, multiplier, steps, most):
    """Epsilon of a run for a speaker."""
    entries = (LedgerEntry(StepEvent(sampling, multiplier), steps),)
    return privacy_spent(entries, training.DELTA, unit="user", examples_per_user=most).epsilon


def multiplier_for(sampling, steps, epsilon, most):
    """Least noise, to a hundredth, that gives a speaker this epsilon."""
    low, high = 0.3, 100.0
    while high / low > 1.01:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if per_speaker(sampling, middle, steps, most) <= epsilon else (middle, high)
    return high


def run(public, private, held_out, setting, epsilon, seed, way, most, cache):
    """One row of the table."""
    chosen, speakers = cut(private, most, seed)
    columns, names = texts.encoded(chosen), ["tokens", "next"]
    network = training.pretrained(public, setting, cache)
    if way == WAYS[0]:
        drawn = min(setting.batch // most, len(set(speakers)) // 2)
        dataset = UserPoissonSampler(drawn, most, setting.steps).dataset(columns, speakers, names)
    else:
        dataset = PoissonSampler(setting.batch, setting.steps).dataset(columns, names)
    if way != WAYS[1]:
        network, _, noise = training.fine_tuned(network, dataset, setting, epsilon)
    else:
        noise = multiplier_for(dataset.claim, setting.steps, epsilon, most)
        network = _with_noise(network, dataset, setting, noise)
    return {"way": way, "epsilon": epsilon, "seed": seed, "noise": noise,
            "of a speaker": per_speaker(dataset.claim, noise, setting.steps, most),
            "bits": training.bits_per_character(network, held_out)}


def _with_noise(network, dataset, setting, noise):
    network = lora.insert(network, training.TARGETS, setting.rank)
    model = DPModel(norm_bound=setting.bound, noise_mech=NoiseGaussianRandom(setting.bound, noise), network=network,
                    loss_fn=sequence_loss(), micro_batches=None, physical_batch_size=setting.physical, engine="ghost",
                    optimizer=nn.Adam(network.trainable_params(), setting.rate))
    model.train(1, dataset)
    return network


def main(arguments=None):
    def flags(parser):
        add_flags(parser, [8.0, 2.0])

    args = example_arguments(__doc__, epochs=1, arguments=arguments, extend=flags)
    ms.set_context(mode=ms.GRAPH_MODE)
    use_device(args.device_target)
    setting = training.SMOKE if args.smoke else training.Setting()
    public, private, held_out = read(args)
    most = MOST_IN_SMOKE if args.smoke else MOST
    _, speakers = cut(private, most, 0)
    print(f"{len(set(speakers))} speakers with {len(private.texts)} speeches, {len(speakers)} of which take part")
    rows = []
    for seed in range(args.seeds):
        for epsilon in args.epsilons:
            for way in WAYS:
                rows.append(run(public, private, held_out.texts[:1000], setting, epsilon, seed, way, most,
                                args.cache))
                finished(rows, args.output)
    plotted(rows, "bits", "bits per character of other plays", args.plot, by="way")
    return rows


if __name__ == "__main__":
    main()
