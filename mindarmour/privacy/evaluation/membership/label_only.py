"""Membership from predicted labels alone, by asking about augmented copies."""
from __future__ import annotations

import numpy as np

from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.score_attacks import checked_signals, result_of
from mindarmour.privacy.evaluation.membership.signals import Signals


class LabelOnlyAttack:
    """Score: how many of the record and its augmented copies are classified correctly.

    A model is more often right around records it has trained on. Collect the copies with
    `collect_signals(..., augmentations=[...])`: shifts, flips, rotations the training used, or noise.

    Threat model: label only; the attacker may ask about modified copies of the record.

    References:
        Choquette-Choo et al. 2021, "Label-only membership inference attacks", section 3.2 (data augmentation).
    """

    def __call__(self, signals: Signals) -> AttackResult:
        """Attack `signals` (Signals with views) and return an `AttackResult`."""
        checked_signals(signals)
        if signals.views is None:
            raise ValueError("signals must hold views, but has none. Collect them with "
                             "collect_signals(..., augmentations=[...]); without copies use GapAttack.")
        right = signals.queries.argmax(axis=2) == signals.labels[:, None]
        return result_of(self, signals, np.mean(right, axis=1),
                         threat_model="label only: the attacker sees predicted classes of augmented copies",
                         views=int(signals.views.shape[1]))
