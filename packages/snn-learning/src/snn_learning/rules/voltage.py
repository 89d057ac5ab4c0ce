"""Voltage-based STDP."""

from typing import ClassVar

import torch
from torch import Tensor

from snn_learning.functional.checks import check_binary
from snn_learning.functional.geometry import Geometry
from snn_learning.functional.rule import Rule, State, Term
from snn_learning.functional.traces import decay_factor, trace


class ClopathSTDP(Rule):
    """Voltage-based STDP: depression by presynaptic spikes, potentiation by their trace, both gated by the voltage.

    With ``u`` the postsynaptic voltage in mV and ``[.]+`` the positive part::

        u_minus <- u + (u_minus - u) * exp(-dt / tau_minus),   u_plus likewise with tau_plus
        x_bar   <- x_bar * exp(-dt / tau_x) + s_pre
        dw = -a_ltd * [u_minus - theta_minus]+ (x) s_pre
             + dt * a_ltp * [u - theta_plus]+ * [u_plus - theta_minus]+ (x) x_bar

    The postsynaptic activity that this rule takes is the voltage, not the spikes.

    Args:
        a_ltd: amplitude of depression, per mV.
        a_ltp: amplitude of potentiation, per mV**2 and ms.
        theta_minus, theta_plus: thresholds in mV.
        tau_minus, tau_plus, tau_x: time constants in ms.
        u_rest: value of the voltage filters before the first step, in mV.
        dt: duration of a step in ms.
        w_min, w_max: bounds of the weight.

    Raises:
        ValueError: a negative time constant.

    References:
        Clopath, Buesing, Vasilaki, Gerstner 2010, Connectivity reflects coding.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x_bar", "u_minus", "u_plus")
    post_signal: ClassVar[str] = "voltage"

    def __init__(
        self,
        *,
        a_ltd: float = 0.00014,
        a_ltp: float = 0.00008,
        theta_minus: float = -70.6,
        theta_plus: float = -45.3,
        tau_minus: float = 10.0,
        tau_plus: float = 7.0,
        tau_x: float = 15.0,
        u_rest: float = -70.6,
        dt: float = 1.0,
        w_min: float | None = 0.0,
        w_max: float | None = 1.0,
    ) -> None:
        super().__init__(w_min=w_min, w_max=w_max)
        for tau in (tau_minus, tau_plus, tau_x):
            decay_factor(tau, dt)
        self.a_ltd, self.a_ltp = a_ltd, a_ltp
        self.theta_minus, self.theta_plus, self.u_rest = theta_minus, theta_plus, u_rest
        self.tau_minus, self.tau_plus, self.tau_x, self.dt = tau_minus, tau_plus, tau_x, dt

    def check(self, pre: Tensor, post: Tensor) -> None:
        check_binary(pre, "presynaptic spikes")

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        rest = torch.full_like(post, self.u_rest)
        return {"x_bar": torch.zeros_like(pre), "u_minus": rest, "u_plus": rest.clone()}

    def fresh_value(self, name: str) -> float:
        return 0.0 if name == "x_bar" else self.u_rest

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        x_bar = trace(pre, state["x_bar"], decay_factor(self.tau_x, self.dt))
        u_minus = self._filter(post, state["u_minus"], self.tau_minus)
        u_plus = self._filter(post, state["u_plus"], self.tau_plus)
        ltd = (u_minus - self.theta_minus).clamp_min(0.0)
        ltp = (post - self.theta_plus).clamp_min(0.0) * (u_plus - self.theta_minus).clamp_min(0.0)
        terms = [Term(-self.a_ltd * ltd, pre), Term(self.dt * self.a_ltp * ltp, x_bar)]
        return terms, {"x_bar": x_bar[-1].clone(), "u_minus": u_minus[-1].clone(), "u_plus": u_plus[-1].clone()}

    def _filter(self, u: Tensor, start: Tensor, tau: float) -> Tensor:
        decay = decay_factor(tau, self.dt)
        return trace(u * (1.0 - decay), start, decay)
