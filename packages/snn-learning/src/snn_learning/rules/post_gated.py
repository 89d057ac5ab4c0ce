"""Rules that change a weight only when its postsynaptic neuron fires."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from snn_learning.functional.checks import check_binary, check_choice
from snn_learning.functional.geometry import Geometry
from snn_learning.functional.rule import Gain, Rule, State, Term
from snn_learning.functional.traces import decay_factor, nearest_trace, previous, trace


class _PostGated(Rule):
    state_names: ClassVar[tuple[str, ...]] = ("x_pre",)

    def __init__(
        self,
        *,
        lr: float,
        tau: float,
        dt: float,
        scheme: str,
        coincidence: str,
        w_min: float | None,
        w_max: float | None,
    ) -> None:
        super().__init__(w_min=w_min, w_max=w_max)
        check_choice(scheme, "scheme", ("all_to_all", "nearest_symmetric"))
        check_choice(coincidence, "coincidence", ("include", "exclude"))
        decay_factor(tau, dt)
        self.lr, self.tau, self.dt, self.scheme, self.coincidence = lr, tau, dt, scheme, coincidence

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        return {"x_pre": torch.zeros_like(pre)}

    def check(self, pre: Tensor, post: Tensor) -> None:
        if self.scheme != "all_to_all":
            check_binary(pre, "presynaptic spikes")

    def _seen(self, pre: Tensor, state: State) -> tuple[Tensor, State]:
        decay = decay_factor(self.tau, self.dt)
        run = trace if self.scheme == "all_to_all" else nearest_trace
        x_pre = run(pre, state["x_pre"], decay)
        seen = x_pre if self.coincidence == "include" else previous(x_pre, state["x_pre"], decay)
        return seen, {"x_pre": x_pre[-1].clone()}


class DiehlCook(_PostGated):
    """Post-gated STDP: a postsynaptic spike pulls weights up where the presynaptic trace is above a target, else down.

    ::

        dw = lr * s_post (x) (x_pre - x_tar) * (w_max - w)**mu

    Args:
        lr: learning rate.
        x_tar: target of the trace; 0 never depresses.
        mu: exponent of the weight dependence.
        tau: time constant of the presynaptic trace in ms.
        dt: duration of a step in ms.
        scheme: ``"all_to_all"`` or ``"nearest_symmetric"`` (the trace is set to one).
        coincidence: ``"include"`` or ``"exclude"`` presynaptic spikes of the same step.
        w_min, w_max: bounds of the weight; ``w_max`` enters the equation.

    Raises:
        ValueError: an unknown name or a negative time constant.

    References:
        Diehl, Cook 2015, Unsupervised learning of digit recognition using spike-timing-dependent plasticity.
    """

    def __init__(
        self,
        *,
        lr: float = 0.01,
        x_tar: float = 0.4,
        mu: float = 0.2,
        tau: float = 20.0,
        dt: float = 1.0,
        scheme: Literal["all_to_all", "nearest_symmetric"] = "nearest_symmetric",
        coincidence: Literal["include", "exclude"] = "include",
        w_min: float | None = 0.0,
        w_max: float = 1.0,
    ) -> None:
        super().__init__(lr=lr, tau=tau, dt=dt, scheme=scheme, coincidence=coincidence, w_min=w_min, w_max=w_max)
        self.x_tar, self.mu, self._ceiling = x_tar, mu, w_max

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        seen, state = self._seen(pre, state)
        gain: Gain = self.lr if self.mu == 0.0 else (lambda w: self.lr * (self._ceiling - w) ** self.mu)
        terms = [Term(post, seen, gain)]
        if self.x_tar != 0.0:
            terms.append(Term(post, -self.x_tar, gain))
        return terms, state


class Instar(_PostGated):
    """The instar rule: a postsynaptic spike draws the weights of its neuron towards the presynaptic trace.

    ::

        dw = lr * s_post (x) (x_pre - w)

    At equilibrium a weight is the mean trace at the spikes of its neuron, so the neurons of a winner-take-all layer
    become centres of clusters.

    Args:
        lr: learning rate; in one update ``lr`` times the number of spikes should stay below 1.
        tau: time constant of the presynaptic trace in ms; 0 compares with the spikes themselves.
        dt: duration of a step in ms.
        scheme: ``"all_to_all"`` or ``"nearest_symmetric"``.
        coincidence: ``"include"`` or ``"exclude"`` presynaptic spikes of the same step.
        w_min, w_max: bounds of the weight.

    Raises:
        ValueError: an unknown name or a negative time constant.

    References:
        Grossberg 1976, Adaptive pattern classification and universal recoding.
    """

    def __init__(
        self,
        *,
        lr: float = 0.01,
        tau: float = 20.0,
        dt: float = 1.0,
        scheme: Literal["all_to_all", "nearest_symmetric"] = "all_to_all",
        coincidence: Literal["include", "exclude"] = "include",
        w_min: float | None = None,
        w_max: float | None = None,
    ) -> None:
        super().__init__(lr=lr, tau=tau, dt=dt, scheme=scheme, coincidence=coincidence, w_min=w_min, w_max=w_max)

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        seen, state = self._seen(pre, state)
        return [Term(post, seen, self.lr), Term(post, 1.0, lambda w: -self.lr * w)], state
