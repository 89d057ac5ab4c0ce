"""Integrate-and-fire neurons with one memory and a membrane that is driven faster the higher it is."""

from typing import Any

import torch
from torch import Tensor

from snn_neurons.nodes._check import check_at_least
from snn_neurons.spiking_node import SpikingNode


class QIFNode(SpikingNode):
    """Quadratic integrate-and-fire: ``h[t] = v + (x + a0 (v - v_rest) (v - v_c)) / tau`` with ``v = v[t-1]``.

    Args:
        tau: membrane time constant in steps, at least 1.
        v_c: critical potential, above which the membrane rises by itself.
        a0: strength of the drive.
        v_rest: resting potential.

    Gerstner et al., "Neuronal Dynamics", Cambridge 2014, section 5.3.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        v_c: float | Tensor = 0.8,
        a0: float | Tensor = 1.0,
        v_rest: float | Tensor = 0.0,
        v_reset: float | Tensor | None = -0.1,
        **options: Any,
    ) -> None:
        super().__init__(v_reset=v_reset, **options)
        check_at_least(self, "tau", tau, 1.0)
        self.register_param("tau", tau)
        self.register_param("v_c", v_c)
        self.register_param("a0", a0)
        self.register_param("v_rest", v_rest)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        v = state.v
        return v + (x + p.a0 * (v - p.v_rest) * (v - p.v_c)) / p.tau  # type: ignore[no-any-return]


class EIFNode(SpikingNode):
    """Exponential integrate-and-fire.

    ``h[t] = v + (x + v_rest - v + delta_T exp((v - theta_rh) / delta_T)) / tau`` with ``v = v[t-1]``.

    Args:
        tau: membrane time constant in steps, at least 1.
        delta_T: sharpness of the spike's onset, above 0.
        theta_rh: rheobase threshold.
        v_rest: resting potential.

    Fourcaud-Trocmé et al., "How spike generation mechanisms determine the neuronal response to fluctuating inputs",
    Journal of Neuroscience 2003; Gerstner et al., "Neuronal Dynamics", section 5.2.
    """

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        delta_T: float | Tensor = 1.0,
        theta_rh: float | Tensor = 0.8,
        v_rest: float | Tensor = 0.0,
        v_reset: float | Tensor | None = -0.1,
        **options: Any,
    ) -> None:
        super().__init__(v_reset=v_reset, **options)
        check_at_least(self, "tau", tau, 1.0)
        if not isinstance(delta_T, Tensor) and not delta_T > 0:
            raise ValueError(f"{type(self).__name__}: delta_T must be above 0, got {delta_T!r}")
        self.register_param("tau", tau)
        self.register_param("delta_T", delta_T)
        self.register_param("theta_rh", theta_rh)
        self.register_param("v_rest", v_rest)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        v = state.v
        onset = p.delta_T * torch.exp((v - p.theta_rh) / p.delta_T)
        return v + (x + p.v_rest - v + onset) / p.tau  # type: ignore[no-any-return]
