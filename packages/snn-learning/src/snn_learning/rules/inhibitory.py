"""Inhibitory plasticity that balances excitation."""

from typing import ClassVar

import torch
from torch import Tensor

from snn_learning.functional.checks import check_choice
from snn_learning.functional.geometry import Geometry
from snn_learning.functional.rule import Rule, State, Term
from snn_learning.functional.traces import decay_factor, previous, trace
from snn_learning.rules.pair import SEES_OWN_STEP, Coincidence


class VogelsSTDP(Rule):
    """Inhibitory STDP: near-coincident spikes of either order strengthen, lone presynaptic spikes weaken.

    ::

        dw = lr * (s_post (x) x_pre + (x_post - alpha) (x) s_pre)

    The weight is the strength of an inhibitory synapse; it settles where the postsynaptic rate is
    ``alpha / (2 tau)`` spikes per ms.

    Args:
        lr: learning rate.
        alpha: depression by a presynaptic spike.
        tau: time constant of both traces in ms.
        dt: duration of a step in ms.
        coincidence: as in `PairSTDP`; ``"pre_first"`` and ``"post_first"`` are equal here.
        w_min, w_max: bounds of the weight.

    Raises:
        ValueError: an unknown name or a negative time constant.

    References:
        Vogels, Sprekeler, Zenke, Clopath, Gerstner 2011.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x_pre", "x_post")

    def __init__(
        self,
        *,
        lr: float = 0.01,
        alpha: float = 0.2,
        tau: float = 20.0,
        dt: float = 1.0,
        coincidence: Coincidence = "pre_first",
        w_min: float | None = 0.0,
        w_max: float | None = 1.0,
    ) -> None:
        super().__init__(w_min=w_min, w_max=w_max)
        check_choice(coincidence, "coincidence", SEES_OWN_STEP)
        decay_factor(tau, dt)
        self.lr, self.alpha, self.tau, self.dt, self.coincidence = lr, alpha, tau, dt, coincidence

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        return {"x_pre": torch.zeros_like(pre), "x_post": torch.zeros_like(post)}

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        decay = decay_factor(self.tau, self.dt)
        x_pre, x_post = trace(pre, state["x_pre"], decay), trace(post, state["x_post"], decay)
        ltp_sees, other_sees = SEES_OWN_STEP[self.coincidence]
        seen_pre = x_pre if ltp_sees else previous(x_pre, state["x_pre"], decay)
        seen_post = x_post if other_sees else previous(x_post, state["x_post"], decay)
        terms = [Term(seen_post - self.alpha, pre, self.lr), Term(post, seen_pre, self.lr)]
        return terms, {"x_pre": x_pre[-1].clone(), "x_post": x_post[-1].clone()}
