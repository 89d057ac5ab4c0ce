"""STDP in one call per step."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_learning.functional.update import BatchReduction, sequence
from snn_learning.rules.pair import PairSTDP
from snn_learning.synapse import describe_synapse

WeightFunction = Callable[[Tensor], Tensor]


class STDPLearner(MemoryModule):
    """Trace STDP that is told its spikes: ``learner.stdp(s_pre, s_post, module, learning_rate)``.

    ::

        tr_pre  <- tr_pre  - tr_pre / tau_pre  + s_pre,      tr_post likewise with tau_post
        dw = learning_rate * (f_post(w) * s_post (x) tr_pre - f_pre(w) * tr_post (x) s_pre)

    Time constants are in steps. Spikes of the same step pair. In step mode ``"m"`` the call takes a window of steps
    and makes one update, with ``f`` of the weight at its start; in ``"s"`` one step.

    Args:
        tau_pre, tau_post: time constants of the traces in steps, at least 1.
        f_pre, f_post: dependence of depression and potentiation on the weight; ``None`` for 1.
        w_min, w_max: bounds of the weight; none by default.
        batch_reduction: ``"mean"``, ``"sum"`` or ``"minibatch_invariant"``.
        step_mode: ``"s"`` for spikes ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.

    Raises:
        ValueError: a time constant below 1.

    References:
        Morrison, Diesmann, Gerstner 2008.
    """

    def __init__(
        self,
        tau_pre: float,
        tau_post: float,
        f_pre: WeightFunction | None = None,
        f_post: WeightFunction | None = None,
        *,
        w_min: float | None = None,
        w_max: float | None = None,
        batch_reduction: BatchReduction = "mean",
        step_mode: Literal["s", "m"] = "s",
    ) -> None:
        super().__init__(step_mode)
        self.tau_pre, self.tau_post, self.batch_reduction = tau_pre, tau_post, batch_reduction
        one = torch.ones_like
        self.rule = PairSTDP(
            tau_plus=_equal_tau(tau_pre, "tau_pre"),
            tau_minus=_equal_tau(tau_post, "tau_post"),
            a_plus=1.0,
            a_minus=1.0,
            coincidence="include",
            dependence="additive" if f_pre is None and f_post is None else (f_post or one, f_pre or one),
            w_min=w_min,
            w_max=w_max,
        )
        self.register_memory("x_pre", None, persistent=True)
        self.register_memory("x_post", None, persistent=True)

    @torch.no_grad()
    def stdp(self, s_pre: Tensor, s_post: Tensor, module: nn.Module, learning_rate: float) -> None:
        """Update the weight of ``module`` in place.

        Args:
            s_pre, s_post: spikes ``[N, ...]``, or ``[T, N, ...]`` in step mode ``"m"``; in ``"s"`` a linear module also
                takes ``[features]``.
            module: ``nn.Linear``, ``nn.Conv1d/2d/3d`` or a masked linear module.
            learning_rate: scale of the change.

        Raises:
            TypeError: an unsupported module.
            ValueError: shapes that do not fit; nothing has been changed then.
        """
        synapse = describe_synapse(module)
        if self.step_mode == "s":
            if s_pre.dim() == 1 and s_post.dim() == 1 and synapse.dims == 1:
                s_pre, s_post = s_pre.unsqueeze(0), s_post.unsqueeze(0)
            s_pre, s_post = s_pre.unsqueeze(0), s_post.unsqueeze(0)
        state = None if self.x_pre is None or self.x_post is None else {"x_pre": self.x_pre, "x_post": self.x_post}
        self.rule.a_plus = self.rule.a_minus = learning_rate
        pre = synapse.padded(s_pre.to(torch.promote_types(s_pre.dtype, torch.float32)))
        w, state = sequence(
            self.rule, synapse.weight, pre, s_post, state, update="window", geometry=synapse.geometry,
            batch_reduction=self.batch_reduction, mask=synapse.mask,
        )  # fmt: skip
        synapse.weight.copy_(w)
        self.set_memories(state)

    def extra_repr(self) -> str:
        return f"tau_pre={self.tau_pre}, tau_post={self.tau_post}, {super().extra_repr()}"


def _equal_tau(tau: float, name: str) -> float:
    """Return the time constant of the exponential decay that equals the factor ``1 - 1 / tau``."""
    if not tau >= 1.0:
        raise ValueError(f"{name} must be at least 1 step, got {tau}")
    if math.isinf(tau) or tau == 1.0:
        return 0.0 if tau == 1.0 else math.inf
    return -1.0 / math.log1p(-1.0 / tau)
