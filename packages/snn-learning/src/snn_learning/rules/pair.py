"""Pair-based spike-timing-dependent plasticity."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from snn_learning.functional.checks import check_binary, check_choice
from snn_learning.functional.geometry import Geometry, LinearGeometry
from snn_learning.functional.rule import Change, Gain, Rule, State, Term, is_number, scaled
from snn_learning.functional.traces import decay_factor, last_trace, nearest_trace, previous, reverse_trace, trace
from snn_learning.rules.dependence import Dependence, weight_gains

Scheme = Literal["all_to_all", "nearest_symmetric", "nearest_pre_centred", "nearest_reduced"]
Coincidence = Literal["include", "exclude", "pre_first", "post_first"]

# coincidence -> (potentiation sees this step's pre spike, depression sees this step's post spike)
SEES_OWN_STEP = {
    "include": (True, True),
    "exclude": (False, False),
    "pre_first": (True, False),
    "post_first": (False, True),
}
_PER_SYNAPSE = ("nearest_pre_centred", "nearest_reduced")


class PairSTDP(Rule):
    """Pair STDP with pre- and postsynaptic traces.

    In one step of ``dt`` ms, with ``x`` the traces that decay by ``exp(-dt / tau)`` and grow by one at a spike::

        dw = f_plus(w) * s_post (x) x_pre - f_minus(w) * x_post (x) s_pre

    Args:
        tau_plus, tau_minus: time constants of the pre- and the postsynaptic trace, in ms.
        a_plus, a_minus: amplitudes of potentiation and depression.
        dt: duration of a step in ms.
        scheme: which spikes pair (Morrison et al. 2008): ``"all_to_all"``; ``"nearest_symmetric"`` (a trace is set to
            one); ``"nearest_pre_centred"`` and ``"nearest_reduced"``, whose traces live at each synapse, so they need
            ``coincidence="exclude"``, a linear synapse and memory ``[N, N_post, N_pre]``.
        coincidence: whether spikes of the same step pair: ``"include"``, ``"exclude"``, or in one order only,
            ``"pre_first"`` (potentiation only) or ``"post_first"`` (depression only).
        dependence: ``f`` as `Dependence` has it, or a pair of functions ``(f_plus, f_minus)`` of the weight.
        mu, w_0: exponent of ``"power"`` and ``"morrison"``, reference weight of ``"morrison"``.
        w_min, w_max: bounds of the weight.
        order: ``"simultaneous"``, or ``"sequential"``: depress and bound, then potentiate and bound, within one step
            (needs ``coincidence="pre_first"``; stepwise updates only).

    Raises:
        ValueError: an unknown name, a negative time constant, or options that exclude each other.

    References:
        Song, Miller, Abbott 2000; van Rossum et al. 2000; Guetig et al. 2003; Morrison, Diesmann, Gerstner 2008.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x_pre", "x_post")

    def __init__(
        self,
        *,
        tau_plus: float = 20.0,
        tau_minus: float = 20.0,
        a_plus: float | Tensor = 0.01,
        a_minus: float | Tensor = 0.012,
        dt: float = 1.0,
        scheme: Scheme = "all_to_all",
        coincidence: Coincidence = "exclude",
        dependence: Dependence | tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = "additive",
        mu: float = 1.0,
        w_0: float = 1.0,
        w_min: float | None = 0.0,
        w_max: float | None = 1.0,
        order: Literal["simultaneous", "sequential"] = "simultaneous",
    ) -> None:
        super().__init__(w_min=w_min, w_max=w_max)
        check_choice(scheme, "scheme", ("all_to_all", "nearest_symmetric", *_PER_SYNAPSE))
        check_choice(coincidence, "coincidence", SEES_OWN_STEP)
        check_choice(order, "order", ("simultaneous", "sequential"))
        if order == "sequential" and coincidence != "pre_first":
            raise ValueError(f"order='sequential' needs coincidence='pre_first', got {coincidence!r}")
        if scheme in _PER_SYNAPSE and coincidence != "exclude":
            raise ValueError(f"scheme={scheme!r} is defined for coincidence='exclude' only, got {coincidence!r}")
        decay_factor(tau_plus, dt), decay_factor(tau_minus, dt)
        self.tau_plus, self.tau_minus, self.dt = tau_plus, tau_minus, dt
        self.a_plus, self.a_minus = a_plus, a_minus
        self.scheme, self.coincidence, self.dependence, self.order = scheme, coincidence, dependence, order
        self.mu, self.w_0 = mu, w_0
        self.sequential = order == "sequential"
        self._gains()  # bad options fail here, not at the first update

    def _gains(self) -> tuple[Gain, Gain]:
        return weight_gains(
            self.dependence, self.a_plus, self.a_minus, mu=self.mu, w_0=self.w_0, w_min=self.w_min, w_max=self.w_max
        )

    @property
    def per_synapse(self) -> bool:
        """Whether the traces live at each synapse."""
        return self.scheme in _PER_SYNAPSE

    def check(self, pre: Tensor, post: Tensor) -> None:
        if self.scheme != "all_to_all":
            check_binary(pre, "presynaptic spikes")
            check_binary(post, "postsynaptic spikes")

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        if not self.per_synapse:
            return {"x_pre": torch.zeros_like(pre), "x_post": torch.zeros_like(post)}
        if not isinstance(geometry, LinearGeometry) or pre.dim() != 2:
            raise ValueError(
                f"scheme={self.scheme!r} keeps a trace per synapse and needs a linear synapse and [T, N, F]"
            )
        per_synapse = pre.new_zeros(pre.shape[0], post.shape[1], pre.shape[1])
        return {"x_pre": per_synapse, "x_post": per_synapse.clone()}

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        if self.per_synapse:
            raise ValueError(f"scheme={self.scheme!r} keeps a trace per synapse and has no products of one neuron each")
        d_plus, d_minus = decay_factor(self.tau_plus, self.dt), decay_factor(self.tau_minus, self.dt)
        f_plus, f_minus = self._gains()
        run = trace if self.scheme == "all_to_all" else nearest_trace
        x_pre, x_post = run(pre, state["x_pre"], d_plus), run(post, state["x_post"], d_minus)
        ltp_sees, ltd_sees = SEES_OWN_STEP[self.coincidence]
        seen_pre = x_pre if ltp_sees else previous(x_pre, state["x_pre"], d_plus)
        seen_post = x_post if ltd_sees else previous(x_post, state["x_post"], d_minus)
        terms = [Term(seen_post, pre, scaled(f_minus, -1.0)), Term(post, seen_pre, f_plus)]
        return terms, {"x_pre": x_pre[-1], "x_post": x_post[-1]}

    def window_terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        if self.scheme != "all_to_all":
            return self.terms(pre, post, state)
        # The adjoint of a trace moves both traces to the side with fewer numbers,
        #   sum_t post[t] x_pre[t] - x_post[t] pre[t] = sum_t post[t] (causal(pre) - anticausal(pre))[t],
        # so that gains that are numbers leave one product; what the carried trace of the other side adds has rank N.
        d_plus, d_minus = decay_factor(self.tau_plus, self.dt), decay_factor(self.tau_minus, self.dt)
        ltp_sees, ltd_sees = SEES_OWN_STEP[self.coincidence]
        f_plus, f_minus = self._gains()
        f_down = scaled(f_minus, -1.0)
        if pre[0].numel() <= post[0].numel():
            x_pre = trace(pre, state["x_pre"], d_plus)
            seen = x_pre if ltp_sees else previous(x_pre, state["x_pre"], d_plus)
            new = {"x_pre": x_pre[-1].clone(), "x_post": last_trace(post, state["x_post"], d_minus)}
            later, first = _later(pre, d_minus, ltd_sees)
            carried = Term(state["x_post"].unsqueeze(0), first, f_down)
            if is_number(f_plus) and is_number(f_minus):
                return [Term(post, _mixed(seen, f_plus, later, f_down)), carried], new
            return [Term(post, later, f_down), Term(post, seen, f_plus), carried], new
        x_post = trace(post, state["x_post"], d_minus)
        seen = x_post if ltd_sees else previous(x_post, state["x_post"], d_minus)
        new = {"x_pre": last_trace(pre, state["x_pre"], d_plus), "x_post": x_post[-1].clone()}
        later, first = _later(post, d_plus, ltp_sees)
        carried = Term(first, state["x_pre"].unsqueeze(0), f_plus)
        if is_number(f_plus) and is_number(f_minus):
            return [Term(_mixed(seen, f_down, later, f_plus), pre), carried], new
        return [Term(seen, pre, f_down), Term(later, pre, f_plus), carried], new

    def changes(
        self, w: Tensor, pre: Tensor, post: Tensor, state: State, *, geometry: Geometry, reward: Tensor | None = None
    ) -> tuple[list[Change], State]:
        if not self.per_synapse:
            return super().changes(w, pre, post, state, geometry=geometry, reward=reward)
        x_pre, x_post = state["x_pre"], state["x_post"]
        d_plus, d_minus = decay_factor(self.tau_plus, self.dt), decay_factor(self.tau_minus, self.dt)
        ltp, ltd = torch.zeros_like(w), torch.zeros_like(w)
        for s_pre, s_post in zip(pre.unsqueeze(2), post.unsqueeze(3), strict=True):  # [N, 1, N_pre], [N, N_post, 1]
            x_pre, x_post = d_plus * x_pre, d_minus * x_post
            ltp = ltp + (s_post * x_pre).sum(0)
            ltd = ltd - (x_post * s_pre).sum(0)
            x_pre = x_pre * (1 - s_post)
            if self.scheme == "nearest_pre_centred":
                x_pre = x_pre + s_pre
            else:
                x_pre = torch.maximum(x_pre, s_pre)
                x_post = x_post * (1 - s_pre)
            x_post = torch.maximum(x_post, s_post)
        f_plus, f_minus = self._gains()
        return [Change(f_minus, ltd), Change(f_plus, ltp)], {"x_pre": x_pre, "x_post": x_post}


def _later(s: Tensor, decay: float, own_step: bool) -> tuple[Tensor, Tensor]:
    """Return the trace of later spikes that each step meets, and the factor that meets the carried trace."""
    later = reverse_trace(s, decay)
    first = decay * later[:1]
    return (later if own_step else later - s), first


def _mixed(a: Tensor, a_gain: Gain, b: Tensor, b_gain: Gain) -> Tensor:
    """Return ``a_gain * a + b_gain * b``, in the memory of ``b`` where autograd does not need it."""
    if any(isinstance(x, Tensor) and x.requires_grad for x in (a, b, a_gain, b_gain)):
        return a_gain * a + b_gain * b  # type: ignore[operator]
    return b.mul_(b_gain).add_(a, alpha=float(a_gain))  # type: ignore[arg-type]
