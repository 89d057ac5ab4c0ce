"""Rules of correlated rates: Hebb, Oja, BCM."""

from typing import ClassVar

import torch
from torch import Tensor

from snn_learning.functional.geometry import Geometry
from snn_learning.functional.rule import Rule, State, Term
from snn_learning.functional.traces import decay_factor, trace


class _RateRule(Rule):
    state_names: ClassVar[tuple[str, ...]] = ("x", "y")

    def __init__(
        self, *, lr: float, tau_pre: float, tau_post: float, dt: float, w_min: float | None, w_max: float | None
    ) -> None:
        super().__init__(w_min=w_min, w_max=w_max)
        decay_factor(tau_pre, dt), decay_factor(tau_post, dt)
        self.lr, self.tau_pre, self.tau_post, self.dt = lr, tau_pre, tau_post, dt

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        return {"x": torch.zeros_like(pre), "y": torch.zeros_like(post)}

    def _rates(self, pre: Tensor, post: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        x = self._rate(pre, state["x"], self.tau_pre)
        y = self._rate(post, state["y"], self.tau_post)
        return x, y, {"x": x[-1].clone(), "y": y[-1].clone()}

    def _rate(self, s: Tensor, start: Tensor, tau: float) -> Tensor:
        decay = decay_factor(tau, self.dt)
        return trace(s * (1.0 - decay), start, decay)


class Hebb(_RateRule):
    """Plain Hebbian learning, ``dw = lr * y (x) x``.

    ``x`` and ``y`` are running means of pre- and postsynaptic activity in spikes per step,
    ``x <- x + (s - x) * (1 - exp(-dt / tau))``; with ``tau = 0`` they are the activity itself.

    Args:
        lr: learning rate.
        tau_pre, tau_post: time constants of the means in ms.
        dt: duration of a step in ms.
        w_min, w_max: bounds of the weight; without an upper one weights grow without end.

    Raises:
        ValueError: a negative time constant.

    References:
        Hebb 1949; Gerstner, Kistler 2002, chapter 10.
    """

    def __init__(
        self,
        *,
        lr: float = 0.01,
        tau_pre: float = 0.0,
        tau_post: float = 0.0,
        dt: float = 1.0,
        w_min: float | None = None,
        w_max: float | None = None,
    ) -> None:
        super().__init__(lr=lr, tau_pre=tau_pre, tau_post=tau_post, dt=dt, w_min=w_min, w_max=w_max)

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        x, y, state = self._rates(pre, post, state)
        return [Term(y, x, self.lr)], state


class Oja(_RateRule):
    """Oja's rule, ``dw = lr * (y (x) x - y**2 w)``: Hebbian growth that keeps the norm of each row near one.

    Args:
        lr: learning rate.
        tau_pre, tau_post: time constants of the rates ``x`` and ``y`` in ms, see `Hebb`.
        dt: duration of a step in ms.
        w_min, w_max: bounds of the weight.

    Raises:
        ValueError: a negative time constant.

    References:
        Oja 1982, A simplified neuron model as a principal component analyzer.
    """

    def __init__(
        self,
        *,
        lr: float = 0.01,
        tau_pre: float = 0.0,
        tau_post: float = 0.0,
        dt: float = 1.0,
        w_min: float | None = None,
        w_max: float | None = None,
    ) -> None:
        super().__init__(lr=lr, tau_pre=tau_pre, tau_post=tau_post, dt=dt, w_min=w_min, w_max=w_max)

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        x, y, state = self._rates(pre, post, state)
        return [Term(y, x, self.lr), Term(y * y, 1.0, lambda w: -self.lr * w)], state


class BCM(_RateRule):
    """The BCM rule: potentiation above, depression below a threshold that slides with the mean square activity.

    ::

        dw = lr * y * (y - theta) (x) x,     theta <- theta + (y**2 / y_0 - theta) * (1 - exp(-dt / tau_theta))

    The change sees the threshold of the step before; each sample of a batch has its own.

    Args:
        lr: learning rate.
        tau_theta: time constant of the threshold in ms.
        y_0: rate at which the threshold equals the rate.
        tau_pre, tau_post: time constants of the rates ``x`` and ``y`` in ms, see `Hebb`.
        theta_0: threshold before the first step.
        dt: duration of a step in ms.
        w_min, w_max: bounds of the weight.

    Raises:
        ValueError: a negative time constant, or ``y_0`` is not positive.

    References:
        Bienenstock, Cooper, Munro 1982; Intrator, Cooper 1992.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x", "y", "theta")

    def __init__(
        self,
        *,
        lr: float = 0.01,
        tau_theta: float = 1000.0,
        y_0: float = 1.0,
        tau_pre: float = 0.0,
        tau_post: float = 0.0,
        theta_0: float = 0.0,
        dt: float = 1.0,
        w_min: float | None = None,
        w_max: float | None = None,
    ) -> None:
        super().__init__(lr=lr, tau_pre=tau_pre, tau_post=tau_post, dt=dt, w_min=w_min, w_max=w_max)
        decay_factor(tau_theta, dt)
        if not y_0 > 0.0:
            raise ValueError(f"y_0 must be positive, got {y_0}")
        self.tau_theta, self.y_0, self.theta_0 = tau_theta, y_0, theta_0

    def initial_state(self, pre: Tensor, post: Tensor, geometry: Geometry) -> State:
        return super().initial_state(pre, post, geometry) | {"theta": torch.full_like(post, self.theta_0)}

    def fresh_value(self, name: str) -> float:
        return self.theta_0 if name == "theta" else 0.0

    def terms(self, pre: Tensor, post: Tensor, state: State) -> tuple[list[Term], State]:
        x, y, new = self._rates(pre, post, state)
        decay = decay_factor(self.tau_theta, self.dt)
        theta = trace(y * y * ((1.0 - decay) / self.y_0), state["theta"], decay)
        before = torch.cat([state["theta"].unsqueeze(0), theta[:-1]])
        return [Term(y * (y - before), x, self.lr)], new | {"theta": theta[-1].clone()}
