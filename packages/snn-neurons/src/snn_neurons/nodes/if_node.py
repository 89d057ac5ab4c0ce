"""The integrate-and-fire neuron."""

from typing import Any

from torch import Tensor

from snn_neurons.spiking_node import SpikingNode


class IFNode(SpikingNode):
    """Integrate-and-fire: ``h[t] = v[t-1] + x[t]``."""

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        return state.v + x  # type: ignore[no-any-return]
