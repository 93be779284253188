"""Audits of mechanisms whose epsilon is known, drawn by NumPy alone."""
from __future__ import annotations

from typing import Callable

import numpy as np

NOTHING = "nothing leaks"


def randomised_response(epsilon: float) -> Callable:
    """Scores of canaries whose coin is answered truthfully with probability exp(epsilon) / (1 + exp(epsilon))."""
    def scores(coins, rng):
        truthful = rng.random(len(coins)) < 1 / (1 + np.exp(-epsilon))
        return np.where(coins == truthful, 1.0, -1.0)
    return scores


def laplace(epsilon: float) -> Callable:
    """Scores coin + Laplace noise."""
    return lambda coins, rng: coins + rng.laplace(scale=1 / epsilon, size=len(coins))


def gaussian(mu: float) -> Callable:
    """Scores mu * coin + normal noise."""
    return lambda coins, rng: mu * coins + rng.normal(size=len(coins))


def nothing(coins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Scores that know nothing."""
    return rng.normal(size=len(coins))


MECHANISMS = {NOTHING: (nothing, 0.0), "RR 1": (randomised_response(1.0), 1.0),
              "RR 4": (randomised_response(4.0), 4.0), "Laplace 1": (laplace(1.0), 1.0)}


def correct_guesses(scores: Callable, canaries: int, rng: np.random.Generator) -> np.ndarray:
    """Whether each guess is right, the most certain first: largest, smallest, second largest, ..; ties at random."""
    coins = rng.random(canaries) < 0.5
    order = np.lexsort((rng.random(canaries), scores(coins, rng)))
    positions = np.empty(canaries, int)
    positions[0::2], positions[1::2] = order[::-1][:(canaries + 1) // 2], order[:canaries // 2]
    guessed_in = np.arange(canaries) % 2 == 0
    return coins[positions] == guessed_in
