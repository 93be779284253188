"""The noise that makes a planned run end inside its budget."""
from mindarmour.privacy.accounting.calibration import noise_multiplier_for_event
from mindarmour.utils import _validate


def multiplier_for_budget(epsilon, delta, epochs, dataset, plan, accountant="rdp"):
    """Smallest noise multiplier with which so many epochs cost at most `epsilon`.

    Args:
        epsilon (float): Budget, above 0.
        delta (float): In (0, 1).
        epochs (int): Length of the run, at least 1.
        dataset (Dataset): What it trains on.
        plan (Plan): With the sampling of the data set; its own noise multiplier does not matter.
        accountant (str): 'rdp', 'zcdp' or 'pld'.

    Returns:
        float. Everything else that the run releases (the count of an adaptive bound) is part of the budget.

    Raises:
        ValueError: No noise multiplier up to 1e30 keeps the budget; with an adaptive bound, its count alone
            may exceed it.
    """
    epochs = _validate.integer("epochs", epochs, low=1)
    # rows matter where the batch is cut into micro-batches
    rows = plan.sampling.rows if plan.micro_batches is None else dataset.output_shapes()[0][0]
    steps = dataset.get_dataset_size()
    return noise_multiplier_for_event(epsilon, delta, plan.event(0, rows), epochs * steps, steps, accountant)
