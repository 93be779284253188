"""Privacy that was spent belongs to the Parameters it went into, not to the object that trained them.

A registry of weak references from Parameters to ledgers. Whoever trains Parameters asks it for their ledger: a second
DPModel, a DP optimizer or a custom loop on the same Parameters continues what was spent, and so does one that shares
only some of them. Where two ledgers meet, both histories go on as one; see `accounting.ledger.combine`.
"""
from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterable
from dataclasses import replace
from typing import Optional

from mindspore import Parameter

from mindarmour.privacy.accounting.events import Event, StepEvent
from mindarmour.privacy.accounting.ledger import UNKNOWN_TRAINING, Ledger, Segment, combine
from mindarmour.privacy.errors import PrivacyWarning

_INCOMPLETE = ("Parameters that were trained with differential privacy came without a ledger that can be read, for "
               "example {name!r}. What they cost is unknown, the ledger is incomplete, and every statement says "
               "epsilon infinite. Use DPModel.restore on a checkpoint that holds its ledger, or with "
               "acknowledge='...' if their training needs no protection.")


class _Account:
    """One ledger and those that were merged into it."""

    __slots__ = ("ledger", "merged_into")

    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self.merged_into: Optional[_Account] = None

    def root(self) -> _Account:
        account = self
        while account.merged_into is not None:
            account = account.merged_into
        return account


# id of a Parameter: (weak reference to it, its account); the entry goes when the Parameter does
_ACCOUNTS: dict[int, tuple[weakref.ref, _Account]] = {}


def _account_of(parameter: Parameter) -> Optional[_Account]:
    entry = _ACCOUNTS.get(id(parameter))
    return entry[1].root() if entry is not None and entry[0]() is parameter else None


def _open(parameter: Parameter, account: _Account) -> None:
    key = id(parameter)
    _ACCOUNTS[key] = (weakref.ref(parameter, lambda _: _ACCOUNTS.pop(key, None)), account)


def _merge(accounts: list[_Account]) -> _Account:
    """One account for all of them; the ledger that holds everything the others do stays what it is."""
    roots = list({id(account.root()): account.root() for account in accounts}.values())
    head = max(roots, key=lambda root: root.ledger.steps)
    for root in roots:
        if root is not head:
            head.ledger = _with(head.ledger, root.ledger)
            root.merged_into = head
    return head


def _with(ledger: Ledger, other: Ledger) -> Ledger:
    """`ledger`, and what `other` records beyond it."""
    known = {segment.run: segment.steps for segment in ledger.segments}
    if all(known.get(segment.run, -1) >= segment.steps for segment in other.segments):
        return ledger
    return combine([ledger, other]) if known else other


class Spending:
    """The ledger of a set of Parameters, wherever it stands now.

    Args:
        trained (iterable[Parameter]): Parameters that steps will move; their account is opened here.
        present (iterable[Parameter]): Everything that will be released with them; what their training cost counts too.
    """

    def __init__(self, trained: Iterable[Parameter], present: Iterable[Parameter] = ()):
        self._trained, self._present = list(trained), list(present)
        self._account = _Account(Ledger())
        self._warned = False
        self.refresh()

    def refresh(self) -> None:
        """Look again at what the Parameters bring with them; warn where something arrived without its ledger."""
        found = [self._account]
        for parameter in (*self._trained, *self._present):
            account = _account_of(parameter)
            if account is not None:
                found.append(account)
        self._account = _merge(found)
        for parameter in self._trained:
            if _account_of(parameter) is None:
                _open(parameter, self._account)
        self._warn_if_incomplete()

    @property
    def ledger(self) -> Ledger:
        """What was spent on these Parameters so far; further steps are recorded here."""
        self._account = self._account.root()
        return self._account.ledger

    def continue_from(self, ledger: Ledger, acknowledge: Optional[str]) -> None:
        """Add what another ledger records: these Parameters took over the values that it describes.

        Args:
            ledger (Ledger): For example of a restored checkpoint.
            acknowledge (str, optional): Vouches for the Parameters' origin: unknown training is taken off the record.
        """
        own = self.ledger
        if acknowledge:
            own, ledger = (Ledger(_without_unknown(one)) for one in (own, ledger))
        self._account.ledger = _with(ledger, own)
        if acknowledge:
            self._account.ledger.acknowledge(acknowledge)

    def _warn_if_incomplete(self) -> None:
        if self._warned or not any(_is_unknown(entry.event) for entry in self.ledger.entries):
            return
        self._warned = True
        named = (self._trained or self._present)[0].name
        warnings.warn(_INCOMPLETE.format(name=named), PrivacyWarning, stacklevel=4)


def _is_unknown(event: Event) -> bool:
    """Whether an entry stands for training that nobody recorded; its note is a label and does not count."""
    return isinstance(event, StepEvent) and replace(event, note="") == replace(UNKNOWN_TRAINING, note="")


def _without_unknown(ledger: Ledger) -> list[Segment]:
    segments = [segment.copy() for segment in ledger.segments]
    for segment in segments:
        segment.entries = [entry for entry in segment.entries if not _is_unknown(entry.event)]
    return [segment for segment in segments if segment.entries or segment.note]


def spent_on(parameters: Iterable[Parameter]) -> Optional[Ledger]:
    """What the training of these Parameters cost; None if they were never trained privately."""
    accounts = {id(account): account for account in map(_account_of, parameters) if account is not None}
    ledger = Ledger()
    for account in accounts.values():
        ledger = _with(ledger, account.ledger)
    return ledger if ledger.segments else None


def arrive(parameters: Iterable[Parameter], ledger: Optional[Ledger]) -> None:
    """Parameters were read from a checkpoint with this ledger; None if it must have had one and has none."""
    if ledger is None:
        ledger = Ledger()
        ledger.record(UNKNOWN_TRAINING)
    account = _Account(ledger)
    for parameter in parameters:
        _open(parameter, account)


def inherit(parameter: Parameter, source: Parameter) -> None:
    """`parameter` takes the value of `source`: what that cost belongs to it too, what follows does not."""
    account = _account_of(source)
    if account is None or not account.ledger.segments:
        return
    own = _account_of(parameter)
    if own is None:
        _open(parameter, _Account(Ledger(account.ledger.segments)))
    elif own is not account:
        own.ledger = _with(own.ledger, Ledger(account.ledger.segments))


def forget(parameters: Iterable[Parameter]) -> None:
    """These Parameters are a copy in memory whose ledger is handled by the caller."""
    for parameter in parameters:
        _ACCOUNTS.pop(id(parameter), None)
