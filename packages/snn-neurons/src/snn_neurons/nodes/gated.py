"""The gated LIF neuron, which mixes kinds of leak, integration and reset."""

import math
from typing import Any

import torch
from torch import Tensor

from snn_neurons.spiking_node import SpikingNode

Value = float | Tensor


class GatedLIFNode(SpikingNode):
    """LIF with learned gates between kinds of leak, of input and of reset (GLIF).

    ``d[t] = (1 - alpha (1 - decay)) v[t-1]``, ``h[t] = d - (1 - alpha) leak + (1 - beta (1 - conductance)) x[t]``,
    ``v[t] = h - s (gamma d + (1 - gamma) subtract)``.

    Every one of these is ``sigmoid`` of a learned parameter ``w_<name>``, one value for all neurons or a tensor for one
    per channel or neuron. The conductance is the same at all steps, so that the number of steps stays free.

    Args:
        alpha, beta, gamma: gates at the start, in (0, 1): exponential against linear leak, modulated against plain
            input, hard against soft reset.
        decay, leak, conductance, subtract: values at the start, in (0, 1).

    Raises:
        TypeError: ``v_reset`` is given: the reset is the neuron's own.

    Yao et al., "GLIF: A Unified Gated Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", NeurIPS 2022,
    arXiv:2210.13768.
    """

    def __init__(
        self,
        *,
        alpha: Value = 0.5,
        beta: Value = 0.5,
        gamma: Value = 0.5,
        decay: Value = 0.25,
        leak: Value = 0.1,
        conductance: Value = 0.5,
        subtract: Value = 0.5,
        **options: Any,
    ) -> None:
        if "v_reset" in options:
            raise TypeError("GatedLIFNode takes no v_reset: gamma and subtract are its reset")
        super().__init__(v_reset=None, **options)
        given = {"alpha": alpha, "beta": beta, "gamma": gamma, "decay": decay, "leak": leak}
        for name, value in {**given, "conductance": conductance, "subtract": subtract}.items():
            self.register_param(f"w_{name}", _logit(name, value), learnable=True)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        alpha, beta, gamma = torch.sigmoid(p.w_alpha), torch.sigmoid(p.w_beta), torch.sigmoid(p.w_gamma)
        kept = (1 - alpha * (1 - torch.sigmoid(p.w_decay))) * state.v
        current = (1 - beta * (1 - torch.sigmoid(p.w_conductance))) * x
        h = kept - (1 - alpha) * torch.sigmoid(p.w_leak) + current
        s = self.fire(h - p.v_threshold, p)
        back = self.fed_back(s)
        return s, state._replace(v=h - back * (gamma * kept + (1 - gamma) * torch.sigmoid(p.w_subtract)))


def _logit(name: str, value: Value) -> Value:
    if isinstance(value, Tensor):
        return torch.logit(value)
    if not 0.0 < value < 1.0:
        raise ValueError(f"GatedLIFNode: {name} must lie in (0, 1), got {value!r}")
    return math.log(value / (1 - value))
