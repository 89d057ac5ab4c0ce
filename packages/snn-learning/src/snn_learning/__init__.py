"""Local learning for spiking networks: exact, batched, fused over time."""

from snn_learning import functional
from snn_learning.homeostasis import AdaptiveThreshold, WinnerTakeAll
from snn_learning.rules import DiehlCook, Instar, PairSTDP, Rule

__all__ = ["AdaptiveThreshold", "DiehlCook", "Instar", "PairSTDP", "Rule", "WinnerTakeAll", "functional"]
