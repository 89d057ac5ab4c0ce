"""Local learning for spiking networks: exact, batched, fused over time."""

from snn_learning import functional, networks, online
from snn_learning.__about__ import __version__
from snn_learning.homeostasis import AdaptiveThreshold, SynapticScaling, WinnerTakeAll
from snn_learning.learner import Learner
from snn_learning.rules import (
    BCM,
    MSTDP,
    MSTDPET,
    RSTDP,
    TRIPLET_PRESETS,
    ClopathSTDP,
    DiehlCook,
    Hebb,
    Instar,
    Oja,
    PairSTDP,
    RewardModulated,
    Rule,
    TripletSTDP,
    VogelsSTDP,
)
from snn_learning.short_term import TsodyksMarkram
from snn_learning.stdp_learner import STDPLearner

__all__ = [
    "BCM",
    "MSTDP",
    "MSTDPET",
    "RSTDP",
    "TRIPLET_PRESETS",
    "AdaptiveThreshold",
    "ClopathSTDP",
    "DiehlCook",
    "Hebb",
    "Instar",
    "Learner",
    "Oja",
    "PairSTDP",
    "RewardModulated",
    "Rule",
    "STDPLearner",
    "SynapticScaling",
    "TripletSTDP",
    "TsodyksMarkram",
    "VogelsSTDP",
    "WinnerTakeAll",
    "__version__",
    "functional",
    "networks",
    "online",
]
