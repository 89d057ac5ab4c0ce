"""Local learning for spiking networks: exact, batched, fused over time."""

from snn_learning import functional
from snn_learning.__about__ import __version__
from snn_learning.homeostasis import AdaptiveThreshold, WinnerTakeAll
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
    "Oja",
    "PairSTDP",
    "RewardModulated",
    "Rule",
    "TripletSTDP",
    "TsodyksMarkram",
    "VogelsSTDP",
    "WinnerTakeAll",
    "__version__",
    "functional",
]
