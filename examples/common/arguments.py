"""Command-line flags that all examples share."""
import argparse

import mindspore as ms

import mindarmour  # noqa: F401 - sets oneDNN's instruction set, without which convolutions are up to fifty times slower


def example_arguments(description, epochs, arguments=None, extend=None):
    """Parse the shared flags.

    Args:
        description (str): The example's docstring.
        epochs (int): Default number of epochs.
        arguments (list[str], optional): Instead of the command line.
        extend (Callable, optional): Called with the parser to add flags.

    Returns:
        argparse.Namespace with data_path, device_target, epochs and smoke; `smoke` sets epochs to 1.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", help="folder with the full data set (MNIST: train/ and test/ in IDX format); "
                                            "default: 5,000 embedded real digits")
    parser.add_argument("--device_target", default="CPU", choices=("CPU", "Ascend", "GPU"))
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--smoke", action="store_true", help="one epoch on little data, to see that it runs")
    if extend is not None:
        extend(parser)
    args = parser.parse_args(arguments)
    if args.smoke:
        args.epochs = 1
    return args


def use_device(target, device_id=0):
    """Run on this device, chosen before anything runs; a process that runs there already goes on."""
    if ms.get_context("device_target") != target or device_id:
        ms.set_device(target, device_id)
