"""Short-term plasticity as a module between spikes and a synapse."""

from typing import Literal

import torch
from torch import Tensor

from snn_base import MemoryModule
from snn_learning.functional.checks import check_binary, check_choice
from snn_learning.functional.short_term import ShortTermState, tsodyks_markram_step
from snn_learning.functional.traces import decay_factor


class TsodyksMarkram(MemoryModule):
    """Scales each presynaptic spike by what its synapse releases: short-term facilitation and depression.

    See `snn_learning.functional.tsodyks_markram_step` for the equations. Put it before the synapse:
    ``nn.Sequential(TsodyksMarkram(...), nn.Linear(...), neuron)``.

    Args:
        U: increment of utilisation, between 0 and 1.
        tau_f, tau_d: time constants of facilitation and recovery in ms.
        rest: whether ``u`` rests at ``"zero"`` or at ``"U"``.
        dt: duration of a step in ms.
        step_mode: ``"s"`` for ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.

    Raises:
        ValueError: ``U`` outside 0..1, a negative time constant, an unknown name, or an input that is not 0 or 1.

    References:
        Tsodyks, Pawelzik, Markram 1998, Neural networks with dynamic synapses.
    """

    u: Tensor
    x: Tensor

    def __init__(
        self,
        *,
        U: float = 0.5,
        tau_f: float = 50.0,
        tau_d: float = 200.0,
        rest: Literal["zero", "U"] = "zero",
        dt: float = 1.0,
        step_mode: Literal["s", "m"] = "s",
    ) -> None:
        super().__init__(step_mode)
        check_choice(rest, "rest", ("zero", "U"))
        if not 0.0 <= U <= 1.0:
            raise ValueError(f"U must be between 0 and 1, got {U}")
        decay_factor(tau_f, dt), decay_factor(tau_d, dt)
        self.U, self.tau_f, self.tau_d, self.rest, self.dt = U, tau_f, tau_d, rest, dt
        self.register_memory("u", U if rest == "U" else 0.0)
        self.register_memory("x", 1.0)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            check_binary(x, "spikes")
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        release, state = tsodyks_markram_step(
            x, ShortTermState(self.u, self.x), U=self.U, tau_f=self.tau_f, tau_d=self.tau_d, rest=self.rest, dt=self.dt
        )
        self.u, self.x = state
        return release

    def extra_repr(self) -> str:
        return f"U={self.U}, tau_f={self.tau_f}, tau_d={self.tau_d}, rest={self.rest!r}, {super().extra_repr()}"
