"""Privacy accounting in NumPy and SciPy; importing it never imports MindSpore."""
from mindarmour.privacy.accounting.events import Sampling, StepEvent
from mindarmour.privacy.accounting.ledger import Ledger, LedgerEntry
from mindarmour.privacy.accounting.spent import Accountant, PrivacySpent, privacy_spent, privacy_spent_delta

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
