"""Pure functions with explicit state: traces, updates, competition, homeostasis, short-term plasticity."""

from snn_learning.functional.competition import winner_take_all
from snn_learning.functional.geometry import ConvGeometry, Geometry, LinearGeometry
from snn_learning.functional.homeostasis import adaptive_threshold_step, normalize_weights, synaptic_scaling
from snn_learning.functional.reward import reward_to_go
from snn_learning.functional.rule import Change, Rule, State, Term
from snn_learning.functional.short_term import ShortTermState, tsodyks_markram_step
from snn_learning.functional.traces import decay_factor, nearest_trace, reverse_trace, trace
from snn_learning.functional.update import Update, change, sequence, step

__all__ = [
    "Change",
    "ConvGeometry",
    "Geometry",
    "LinearGeometry",
    "Rule",
    "ShortTermState",
    "State",
    "Term",
    "Update",
    "adaptive_threshold_step",
    "change",
    "decay_factor",
    "nearest_trace",
    "normalize_weights",
    "reverse_trace",
    "reward_to_go",
    "sequence",
    "step",
    "synaptic_scaling",
    "trace",
    "tsodyks_markram_step",
    "winner_take_all",
]
