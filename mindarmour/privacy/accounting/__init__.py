"""Privacy accounting in NumPy and SciPy; importing it never imports MindSpore."""
from mindarmour.privacy.accounting.accountant import Accountant, PrivacySpent, privacy_spent, privacy_spent_delta
from mindarmour.privacy.accounting.events import Sampling, StepEvent
from mindarmour.privacy.accounting.ledger import Ledger, LedgerEntry

__all__ = [
    "Accountant",
    "Ledger",
    "LedgerEntry",
    "PrivacySpent",
    "Sampling",
    "StepEvent",
    "privacy_spent",
    "privacy_spent_delta",
]
