"""A language model that knows public text is fine-tuned on private speeches; one speech is the unit.

A GPT learns the King James Bible without privacy, once, and is kept in the cache. Low-rank adapters are then trained on
speeches from Shakespeare's plays, without noise and at several epsilons. Printed for each: bits per character on plays
that were not trained on, exposure of secret words planted once and sixteen times, and how long a run of characters the
model repeats from its training text.

    python fine_tune.py [--epsilons inf 8 2 0.5] [--seeds 1] [--cache FOLDER] [--output FILE] [--plot FILE] [--smoke]
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np

from examples.common.arguments import example_arguments, use_device
from examples.privacy.language_model import texts, training
from examples.privacy.language_model.report import add_flags, finished, plotted
from mindarmour.privacy.diff_privacy import PoissonSampler

REPEATS = 16  # copies of the secrets that stand in the data more than once; their guarantee is that of a group
SECRETS = 6


def read(args):
    """(public text, private speeches, speeches of other plays)."""
    if args.smoke:
        return " ".join(texts.made_up(200, 0).texts), texts.made_up(120, 1), texts.made_up(40, 2)
    return texts.public_text(args.cache), texts.speeches(args.cache, slice(0, 14)), texts.speeches(
        args.cache, slice(30, 35))


def with_secrets(private, seed):
    """(texts with the planted ones, secrets planted once, secrets planted REPEATS times)."""
    once, often = np.split(np.array(training.words(np.random.default_rng(seed), 2 * SECRETS)), 2)
    planted = [training.SECRET.format(word) for word in (*once, *np.repeat(often, REPEATS))]
    return private.texts + planted, once, often


def run(public, private, held_out, setting, epsilon, seed, cache):
    """One row of the table."""
    trained_on, once, often = with_secrets(private, 100 + seed)
    network = training.pretrained(public, setting, cache)
    row = {"epsilon": epsilon, "seed": seed, "bits before": training.bits_per_character(network, held_out),
           "exposure before": training.exposure(network, often, setting)}
    sampler = PoissonSampler(setting.batch, steps_per_epoch=setting.steps)
    dataset = sampler.dataset(texts.encoded(trained_on), ["tokens", "next"])
    network, row["spent"], row["noise"] = training.fine_tuned(network, dataset, setting, epsilon)
    prompts = [text[:16] for text in trained_on[:setting.samples]]
    runs = training.longest_runs(training.generated(network, prompts), trained_on)
    return {**row, "bits": training.bits_per_character(network, held_out),
            "exposure once": training.exposure(network, once, setting),
            f"exposure {REPEATS} times": training.exposure(network, often, setting),
            "longest run": max(runs), "mean run": float(np.mean(runs))}


def main(arguments=None):
    args = example_arguments(__doc__, epochs=1, arguments=arguments, extend=add_flags)
    ms.set_context(mode=ms.GRAPH_MODE)
    use_device(args.device_target)
    setting = training.SMOKE if args.smoke else training.Setting()
    public, private, held_out = read(args)
    print(f"{len(public)} public characters, {len(private.texts)} private speeches, {len(held_out.texts)} held out")
    held_out = held_out.texts[:1000]
    rows = []
    for seed in range(args.seeds):
        for epsilon in args.epsilons:
            rows.append(run(public, private, held_out, setting, epsilon, seed, args.cache))
            finished(rows, args.output)
    plotted(rows, "bits", "bits per character of other plays", args.plot)
    return rows


if __name__ == "__main__":
    main()
