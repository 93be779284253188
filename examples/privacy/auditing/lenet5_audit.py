"""LeNet-5 on digits with gradient canaries, its audit, and the report; a bug can be planted for the audit to find.

    python lenet5_audit.py [--data_path MNIST] [--epochs N] [--smoke] [--plant noise|bound|mask|seed|divisor|layer]
                           [--coordinates table|network] [--language en|zh] [--output audit.html]
    python lenet5_audit.py --seeds 20 5    # 20 true runs and 5 runs of each bug: the table of docs/auditing.md
"""
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from easydict import EasyDict as edict
from mindspore import nn

from examples.common.arguments import example_arguments, use_device
from examples.common.dataset.data_processing import mnist_arrays, mnist_folder
from examples.common.networks.lenet5.lenet5_net import LeNet5
from examples.privacy.auditing.planted import BUGS, LAYER, planted
from mindarmour.privacy.auditing.gradient_canaries import GradientCanaries
from mindarmour.privacy.auditing.result import CONTRADICTED
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, PoissonSampler
from mindarmour.privacy.reporting import Disclosure, Report

cfg = edict({"epochs": 4, "batch_size": 250, "canaries": 1000, "learning_rate": 0.5, "momentum": 0.9,
             "norm_bound": 0.3, "noise_multiplier": 1.0, "delta": 1e-5})
smoke = edict({"records": 600, "batch_size": 100, "canaries": 200, "steps_per_epoch": 32})


def main(arguments=None):
    """Train, audit, report; returns the AuditResult, or the counts of the table."""
    args = example_arguments(__doc__, cfg.epochs, arguments, _flags)
    use_device(args.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    images, labels = mnist_arrays(mnist_folder(args.data_path) / "train")
    records = smoke.records if args.smoke else len(labels)
    data = images[:records], labels[:records]
    if args.seeds:
        return table(data, args, *args.seeds)

    result, model = audited(data, args, args.plant)
    print(result.summary())
    disclosure = Disclosure("LeNet-5 on handwritten digits", "one image", tuning_runs=0)
    for path in Report(model.ledger, cfg.delta, audits=[result], disclosure=disclosure).save(args.output,
                                                                                            args.language):
        print(path)
    return result


def audited(data, args, bug=None, seed=0):
    """(AuditResult, DPModel) of one run; with a seed other than 0 the run can be repeated."""
    sampler = PoissonSampler(smoke.batch_size, smoke.steps_per_epoch, seed=seed) if args.smoke \
        else PoissonSampler(cfg.batch_size, seed=seed)
    coordinates = "network" if bug == LAYER else args.coordinates
    probe = GradientCanaries(smoke.canaries if args.smoke else cfg.canaries, seed, coordinates)
    dataset = probe.dataset(sampler, data)
    with planted(bug):
        model = trained(probe, dataset, args.epochs, seed)
    return probe.audit(model.ledger, cfg.delta), model


def trained(probe, dataset, epochs, seed):
    """A DPModel after training with the canaries of `probe`."""
    if seed:
        ms.set_seed(seed)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="none")
    network = probe.wrap(LeNet5(activation="tanh"), loss_fn)
    optimizer = nn.Momentum(network.trainable_params(), cfg.learning_rate, cfg.momentum)
    noise_mech = NoiseMechanismsFactory.create("Gaussian", cfg.norm_bound, cfg.noise_multiplier, seed=seed)
    model = DPModel(micro_batches=None, norm_bound=cfg.norm_bound, noise_mech=noise_mech, network=network,
                    optimizer=optimizer)
    model.train(epochs, dataset, callbacks=[probe.readings()])
    return model


def table(data, args, true_runs, planted_runs):
    """Print how often each kind of run is contradicted, and by which tests; returns the counts."""
    counts = {}
    print("| planted | contradicted | by (runs) |\n|---|---|---|")
    for bug in (None, *BUGS):
        runs = planted_runs if bug else true_runs
        results = [audited(data, args, bug, seed)[0] for seed in range(1, runs + 1)]
        tests = Counter(name for result in results for name in result.contradictions)
        counts[bug] = sum(result.verdict == CONTRADICTED for result in results)
        by = ", ".join(f"{name} ({times})" for name, times in tests.most_common())
        print(f"| {bug or 'nothing'} | {counts[bug]} of {runs} | {by or '-'} |", flush=True)
    return counts


def _flags(parser):
    parser.add_argument("--plant", choices=BUGS, help="train with this bug")
    parser.add_argument("--coordinates", choices=("table", "network"), default="table",
                        help="where the canaries sit; --plant layer takes the network, where alone it shows")
    parser.add_argument("--language", choices=("en", "zh"), default="en", help="of the report")
    parser.add_argument("--seeds", type=int, nargs=2, metavar=("TRUE", "PLANTED"),
                        help="print a table of so many true runs and of so many runs of each bug instead")
    parser.add_argument("--output", default="audit.html", help="where to write the report")


if __name__ == "__main__":
    main()
