"""What it costs to cut Poisson batches down to a fixed physical size.

Records join independently with probability `rate`; when more than `cap` join, a random `cap` of them stay.
Whether record i matters depends on who else joined, and that has the same distribution in both neighbouring
data sets. So the mechanism is a mixture, with equal weights on both sides, of ordinary sampled pairs and,
with a small probability, of worse ones:

* add-or-remove: when at least `cap` others joined, record i takes the place of one of them: distance 2 instead
  of 1, with probability at most `rate`;
* zero-out and replace-one (the record keeps its place): when exactly `cap` - 1 others stayed, record i is
  among the batch with a probability above `rate`, distance 1 as ever. When fewer stayed nothing was cut.

Joint convexity of the moments and a total-variation argument each turn this into a bound.

References:
    Chua et al. 2024, "Scalable DP-SGD: shuffling vs. Poisson subsampling", section 4 (truncated batches).
"""
from __future__ import annotations

import math
from typing import NamedTuple, Optional

from scipy.special import bdtrc, gammaln

from mindarmour.privacy.accounting.events import ADD_OR_REMOVE


class Overflow(NamedTuple):
    """The worse pairs of the mixture.

    Args:
        probability (float): Weight of the worse pairs.
        rate (float): Probability that the record takes part in one of them.
        excess (float): Total variation between the mixture and one without worse pairs.
        distance (float): How far apart a worse pair stands, relative to an ordinary one.
    """

    probability: float
    rate: float
    excess: float
    distance: float


def overflow_of(num_examples: int, rate: float, cap: int, relation: str) -> Optional[Overflow]:
    """Overflow of one step, or None when no batch can be cut.

    Args:
        num_examples (int): Records in the data set.
        rate (float): Sampling probability.
        cap (int): Largest batch that is kept whole.
        relation (str): Neighbouring relation.
    """
    if cap >= num_examples or rate == 0:
        return None
    if relation == ADD_OR_REMOVE:
        probability = _tail(cap, num_examples - 1, rate)
        return Overflow(probability, rate, probability * rate, 2.0)
    included = cap / num_examples * _tail(cap, num_examples, rate)
    excluded = (1 - (cap - 1) / num_examples) * _exactly(cap - 1, num_examples, rate)
    probability = included + excluded
    if probability == 0:
        return Overflow(0.0, rate, 0.0, 1.0)
    raised = included / probability
    return Overflow(probability, raised, probability * max(0.0, raised - rate), 1.0)


def exceeding(num_examples: int, rate: float, cap: int) -> float:
    """Probability that more than `cap` of the records join."""
    return 0.0 if cap >= num_examples or rate == 0 else _tail(cap + 1, num_examples, rate)


def _tail(least, trials, rate):
    return 1.0 if rate == 1 else float(bdtrc(least - 1, trials, rate))


def _exactly(count, trials, rate):
    if rate == 1:
        return float(count == trials)
    log_choose = gammaln(trials + 1) - gammaln(count + 1) - gammaln(trials - count + 1)
    return math.exp(log_choose + count * math.log(rate) + (trials - count) * math.log1p(-rate))
