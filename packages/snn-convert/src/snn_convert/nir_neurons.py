"""One Euler step of NIR's neurons with all of their parameters, for those that no node of snn-neurons equals."""

from typing import Any

from torch import Tensor

from snn_neurons import SpikingNode, StepNode

Value = float | Tensor


class EulerLI(StepNode):
    """NIR's LI and I: ``v[t] = v + decay (v_leak - v) + gain x[t]`` with ``v = v[t-1]``, which is the output.

    Args:
        decay: fraction lost per step, ``dt / tau``; 0 for I.
        gain: of the input, ``r dt / tau``.
        v_leak: where the membrane decays to, and starts.
        step_mode, backend, store_v_seq: see `snn_neurons.StepNode`.
    """

    def __init__(self, decay: Value, gain: Value, v_leak: Value = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.register_param("decay", decay)
        self.register_param("gain", gain)
        self.register_param("v_leak", v_leak)
        self.register_memory("v", v_leak)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        v = state.v + p.decay * (p.v_leak - state.v) + p.gain * x
        return v, state._replace(v=v)


class EulerCubaLI(StepNode):
    """NIR's CubaLI: `EulerLI` whose input is ``c[t] = c[t-1] - current_decay c[t-1] + current_gain x[t]``.

    Args:
        current_decay, current_gain: ``dt / tau_syn`` and ``w_in dt / tau_syn``.
        decay, gain, v_leak: as for `EulerLI`, with ``tau_mem``.
        step_mode, backend, store_v_seq: see `snn_neurons.StepNode`.
    """

    def __init__(
        self, current_decay: Value, current_gain: Value, decay: Value, gain: Value, v_leak: Value = 0.0, **options: Any
    ) -> None:
        super().__init__(**options)
        self.register_param("current_decay", current_decay)
        self.register_param("current_gain", current_gain)
        self.register_param("decay", decay)
        self.register_param("gain", gain)
        self.register_param("v_leak", v_leak)
        self.register_memory("v", v_leak)
        self.register_memory("c", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        c = state.c - p.current_decay * state.c + p.current_gain * x
        v = state.v + p.decay * (p.v_leak - state.v) + p.gain * c
        return v, state._replace(v=v, c=c)


class EulerLIF(SpikingNode):
    """NIR's LIF and IF: ``h[t] = v + decay (v_leak - v) + gain x[t]``, then fire and reset as all spiking nodes.

    Args:
        decay, gain, v_leak: as for `EulerLI`; the membrane starts at ``v_leak``.
        options: see `snn_neurons.SpikingNode`.
    """

    def __init__(self, decay: Value, gain: Value, v_leak: Value = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.register_param("decay", decay)
        self.register_param("gain", gain)
        self.register_param("v_leak", v_leak)
        self.set_initial_memory("v", v_leak)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        return state.v + p.decay * (p.v_leak - state.v) + p.gain * x  # type: ignore[no-any-return]


class EulerCubaLIF(EulerLIF):
    """NIR's CubaLIF: `EulerLIF` whose input is ``c[t] = c[t-1] - current_decay c[t-1] + current_gain x[t]``.

    Args:
        current_decay, current_gain: ``dt / tau_syn`` and ``w_in dt / tau_syn``.
        decay, gain, v_leak, options: as for `EulerLIF`, with ``tau_mem``.
    """

    def __init__(
        self, current_decay: Value, current_gain: Value, decay: Value, gain: Value, v_leak: Value = 0.0, **options: Any
    ) -> None:
        super().__init__(decay, gain, v_leak, **options)
        self.register_param("current_decay", current_decay)
        self.register_param("current_gain", current_gain)
        self.register_memory("c", 0.0)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        c = state.c - p.current_decay * state.c + p.current_gain * x
        h = self.charge(c, state, p)
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p), c=c)
