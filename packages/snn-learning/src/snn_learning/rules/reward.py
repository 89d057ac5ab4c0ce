"""Learning that reward modulates, with or without eligibility traces."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from snn_learning.functional.checks import check_choice
from snn_learning.functional.geometry import Geometry
from snn_learning.functional.reward import reward_to_go
from snn_learning.functional.rule import Change, Rule, State, evaluate, scaled
from snn_learning.functional.traces import decay_factor, decay_powers
from snn_learning.rules.pair import PairSTDP

_ELIGIBILITY = "eligibility"


class RewardModulated(Rule):
    """Lets a rule propose changes that only a reward makes.

    With ``h[t]`` what the wrapped rule proposes at step ``t``::

        e[t] = e[t-1] * exp(-dt / tau_e) + g * h[t],     g = 1 / tau_e if normalised else 1
        dw[t] = lr * r[t] * e[t]        (timing "same")
        dw[t] = lr * r[t] * e[t-1]      (timing "next")

    A reward may differ between samples; each sample's eligibility meets its own.

    Args:
        rule: the rule that proposes; its own bounds hold for the weight.
        lr: learning rate.
        tau_e: time constant of the eligibility in ms; 0 for none: the reward meets what its own step proposes.
        normalised: divide proposals by ``tau_e``.
        timing: which eligibility a step's reward meets.
        eligibility: what is carried from one call to the next: ``"per_sample"``, ``[N, *weight]``, allows any reward;
            ``"shared"``, one of the weight's shape summed over the batch, needs a reward that is the same for all
            samples; ``"window"`` stores none: only reward within the same call is met, summed backwards in time as
            `snn_learning.functional.reward_to_go`; with it only ``update="window"`` has a meaning beyond one step.
        dt: duration of a step in ms.

    Raises:
        ValueError: an unknown name, or options that exclude each other.
        TypeError: ``rule`` is no rule or is itself modulated.

    References:
        Izhikevich 2007; Florian 2007; Fremaux, Gerstner 2016.
    """

    needs_reward: ClassVar[bool] = True

    def __init__(
        self,
        rule: Rule,
        *,
        lr: float = 1.0,
        tau_e: float = 50.0,
        normalised: bool = False,
        timing: Literal["same", "next"] = "same",
        eligibility: Literal["per_sample", "shared", "window"] = "per_sample",
        dt: float = 1.0,
    ) -> None:
        if not isinstance(rule, Rule) or rule.needs_reward:
            raise TypeError(f"rule must be a rule that takes no reward itself, got {type(rule).__name__}")
        if rule.sequential or (isinstance(rule, PairSTDP) and rule.per_synapse):
            raise ValueError("reward modulation needs products of one neuron each: a simultaneous order and a scheme "
                             "'all_to_all' or 'nearest_symmetric'")  # fmt: skip
        super().__init__(w_min=rule.w_min, w_max=rule.w_max)
        check_choice(timing, "timing", ("same", "next"))
        check_choice(eligibility, "eligibility", ("per_sample", "shared", "window"))
        decay_factor(tau_e, dt)
        if normalised and tau_e == 0.0:
            raise ValueError("normalised=True divides by tau_e, which is 0")
        self.rule = rule
        self.lr, self.tau_e, self.normalised, self.timing, self.dt = lr, tau_e, normalised, timing, dt
        self.eligibility = eligibility
        self.state_names = (*rule.state_names, *([] if eligibility == "window" else [_ELIGIBILITY]))  # type: ignore[misc]
        self.post_signal = rule.post_signal  # type: ignore[misc]

    def check(self, pre: Tensor, post: Tensor) -> None:
        self.rule.check(pre, post)

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        state = self.rule.initial_state(pre, post, geometry)
        if self.eligibility == "window":
            return state
        shape = geometry.outer(post.unsqueeze(0), pre.unsqueeze(0)).shape
        lead = (pre.shape[0],) if self.eligibility == "per_sample" else ()
        return state | {_ELIGIBILITY: pre.new_zeros(*lead, *shape)}

    def fresh_value(self, name: str) -> float:
        return 0.0 if name == _ELIGIBILITY else self.rule.fresh_value(name)

    def changes(
        self, w: Tensor, pre: Tensor, post: Tensor, state: State, *, geometry: Geometry, reward: Tensor | None = None
    ) -> tuple[list[Change], State]:
        if reward is None:
            raise ValueError("a modulated rule needs a reward")
        if self.eligibility == "shared" and reward.shape[1] != 1:
            raise ValueError(
                "eligibility='shared' is summed over the batch and needs one reward for all samples, a number or "
                f"[T, 1]; got one per sample, {tuple(reward.shape)}"
            )
        steps = pre.shape[0]
        decay = decay_factor(self.tau_e, self.dt)
        g = 1.0 / self.tau_e if self.normalised else 1.0
        carried = state.get(_ELIGIBILITY)
        terms, state = self.rule.terms(pre, post, {k: v for k, v in state.items() if k != _ELIGIBILITY})
        to_go = reward_to_go(reward, decay, self.timing)
        changes = [
            Change(scaled(term.gain, self.lr * g), geometry.outer(_rows(term.post, to_go), term.pre)) for term in terms
        ]
        if carried is None:
            return changes, state
        powers = decay_powers(steps + 1, decay, pre)
        met = torch.tensordot(powers[1:] if self.timing == "same" else powers[:-1], reward, 1)
        kept = torch.tensordot(met, carried, 1) if self.eligibility == "per_sample" else met * carried
        changes.append(Change(self.lr, kept))
        outer = geometry.outer_per_sample if self.eligibility == "per_sample" else geometry.outer
        left = powers[:-1].flip(0).unsqueeze(1)
        new = decay**steps * carried
        for term in terms:
            amount = outer(_rows(term.post, left), term.pre)
            new = new + (g * evaluate(term.gain, w)) * amount
        return changes, state | {_ELIGIBILITY: new}


def _rows(post: Tensor, factor: Tensor) -> Tensor:
    return post * factor.view(*factor.shape, *([1] * (post.dim() - 2)))


class MSTDP(RewardModulated):
    """Reward-modulated STDP without eligibility trace: ``dw[t] = lr * r[t] * h[t]``.

    Args:
        rule: pair rule that proposes; by default additive STDP that includes coincidences.
        lr: learning rate.

    References:
        Florian 2007, Reinforcement learning through modulation of spike-timing-dependent synaptic plasticity.
    """

    def __init__(self, rule: Rule | None = None, *, lr: float = 1.0) -> None:
        rule = PairSTDP(coincidence="include") if rule is None else rule
        super().__init__(rule, lr=lr, tau_e=0.0, eligibility="window")


class MSTDPET(RewardModulated):
    """Reward-modulated STDP with eligibility trace (Florian): normalised, the reward meets the step before.

    Args:
        rule: pair rule that proposes; by default additive STDP that includes coincidences.
        lr, tau_e, eligibility, dt: as in `RewardModulated`.

    References:
        Florian 2007.
    """

    def __init__(
        self,
        rule: Rule | None = None,
        *,
        lr: float = 1.0,
        tau_e: float = 25.0,
        eligibility: Literal["per_sample", "shared", "window"] = "per_sample",
        dt: float = 1.0,
    ) -> None:
        rule = PairSTDP(coincidence="include", dt=dt) if rule is None else rule
        super().__init__(rule, lr=lr, tau_e=tau_e, normalised=True, timing="next", eligibility=eligibility, dt=dt)


class RSTDP(RewardModulated):
    """Reward-modulated STDP with eligibility trace (Izhikevich): raw proposals, the reward meets its own step.

    Args:
        rule: pair rule that proposes; by default additive STDP that includes coincidences.
        lr, tau_e, eligibility, dt: as in `RewardModulated`.

    References:
        Izhikevich 2007, Solving the distal reward problem through linkage of STDP and dopamine signaling.
    """

    def __init__(
        self,
        rule: Rule | None = None,
        *,
        lr: float = 1.0,
        tau_e: float = 1000.0,
        eligibility: Literal["per_sample", "shared", "window"] = "per_sample",
        dt: float = 1.0,
    ) -> None:
        rule = PairSTDP(coincidence="include", dt=dt) if rule is None else rule
        super().__init__(rule, lr=lr, tau_e=tau_e, normalised=False, timing="same", eligibility=eligibility, dt=dt)
