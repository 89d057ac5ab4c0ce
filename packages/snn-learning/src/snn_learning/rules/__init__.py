"""Local plasticity rules."""

from snn_learning.functional.rule import Rule
from snn_learning.rules.pair import PairSTDP
from snn_learning.rules.post_gated import DiehlCook, Instar

__all__ = ["DiehlCook", "Instar", "PairSTDP", "Rule"]
