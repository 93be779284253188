"""Does the next step still fit? Cheap to ask after every step, whatever the accountant costs."""
from dataclasses import replace

from mindarmour.privacy.accounting.spent import Accountant
from mindarmour.utils import _validate


class BudgetGuard:
    """Answers whether entries keep a budget, with few evaluations of a slow accountant.

    RDP never says less than PLD, so what RDP allows is allowed. Beyond that the guard looks ahead: it evaluates
    the ledger with its last entry made longer, and remembers up to where the budget surely holds and from where
    it surely does not. More steps never cost less, so everything in between needs no evaluation.

    Args:
        epsilon (float): Budget, above 0.
        delta (float): In (0, 1).
        accountant (str): 'rdp', 'pld' or 'zcdp'.
        relation (str, optional): See `Accountant`.

    Examples:
        >>> from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
        >>> from mindarmour.privacy.accounting.budget import BudgetGuard
        >>> ledger, guard = Ledger(), BudgetGuard(2.0, 1e-5)
        >>> event = StepEvent(Sampling("poisson", 60000, 256, "add-or-remove"), 1.1)
        >>> guard.allows(ledger.preview(event)), guard.allows(ledger.preview(event, steps=20000))
        (True, False)
    """

    def __init__(self, epsilon, delta, accountant="rdp", relation=None):
        self._epsilon = _validate.real("epsilon", epsilon, low=0)
        self._account = Accountant(delta, accountant, relation)
        self._quick = Accountant(delta, "rdp", relation) if accountant == "pld" else None
        self._key, self._allowed, self._refused = None, 0, None

    def allows(self, entries):
        """Whether these entries, as `Ledger.preview` returns them, keep the budget."""
        entries = tuple(entries)
        if self._quick is None:
            return self._account.epsilon_after(entries) <= self._epsilon
        if self._quick.epsilon_after(entries) <= self._epsilon:
            return True
        last = entries[-1]
        key = (entries[:-1], last.event, last.epoch)
        if key != self._key:
            self._key, self._allowed, self._refused = key, 0, None
        while self._allowed < last.steps and (self._refused is None or last.steps < self._refused):
            self._probe(entries, last)
        return last.steps <= self._allowed

    def _probe(self, entries, last):
        """Evaluate a little ahead of the last entry, at most half-way to what is known to be refused."""
        steps = last.steps + max(1, last.steps // 16)
        if self._refused is not None:
            steps = min(steps, (last.steps + self._refused) // 2)
        longer = (*entries[:-1], replace(last, steps=steps))
        if self._account.epsilon_after(longer) <= self._epsilon:
            self._allowed = steps
        else:
            self._refused = steps
