"""Errors and warnings that the whole suite shares."""


class UnknownMechanismError(NameError, ValueError):
    """A name that no factory knows. The documentation promises NameError; ValueError is what callers expect."""


class UnsupportedLayerError(ValueError):
    """A cell that cannot be trained with the engine asked for.

    Args:
        cell_name (str): Name of the cell inside the network, '' for the network itself.
        cell_class (str): Its class name.
        reason (str): Why it cannot be served.
        fix (str): What the user can do.
    """

    def __init__(self, cell_name, cell_class, reason, fix):
        self.cell_name = cell_name
        self.cell_class = cell_class
        self.reason = reason
        self.fix = fix
        super().__init__(f"cell '{cell_name or '<network>'}' ({cell_class}): {reason} {fix}")


class BudgetExceededError(RuntimeError):
    """The next step would spend more than the budget.

    Args:
        spent (float): Epsilon (or delta) after the step that was refused.
        budget (float): The limit.
        step (int): Steps executed so far.
    """

    def __init__(self, spent, budget, step):
        self.spent = spent
        self.budget = budget
        self.step = step
        super().__init__(f"step {step + 1} would bring the privacy spent to {spent:.6g}, above the budget of "
                         f"{budget:.6g}. Raise the budget or the noise multiplier, or train fewer steps.")


class LedgerMismatchError(ValueError):
    """A ledger that does not belong to this run, or was edited or cut short."""


class PrivacyWarning(UserWarning):
    """The run goes on, but a stated guarantee is weaker than it looks or no longer holds."""
