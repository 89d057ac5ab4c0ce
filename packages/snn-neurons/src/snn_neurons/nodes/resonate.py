"""The resonate-and-fire neuron."""

from typing import Any

import torch
from torch import Tensor

from snn_neurons.nodes._check import check_at_least
from snn_neurons.spiking_node import SpikingNode


class ResonateAndFireNode(SpikingNode):
    """A damped oscillator that fires where its imaginary part reaches the threshold.

    With ``z = u + i v``: ``z[t] = (1 - 1 / tau) exp(i omega) z[t-1] + x[t]``, that is, with ``r = 1 - 1 / tau``,
    ``u[t] = r (cos(omega) u - sin(omega) v) + x``, ``h[t] = r (sin(omega) u + cos(omega) v)``. A spike resets the
    imaginary part ``v``; the real part ``u`` goes on. Two memories.

    Args:
        tau: time constant of the decay in steps, at least 1.
        omega: angle of rotation per step, in radians.

    Izhikevich, "Resonate-and-fire neurons", Neural Networks 2001.
    """

    def __init__(self, *, tau: float | Tensor = 10.0, omega: float | Tensor = 0.5, **options: Any) -> None:
        super().__init__(**options)
        check_at_least(self, "tau", tau, 1.0)
        self.register_param("tau", tau)
        self.register_param("omega", omega)
        self.register_memory("u", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        r = 1 - 1 / p.tau
        along, across = r * torch.cos(p.omega), r * torch.sin(p.omega)
        u = along * state.u - across * state.v + x
        h = across * state.u + along * state.v
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), u=u)
