"""A leaky neuron that tires."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from snn_neurons import SpikingNode


class FatigueNode(SpikingNode):
    """Leaky integrate-and-fire with an input gain that falls with every spike and recovers.

    ``h[t] = v[t-1] / 2 + x[t] / (1 + f[t-1])``, ``f[t] = decay f[t-1] + cost s[t]``.
    """

    def __init__(self, decay: float = 0.9, cost: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.register_memory("f", 0.0)
        self.register_param("decay", decay)
        self.register_param("cost", cost)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = 0.5 * state.v + x / (1.0 + state.f)
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), f=p.decay * state.f + p.cost * s)
