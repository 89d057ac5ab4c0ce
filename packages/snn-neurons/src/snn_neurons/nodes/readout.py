"""A membrane without spikes, for readouts."""

from typing import Any

from torch import Tensor

from snn_neurons.nodes._check import check_at_least
from snn_neurons.step_node import StepNode


class LeakyIntegrator(StepNode):
    """LIF that never fires and emits its membrane.

    ``v[t] = v[t-1] + (x[t] - v[t-1]) / tau`` with ``decay_input=True``, else ``v[t] = v[t-1] - v[t-1] / tau + x[t]``;
    the output is ``v[t]``.

    Args:
        tau: time constant in steps, at least 1; a float, or a tensor that broadcasts over the neuron shape.
        decay_input: whether the input is divided by ``tau`` as well.
        step_mode, backend, learnable, store_v_seq: see `StepNode`.
    """

    def __init__(self, tau: float | Tensor = 2.0, decay_input: bool = True, **options: Any) -> None:
        if options.get("spike_dtype") is not None:
            raise ValueError("LeakyIntegrator emits its membrane, not spikes: leave spike_dtype at None")
        super().__init__(**options)
        check_at_least(self, "tau", tau, 1.0)
        self.decay_input = decay_input
        self.register_param("tau", tau)
        self.register_memory("v", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        v = state.v
        v = v + (x - v) / p.tau if self.decay_input else v - v / p.tau + x
        return v, state._replace(v=v)
