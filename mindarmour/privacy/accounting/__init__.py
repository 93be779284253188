"""Privacy accounting in NumPy and SciPy; importing it never imports MindSpore."""
from mindarmour.privacy.accounting.events import Sampling, StepEvent
from mindarmour.privacy.accounting.ledger import Ledger, LedgerEntry

__all__ = ["Ledger", "LedgerEntry", "Sampling", "StepEvent"]
