"""Local plasticity rules."""

from snn_learning.functional.rule import Rule
from snn_learning.rules.inhibitory import VogelsSTDP
from snn_learning.rules.pair import PairSTDP
from snn_learning.rules.post_gated import DiehlCook, Instar
from snn_learning.rules.rate import BCM, Hebb, Oja
from snn_learning.rules.reward import MSTDP, MSTDPET, RSTDP, RewardModulated
from snn_learning.rules.triplet import TRIPLET_PRESETS, TripletSTDP
from snn_learning.rules.voltage import ClopathSTDP

__all__ = [
    "BCM",
    "MSTDP",
    "MSTDPET",
    "RSTDP",
    "TRIPLET_PRESETS",
    "ClopathSTDP",
    "DiehlCook",
    "Hebb",
    "Instar",
    "Oja",
    "PairSTDP",
    "RewardModulated",
    "Rule",
    "TripletSTDP",
    "VogelsSTDP",
]
