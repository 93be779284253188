"""Federated rounds in which a client is the unit; needs neither MindSpore nor Flower (`flower` needs Flower)."""
from mindarmour.privacy.federated.rounds import PrivateRounds

__all__ = ["PrivateRounds"]
