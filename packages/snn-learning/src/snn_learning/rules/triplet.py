"""Triplet STDP."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from snn_learning.functional.checks import check_binary, check_choice
from snn_learning.functional.geometry import Geometry
from snn_learning.functional.rule import Rule, State, Term
from snn_learning.functional.traces import decay_factor, nearest_trace, previous, trace
from snn_learning.rules.pair import SEES_OWN_STEP, Coincidence

Preset = Literal[
    "visual_all_to_all", "visual_nearest", "hippocampal_all_to_all", "hippocampal_nearest",
    "visual_all_to_all_minimal", "visual_nearest_minimal", "hippocampal_all_to_all_minimal",
    "hippocampal_nearest_minimal",
]  # fmt: skip

_NAMES = ("a2_plus", "a3_plus", "a2_minus", "a3_minus", "tau_x", "tau_y")
# Pfister, Gerstner 2006, tables 3 (visual cortex) and 4 (hippocampal culture); tau_plus 16.8 ms, tau_minus 33.7 ms.
TRIPLET_PRESETS: dict[str, dict[str, float]] = {
    "visual_all_to_all": dict(zip(_NAMES, (5e-10, 6.2e-3, 7e-3, 2.3e-4, 101.0, 125.0), strict=True)),
    "visual_nearest": dict(zip(_NAMES, (8.8e-11, 5.3e-2, 6.6e-3, 3.1e-3, 714.0, 40.0), strict=True)),
    "hippocampal_all_to_all": dict(zip(_NAMES, (6.1e-3, 6.7e-3, 1.6e-3, 1.4e-3, 946.0, 27.0), strict=True)),
    "hippocampal_nearest": dict(zip(_NAMES, (4.6e-3, 9.1e-3, 3e-3, 7.5e-9, 575.0, 47.0), strict=True)),
    "visual_all_to_all_minimal": dict(zip(_NAMES, (0.0, 6.5e-3, 7.1e-3, 0.0, 101.0, 114.0), strict=True)),
    "visual_nearest_minimal": dict(zip(_NAMES, (0.0, 5e-2, 8e-3, 0.0, 101.0, 40.0), strict=True)),
    "hippocampal_all_to_all_minimal": dict(zip(_NAMES, (5.3e-3, 8e-3, 3.5e-3, 0.0, 946.0, 40.0), strict=True)),
    "hippocampal_nearest_minimal": dict(zip(_NAMES, (4.6e-3, 9.1e-3, 3e-3, 0.0, 575.0, 48.0), strict=True)),
}


class TripletSTDP(Rule):
    """Triplet STDP: a second, slower trace on each side scales potentiation and depression.

    ::

        dw = s_post * (a2_plus + a3_plus * o2) (x) r1 - o1 (x) s_pre * (a2_minus + a3_minus * r2)

    ``r1`` and ``o1`` are the traces of pre- and postsynaptic spikes with ``tau_plus`` and ``tau_minus``; ``r2`` and
    ``o2``, with ``tau_x`` and ``tau_y``, are always seen just before the spikes of the step.

    Args:
        preset: a published set of parameters, see ``TRIPLET_PRESETS``; further arguments replace single values of it.
            ``"..._nearest"`` presets were fitted with ``scheme="nearest_symmetric"``, which they set.
        tau_plus, tau_minus, tau_x, tau_y: time constants in ms.
        a2_plus, a3_plus, a2_minus, a3_minus: amplitudes of pairs and triplets.
        dt: duration of a step in ms.
        scheme: ``"all_to_all"`` or ``"nearest_symmetric"``.
        coincidence: whether spikes of the same step pair, as in `PairSTDP`.
        w_min, w_max: bounds of the weight.

    Raises:
        ValueError: an unknown name or a negative time constant.

    References:
        Pfister, Gerstner 2006, Triplets of spikes in a model of spike timing-dependent plasticity.
    """

    state_names: ClassVar[tuple[str, ...]] = ("r1", "r2", "o1", "o2")

    def __init__(
        self,
        preset: Preset = "visual_all_to_all",
        *,
        tau_plus: float = 16.8,
        tau_minus: float = 33.7,
        tau_x: float | None = None,
        tau_y: float | None = None,
        a2_plus: float | None = None,
        a3_plus: float | None = None,
        a2_minus: float | None = None,
        a3_minus: float | None = None,
        dt: float = 1.0,
        scheme: Literal["all_to_all", "nearest_symmetric"] | None = None,
        coincidence: Coincidence = "exclude",
        w_min: float | None = 0.0,
        w_max: float | None = 1.0,
    ) -> None:
        super().__init__(w_min=w_min, w_max=w_max)
        check_choice(preset, "preset", TRIPLET_PRESETS)
        check_choice(coincidence, "coincidence", SEES_OWN_STEP)
        if scheme is None:
            scheme = "nearest_symmetric" if "nearest" in preset else "all_to_all"
        check_choice(scheme, "scheme", ("all_to_all", "nearest_symmetric"))
        own = {"a2_plus": a2_plus, "a3_plus": a3_plus, "a2_minus": a2_minus, "a3_minus": a3_minus, "tau_x": tau_x,
               "tau_y": tau_y}  # fmt: skip
        values = TRIPLET_PRESETS[preset] | {k: v for k, v in own.items() if v is not None}
        self.a2_plus, self.a3_plus = values["a2_plus"], values["a3_plus"]
        self.a2_minus, self.a3_minus = values["a2_minus"], values["a3_minus"]
        self.tau_plus, self.tau_minus, self.tau_x, self.tau_y = tau_plus, tau_minus, values["tau_x"], values["tau_y"]
        self.dt, self.scheme, self.coincidence = dt, scheme, coincidence
        for tau in (tau_plus, tau_minus, self.tau_x, self.tau_y):
            decay_factor(tau, dt)

    def check(self, pre: Tensor, post: Tensor) -> None:
        if self.scheme != "all_to_all":
            check_binary(pre, "presynaptic spikes")
            check_binary(post, "postsynaptic spikes")

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        return {name: torch.zeros_like(pre if name[0] == "r" else post) for name in self.state_names}

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        run = trace if self.scheme == "all_to_all" else nearest_trace
        decays = {
            "r1": decay_factor(self.tau_plus, self.dt),
            "r2": decay_factor(self.tau_x, self.dt),
            "o1": decay_factor(self.tau_minus, self.dt),
            "o2": decay_factor(self.tau_y, self.dt),
        }
        after = {k: run(pre if k[0] == "r" else post, state[k], d) for k, d in decays.items()}
        sees = dict(zip(("r1", "o1"), SEES_OWN_STEP[self.coincidence], strict=True))
        seen = {
            k: after[k] if sees.get(k, False) else previous(after[k], state[k], d) for k, d in decays.items()
        }  # the slow traces r2, o2 never see their own step
        terms = [
            Term(-seen["o1"], pre * (self.a2_minus + self.a3_minus * seen["r2"])),
            Term(post * (self.a2_plus + self.a3_plus * seen["o2"]), seen["r1"]),
        ]
        return terms, {k: v[-1].clone() for k, v in after.items()}
