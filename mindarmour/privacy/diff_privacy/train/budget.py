"""The noise that makes a planned run end inside its budget."""
from dataclasses import replace

from mindarmour.privacy.accounting import Accountant, Ledger
from mindarmour.privacy.accounting.calibration import smallest_multiplier
from mindarmour.privacy.accounting.curves.rdp import check_delta
from mindarmour.utils import _validate

_TOLERANCE = {"pld": 2e-3}
_FINE = 1e-4
_ENDLESS_NOISE = 1e6


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
        ValueError: No noise multiplier up to a million keeps the budget; with an adaptive bound, its count alone
            may exceed it.
    """
    epsilon = _validate.real("epsilon", epsilon, low=0)
    account, epochs = Accountant(check_delta(delta), accountant), _validate.integer("epochs", epochs, low=1)
    # rows matter where units have several of them
    rows = plan.sampling.batch_size if plan.micro_batches is None else dataset.output_shapes()[0][0]
    event, steps = plan.event(0, rows), dataset.get_dataset_size()

    def cost(multiplier):
        run = [(replace(event, noise_multiplier=multiplier), epochs * steps)]
        return account.epsilon_after(Ledger().ahead(run, steps))

    if plan.clip_mech is not None and cost(_ENDLESS_NOISE) > epsilon:
        raise ValueError(f"epsilon must be above what the count of the adaptive bound costs by itself, "
                         f"{cost(_ENDLESS_NOISE):.4g}, but got {epsilon}. Raise it or fraction_stddev.")
    # PLD never says more than RDP, so the quick search bounds the slow one from above
    start = 1.0 if accountant != "pld" else multiplier_for_budget(epsilon, delta, epochs, dataset, plan)
    return smallest_multiplier(cost, epsilon, _TOLERANCE.get(accountant, _FINE), start)
