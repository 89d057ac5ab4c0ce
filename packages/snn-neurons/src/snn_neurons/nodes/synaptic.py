"""Neurons behind a synapse that remembers its input."""

from typing import Any

from torch import Tensor

from snn_neurons.nodes._check import check_at_least, check_decay
from snn_neurons.nodes.lif import LIFNode
from snn_neurons.spiking_node import SpikingNode


class CubaLIFNode(SpikingNode):
    """Current-based leaky integrate-and-fire, the neuron of Loihi in floating point.

    ``c[t] = (1 - current_decay) c[t-1] + x[t]``, ``h[t] = (1 - voltage_decay) v[t-1] + c[t]``.

    Args:
        current_decay, voltage_decay: fraction lost per step, in [0, 1]; floats, or tensors that broadcast over the
            neuron shape.

    Davies et al., "Loihi: A Neuromorphic Manycore Processor with On-Chip Learning", IEEE Micro 2018.
    """

    def __init__(
        self, *, current_decay: float | Tensor = 0.5, voltage_decay: float | Tensor = 0.5, **options: Any
    ) -> None:
        super().__init__(**options)
        check_decay(self, "current_decay", current_decay)
        check_decay(self, "voltage_decay", voltage_decay)
        self.register_param("current_decay", current_decay)
        self.register_param("voltage_decay", voltage_decay)
        self.register_memory("c", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        c = (1 - p.current_decay) * state.c + x
        h = (1 - p.voltage_decay) * state.v + c
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), c=c)


class SynapticLIFNode(LIFNode):
    """LIF behind an exponential synapse: ``c[t] = c[t-1] - c[t-1] / tau_syn + x[t]``, which `LIFNode` takes for input.

    Args:
        tau, decay_input: see `LIFNode`.
        tau_syn: time constant of the synapse in steps, at least 1.

    Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 1.3.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        decay_input: bool = True,
        *,
        tau_syn: float | Tensor = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(tau, decay_input, **options)
        check_at_least(self, "tau_syn", tau_syn, 1.0)
        self.register_param("tau_syn", tau_syn)
        self.register_memory("c", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        c = state.c - state.c / p.tau_syn + x
        h = self.charge(c, state, p)
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), c=c)


class AlphaLIFNode(LIFNode):
    """LIF behind an alpha synapse, whose current rises before it falls.

    ``g[t] = g[t-1] - g[t-1] / tau_syn + x[t]``, ``c[t] = c[t-1] + (g[t] - c[t-1]) / tau_syn``; ``c`` is the input of
    `LIFNode`. Three memories.

    Args:
        tau, decay_input: see `LIFNode`.
        tau_syn: time constant of both stages of the synapse in steps, at least 1.

    Rall, "Distinguishing theoretical synaptic potentials...", Journal of Neurophysiology 1967.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        decay_input: bool = True,
        *,
        tau_syn: float | Tensor = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(tau, decay_input, **options)
        check_at_least(self, "tau_syn", tau_syn, 1.0)
        self.register_param("tau_syn", tau_syn)
        self.register_memory("g", 0.0)
        self.register_memory("c", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        g = state.g - state.g / p.tau_syn + x
        c = state.c + (g - state.c) / p.tau_syn
        h = self.charge(c, state, p)
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), g=g, c=c)
