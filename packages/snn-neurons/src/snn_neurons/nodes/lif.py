"""Integrate-and-fire neurons with one memory and a linear membrane."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snn_neurons.nodes._check import check_at_least, check_spike_dtype
from snn_neurons.spiking_node import SpikingNode


class IFNode(SpikingNode):
    """Integrate-and-fire: ``h[t] = v[t-1] + x[t]``."""

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        return state.v + x  # type: ignore[no-any-return]


class LIFNode(SpikingNode):
    """Leaky integrate-and-fire.

    ``h[t] = v + (x - (v - v_r)) / tau`` with ``decay_input=True``, else ``h[t] = v - (v - v_r) / tau + x``, where
    ``v = v[t-1]`` and ``v_r`` is ``v_reset`` (0 for the soft reset).

    Args:
        tau: membrane time constant in steps, at least 1; a float, or a tensor that broadcasts over the neuron shape.
        decay_input: whether the input is divided by ``tau`` as well.

    Raises:
        ValueError: ``tau`` is below 1.
    """

    def __init__(self, tau: float | Tensor = 2.0, decay_input: bool = True, **options: Any) -> None:
        super().__init__(**options)
        check_at_least(self, "tau", tau, 1.0)
        self.decay_input = decay_input
        self.register_param("tau", tau)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        v = state.v
        leak = v if p.v_reset is None else v - p.v_reset
        if self.decay_input:
            return v + (x - leak) / p.tau  # type: ignore[no-any-return]
        return v - leak / p.tau + x  # type: ignore[no-any-return]


class ParametricLIFNode(SpikingNode):
    """LIF with a learned time constant, ``1 / tau = sigmoid(w)``; the equation is that of `LIFNode`.

    Args:
        tau: time constant at the start, above 1: ``w = -ln(tau - 1)``; a float for one ``w``, or a tensor for one per
            channel or neuron.
        decay_input: whether the input is divided by ``tau`` as well.

    Fang et al., "Incorporating Learnable Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV
    2021, arXiv:2007.05785.
    """

    def __init__(self, tau: float | Tensor = 2.0, decay_input: bool = True, **options: Any) -> None:
        super().__init__(**options)
        start = torch.as_tensor(tau, dtype=torch.get_default_dtype())
        if not bool((start > 1).all()):
            raise ValueError(f"ParametricLIFNode: tau must be above 1, got {tau!r}")
        self.decay_input = decay_input
        self.register_param("w", -torch.log(start - 1), learnable=True)

    @property
    def tau(self) -> Tensor:
        """The time constant now, in steps."""
        w: Any = self.w
        return 1 / torch.sigmoid(w)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        v, rate = state.v, torch.sigmoid(p.w)
        leak = v if p.v_reset is None else v - p.v_reset
        if self.decay_input:
            return v + (x - leak) * rate  # type: ignore[no-any-return]
        return v - leak * rate + x  # type: ignore[no-any-return]


class KLIFNode(LIFNode):
    """LIF with a rectified membrane of learned gain, ``h[t] = relu(k c[t])`` with ``c`` the charge of `LIFNode`.

    Args:
        k: gain at the start, learned.
        tau, decay_input: see `LIFNode`.

    Jiang and Zhang, "KLIF: An optimized spiking neuron unit for tuning surrogate gradient slope and membrane
    potential", 2023, arXiv:2302.09238.
    """

    def __init__(
        self, tau: float | Tensor = 2.0, decay_input: bool = True, *, k: float | Tensor = 1.0, **options: Any
    ) -> None:
        super().__init__(tau, decay_input, **options)
        self.register_param("k", k, learnable=True)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        return torch.relu(p.k * LIFNode.charge(self, x, state, p))


class LIAFNode(LIFNode):
    """LIF that emits a function of its membrane, ``y[t] = act(h[t])``, while its spikes only reset it.

    Args:
        act: a pointwise function of a tensor, ``torch.relu`` by default.
        threshold_related: emit ``act(h - v_threshold)`` instead.
        tau, decay_input: see `LIFNode`.

    Wu et al., "LIAF-Net: Leaky Integrate and Analog Fire Network for Lightweight and Efficient Spatiotemporal
    Information Processing", IEEE TNNLS 2021, arXiv:2011.06176.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        decay_input: bool = True,
        *,
        act: Callable[[Tensor], Tensor] = torch.relu,
        threshold_related: bool = False,
        **options: Any,
    ) -> None:
        check_spike_dtype(self, options)
        super().__init__(tau, decay_input, **options)
        self.act = act
        self.threshold_related = threshold_related

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state, p)
        u = h - p.v_threshold
        s = self.fire(u, p)
        return self.act(u if self.threshold_related else h), state._replace(v=self.reset_membrane(h, s, p))
