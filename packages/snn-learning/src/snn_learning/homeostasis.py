"""Homeostasis and competition as modules."""

from typing import Literal

import torch
from torch import Tensor, nn

from snn_base import StepModule
from snn_learning.functional.checks import check_choice
from snn_learning.functional.competition import winner_take_all
from snn_learning.functional.homeostasis import adaptive_threshold_step, synaptic_scaling
from snn_learning.functional.traces import decay_factor


class AdaptiveThreshold(nn.Module):
    """A threshold that grows with every spike of its neuron and decays slowly, so that all neurons get their turn.

    ::

        theta <- theta * exp(-dt / tau) + theta_plus * mean_n s[n]

    ``forward`` subtracts ``theta`` from a membrane potential or a current, which is to raise the threshold by it;
    ``update`` learns from spikes and does nothing in eval mode. ``theta`` is a buffer: it is saved, and a reset of the
    network leaves it, for it is learned.

    Args:
        shape: shape of the neurons, without the batch; size 1 shares a threshold along a dim, as in ``(C, 1, 1)``.
        theta_plus: growth per spike.
        tau: time constant of the decay in ms; infinity for none.
        dt: duration of a step in ms.

    Raises:
        ValueError: a negative time constant.

    References:
        Diehl, Cook 2015.
    """

    theta: Tensor

    def __init__(
        self, shape: int | tuple[int, ...], *, theta_plus: float = 0.05, tau: float = 1e7, dt: float = 1.0
    ) -> None:
        super().__init__()
        decay_factor(tau, dt)
        self.theta_plus, self.tau, self.dt = theta_plus, tau, dt
        self.register_buffer("theta", torch.zeros((shape,) if isinstance(shape, int) else shape))

    def forward(self, v: Tensor) -> Tensor:
        return v - self.theta

    @torch.no_grad()
    def update(self, s: Tensor) -> None:
        """Learn from the spikes of one step, ``[N, *neurons]``, or of several, ``[T, N, *neurons]``."""
        if self.training:
            decay = decay_factor(self.tau, self.dt)
            self.theta = adaptive_threshold_step(self.theta, s, theta_plus=self.theta_plus, decay=decay)

    def extra_repr(self) -> str:
        return f"{tuple(self.theta.shape)}, theta_plus={self.theta_plus}, tau={self.tau}, dt={self.dt}"


class WinnerTakeAll(StepModule):
    """Keeps the spikes of the ``k`` winners of each step and drops the others.

    Args:
        k: winners per group.
        scope: the group, ``"global"``, ``"map"`` or ``"position"``, see `snn_learning.functional.winner_take_all`.
        generator: draws among equal scores in train mode; without one, and in eval mode, the first of them wins.
        step_mode: ``"s"`` for ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.

    Raises:
        ValueError: ``k`` is below 1, or an unknown scope.
    """

    def __init__(
        self,
        k: int = 1,
        *,
        scope: Literal["global", "map", "position"] = "global",
        generator: torch.Generator | None = None,
        step_mode: Literal["s", "m"] = "s",
    ) -> None:
        super().__init__(step_mode)
        check_choice(scope, "scope", ("global", "map", "position"))
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k, self.scope, self.generator = k, scope, generator

    def forward(self, s: Tensor, scores: Tensor | None = None) -> Tensor:
        """Return the spikes of the winners among those who fire.

        Args:
            s: spikes, ``[N, ...]`` or ``[T, N, ...]``.
            scores: what decides among them, for example membrane potentials; the spikes themselves by default.
        """
        scores = s if scores is None else scores
        if self.step_mode == "s":
            return self._keep(s, scores)
        return self._keep(s.flatten(0, 1), scores.flatten(0, 1)).view_as(s)

    def _keep(self, s: Tensor, scores: Tensor) -> Tensor:
        generator = self.generator if self.training else None
        winners = winner_take_all(scores.detach(), self.k, scope=self.scope, eligible=s != 0, generator=generator)
        return s * winners

    def extra_repr(self) -> str:
        return f"k={self.k}, scope={self.scope!r}, {super().extra_repr()}"


class SynapticScaling(nn.Module):
    """Pulls the rates of postsynaptic neurons to a target by scaling all their incoming weights.

    ::

        rate <- rate + (mean s - rate) * (1 - exp(-dt / tau)),     w[j] <- w[j] * (1 + lr * (target_rate - rate[j]))

    Args:
        features: number of postsynaptic neurons, or of output channels.
        target_rate: wanted activity in spikes per step.
        lr: strength of one application.
        tau: time constant of the running rate in ms.
        dt: duration of a step in ms.

    Raises:
        ValueError: a negative time constant.

    References:
        Turrigiano, Leslie, Desai, Rutherford, Nelson 1998.
    """

    rate: Tensor

    def __init__(
        self, features: int, *, target_rate: float = 0.02, lr: float = 0.1, tau: float = 1000.0, dt: float = 1.0
    ) -> None:
        super().__init__()
        decay_factor(tau, dt)
        self.target_rate, self.lr, self.tau, self.dt = target_rate, lr, tau, dt
        self.register_buffer("rate", torch.full((features,), target_rate))

    @torch.no_grad()
    def observe(self, s_seq: Tensor) -> None:
        """Follow the activity ``[T, N, features]`` or ``[T, N, channels, ...]``."""
        mean = s_seq.to(self.rate.dtype).flatten(3).mean(3) if s_seq.dim() > 3 else s_seq.to(self.rate.dtype)
        if mean.dim() != 3 or mean.shape[2] != self.rate.shape[0]:
            raise ValueError(f"activity {tuple(s_seq.shape)} does not have {self.rate.shape[0]} features in dim 2")
        rate, decay = self.rate, decay_factor(self.tau, self.dt)
        for step_mean in mean.mean(1):
            rate = decay * rate + (1.0 - decay) * step_mean
        self.rate = rate

    def forward(self, w: Tensor) -> Tensor:
        return synaptic_scaling(w, self.rate.to(w.dtype), self.target_rate, lr=self.lr)

    def extra_repr(self) -> str:
        return f"{self.rate.shape[0]}, target_rate={self.target_rate}, lr={self.lr}, tau={self.tau}"
