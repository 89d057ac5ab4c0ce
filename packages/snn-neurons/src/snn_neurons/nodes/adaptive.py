"""Neurons whose second memory makes them slower to fire after they fired."""

from typing import Any

import torch
from torch import Tensor

from snn_neurons.nodes._check import check_at_least, check_decay
from snn_neurons.nodes.lif import LIFNode
from snn_neurons.nodes.nonlinear import EIFNode, QIFNode


class AdaptiveLIFNode(LIFNode):
    """LIF with a threshold that rises with each spike (ALIF, the neuron of LSNNs).

    ``theta[t] = v_threshold + beta a[t-1]``; it fires at ``theta[t]``, the soft reset subtracts ``theta[t]``;
    ``a[t] = rho a[t-1] + (1 - rho) s[t]``.

    Args:
        tau, decay_input: see `LIFNode`.
        rho: decay of the adaptation per step, in [0, 1].
        beta: strength of the adaptation.

    Bellec et al., "Long short-term memory and learning-to-learn in networks of spiking neurons", NeurIPS 2018,
    arXiv:1803.09574.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        decay_input: bool = True,
        *,
        rho: float | Tensor = 0.9,
        beta: float | Tensor = 1.8,
        **options: Any,
    ) -> None:
        super().__init__(tau, decay_input, **options)
        check_decay(self, "rho", rho)
        self.register_param("rho", rho)
        self.register_param("beta", beta)
        self.register_memory("a", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        theta = p.v_threshold + p.beta * state.a
        h = self.charge(x, state, p)
        s = self.fire(h - theta, p)
        a = p.rho * state.a + (1 - p.rho) * self.fed_back(s)
        return s, state._replace(v=self.reset_membrane(h, s, p._replace(v_threshold=theta)), a=a)


class ComplementaryLIFNode(LIFNode):
    """LIF whose complementary memory ``m`` deepens the reset after recent spikes and carries gradient past it (CLIF).

    ``m[t] = m[t-1] sigmoid(h[t] / tau) + s[t]``; ``v[t] = h - s (v_threshold + sigmoid(m[t]))``, or with the hard
    reset ``v[t] = (1 - s) h + s (v_reset - sigmoid(m[t]))``.

    Args:
        tau, decay_input: see `LIFNode`.

    Huang et al., "CLIF: Complementary Leaky Integrate-and-Fire Neuron for Spiking Neural Networks", ICML 2024,
    arXiv:2402.04663.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        decay_input: bool = False,
        *,
        v_reset: float | Tensor | None = None,
        **options: Any,
    ) -> None:
        super().__init__(tau, decay_input, v_reset=v_reset, **options)
        self.register_memory("m", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state, p)
        s = self.fire(h - p.v_threshold, p)
        back = self.fed_back(s)
        m = state.m * torch.sigmoid(h / p.tau) + back
        return s, state._replace(v=self.reset_membrane(h, s, p) - back * torch.sigmoid(m), m=m)


class IzhikevichNode(QIFNode):
    """Quadratic integrate-and-fire with a recovery variable.

    ``h[t] = v + (x + a0 (v - v_rest) (v - v_c) - w) / tau``;
    ``w[t] = w + (a (h[t] - v_rest) - w) / tau_w + b s[t]`` with ``v = v[t-1]``, ``w = w[t-1]``.

    Args:
        tau, v_c, a0, v_rest: see `QIFNode`.
        a: coupling of the recovery to the membrane.
        b: jump of the recovery at a spike.
        tau_w: time constant of the recovery in steps, at least 1.

    Izhikevich, "Simple model of spiking neurons", IEEE Transactions on Neural Networks 2003.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        a: float | Tensor = 0.2,
        b: float | Tensor = 0.1,
        tau_w: float | Tensor = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(tau, **options)
        _register_adaptation(self, a, b, tau_w)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x - state.w, state, p)
        s = self.fire(h - p.v_threshold, p)
        w = _adapted(state.w, h, self.fed_back(s), p)
        return s, state._replace(v=self.reset_membrane(h, s, p), w=w)


class AdExNode(EIFNode):
    """Exponential integrate-and-fire with an adaptation current.

    ``h[t] = v + (x + v_rest - v + delta_T exp((v - theta_rh) / delta_T) - w) / tau``;
    ``w[t] = w + (a (h[t] - v_rest) - w) / tau_w + b s[t]`` with ``v = v[t-1]``, ``w = w[t-1]``.

    Args:
        tau, delta_T, theta_rh, v_rest: see `EIFNode`.
        a: coupling of the adaptation to the membrane.
        b: jump of the adaptation at a spike.
        tau_w: time constant of the adaptation in steps, at least 1.

    Brette and Gerstner, "Adaptive Exponential Integrate-and-Fire Model as an Effective Description of Neuronal
    Activity", Journal of Neurophysiology 2005.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        a: float | Tensor = 0.2,
        b: float | Tensor = 0.1,
        tau_w: float | Tensor = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(tau, **options)
        _register_adaptation(self, a, b, tau_w)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x - state.w, state, p)
        s = self.fire(h - p.v_threshold, p)
        w = _adapted(state.w, h, self.fed_back(s), p)
        return s, state._replace(v=self.reset_membrane(h, s, p), w=w)


def _register_adaptation(node: QIFNode | EIFNode, a: float | Tensor, b: float | Tensor, tau_w: float | Tensor) -> None:
    check_at_least(node, "tau_w", tau_w, 1.0)
    node.register_param("a", a)
    node.register_param("b", b)
    node.register_param("tau_w", tau_w)
    node.register_memory("w", 0.0)


def _adapted(w: Tensor, h: Tensor, s: Tensor, p: Any) -> Tensor:
    return w + (p.a * (h - p.v_rest) - w) / p.tau_w + p.b * s  # type: ignore[no-any-return]
