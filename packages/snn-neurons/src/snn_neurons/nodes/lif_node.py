"""The leaky integrate-and-fire neuron."""

from typing import Any

from torch import Tensor

from snn_neurons.spiking_node import SpikingNode


class LIFNode(SpikingNode):
    """Leaky integrate-and-fire.

    ``h[t] = v + (x - (v - v_r)) / tau`` with ``decay_input=True``, else ``h[t] = v - (v - v_r) / tau + x``, where
    ``v = v[t-1]`` and ``v_r`` is ``v_reset`` (0 for the soft reset).

    Args:
        tau: membrane time constant in steps, above 1; a float, or a tensor that broadcasts over the neuron shape.
        decay_input: whether the input is divided by ``tau`` as well.
    """

    def __init__(self, tau: float | Tensor = 2.0, decay_input: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.decay_input = decay_input
        self.register_param("tau", tau)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        v = state.v
        leak = v if p.v_reset is None else v - p.v_reset
        if self.decay_input:
            return v + (x - leak) / p.tau  # type: ignore[no-any-return]
        return v - leak / p.tau + x  # type: ignore[no-any-return]
