"""The module of each NIR node: parameters in seconds become parameters per step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from snn_convert.nir_layers import Delay, Scale, SumPool2d, Threshold
from snn_convert.nir_neurons import EulerCubaLI, EulerCubaLIF, EulerLI, EulerLIF
from snn_convert.nir_units import Array, NIRError, gathered, next_float32, undo
from snn_layers import stateless
from snn_neurons import CubaLIFNode, IFNode, LeakyIntegrator, LIFNode, SynapticLIFNode


class Reading(NamedTuple):
    """How nodes are read; see `from_nir`."""

    dt: float
    per_second: bool
    exact_threshold: bool
    soft_reset: bool
    surrogate: Any


def module_of(node: Any, reading: Reading) -> nn.Module:
    """The module that computes one step of ``dt`` of ``node``.

    Raises:
        NIRError: the node has no counterpart.
    """
    make = _MAKERS.get(type(node).__name__)
    if make is None:
        raise NIRError(f"a {type(node).__name__} has no counterpart")
    return make(node, reading)


# -- neurons -----------------------------------------------------------------------------------------------------------
def _f64(value: Any) -> Array:
    return np.asarray(value.detach() if isinstance(value, Tensor) else value, dtype=np.float64)


def _firing(node: Any, reading: Reading) -> dict[str, Any]:
    threshold = _f64(node.v_threshold)
    if reading.exact_threshold:
        threshold = next_float32(threshold, np.inf)
    soft = reading.soft_reset or _note(node, "reset") == "subtract"
    reset = None if soft or node.v_reset is None else gathered(_f64(node.v_reset))
    if node.v_reset is None and not soft:
        reset = 0.0
    return {"v_threshold": gathered(threshold), "v_reset": reset, "surrogate": reading.surrogate}


def _note(node: Any, key: str) -> Any:
    value = (getattr(node, "metadata", None) or {}).get(key)
    return value.decode() if isinstance(value, bytes) else value


def _started(module: Any, node: Any) -> nn.Module:
    initial = _note(node, "v_initial")
    if initial is not None:
        module.set_initial_memory("v", gathered(_f64(initial)))
    result: nn.Module = module
    return result


def _if(node: Any, reading: Reading) -> nn.Module:
    gain = _f64(node.r)
    if reading.per_second:
        gain = undo(lambda g: g / reading.dt, lambda r: r * reading.dt, gain)
    options = _firing(node, reading)
    if np.all(gain == 1):
        return _started(IFNode(**options), node)
    return _started(EulerLIF(0.0, gathered(gain), **options), node)


def _i(node: Any, reading: Reading) -> nn.Module:
    gain = _f64(node.r)
    if reading.per_second:
        gain = undo(lambda g: g / reading.dt, lambda r: r * reading.dt, gain)
    return EulerLI(0.0, gathered(gain))


def _steps(tau: Any, reading: Reading) -> Array:
    value = _f64(tau)
    if np.any(value < reading.dt * (1 - 1e-9)):
        raise NIRError(f"a time constant of {value.min()} s is below dt={reading.dt} s; choose a smaller dt")
    return np.maximum(undo(lambda t: t * reading.dt, lambda t: t / reading.dt, value), 1.0)


def _decay(tau: Any, reading: Reading) -> Array:
    _steps(tau, reading)
    return undo(lambda d: reading.dt / d, lambda t: reading.dt / t, _f64(tau))


def _gain(resistance: Any, decay: Array) -> Array:
    """The g with ``g / decay == resistance``."""
    r, d = np.broadcast_arrays(_f64(resistance), decay)

    def one(v: float, e: float) -> float:
        return float(undo(lambda g: g / e, lambda x: x * e, np.array(v)))

    return np.array([one(float(v), float(e)) for v, e in zip(r.flat, d.flat, strict=True)]).reshape(r.shape)


def _input(node: Any, steps: Array) -> bool | None:
    """``decay_input`` where r is 1 or tau in steps, else ``None``."""
    r = _f64(node.r)
    if np.all(r == 1):
        return True
    return False if np.allclose(r, steps, rtol=1e-6, atol=0) else None


def _lif(node: Any, reading: Reading) -> nn.Module:
    steps = _steps(node.tau, reading)
    decay_input = _input(node, steps)
    options = _firing(node, reading)
    leak, reset = _f64(node.v_leak), _f64(0.0 if options["v_reset"] is None else node.v_reset)
    if decay_input is not None and np.all(leak == reset):
        return _started(LIFNode(gathered(steps), decay_input, **options), node)
    decay = _decay(node.tau, reading)
    return _started(EulerLIF(gathered(decay), gathered(_gain(node.r, decay)), gathered(leak), **options), node)


def _li(node: Any, reading: Reading) -> nn.Module:
    steps = _steps(node.tau, reading)
    decay_input = _input(node, steps)
    if decay_input is not None and not np.any(_f64(node.v_leak)):
        return LeakyIntegrator(gathered(steps), decay_input)
    decay = _decay(node.tau, reading)
    return EulerLI(gathered(decay), gathered(_gain(node.r, decay)), gathered(_f64(node.v_leak)))


def _close(a: Any, b: Any) -> bool:
    return bool(np.allclose(_f64(a), _f64(b), rtol=1e-6, atol=0))


def _cuba(node: Any, reading: Reading) -> nn.Module:
    synapse, membrane = _steps(node.tau_syn, reading), _steps(node.tau_mem, reading)
    options = _firing(node, reading)
    leak, reset = _f64(node.v_leak), _f64(0.0 if options["v_reset"] is None else node.v_reset)
    if _close(node.w_in, synapse):
        if _close(node.r, membrane) and not leak.any():
            decays = [gathered(_decay(tau, reading)) for tau in (node.tau_syn, node.tau_mem)]
            return _started(CubaLIFNode(current_decay=decays[0], voltage_decay=decays[1], **options), node)
        if np.all(_f64(node.r) == 1) and np.all(leak == reset):
            return _started(SynapticLIFNode(gathered(membrane), True, tau_syn=gathered(synapse), **options), node)
    return _started(EulerCubaLIF(*_cuba_values(node, reading), **options), node)


def _cuba_li(node: Any, reading: Reading) -> nn.Module:
    return EulerCubaLI(*_cuba_values(node, reading))


def _cuba_values(node: Any, reading: Reading) -> list[float | Tensor]:
    current, voltage = _decay(node.tau_syn, reading), _decay(node.tau_mem, reading)
    values = (current, _gain(node.w_in, current), voltage, _gain(node.r, voltage), _f64(node.v_leak))
    return [gathered(v) for v in values]


# -- layers ------------------------------------------------------------------------------------------------------------
def _weights(module: Any, weight: Any, bias: Any) -> nn.Module:
    with torch.no_grad():
        module.weight = nn.Parameter(_float(weight))
        if bias is not None:
            module.bias = nn.Parameter(_float(bias))
    result: nn.Module = module
    return result


def _float(value: Any) -> Tensor:
    array = np.asarray(value.detach() if isinstance(value, Tensor) else value)
    return torch.from_numpy(array.astype(array.dtype if array.dtype == np.float64 else np.float32)).to(
        torch.get_default_dtype()
    )


def _linear(node: Any, reading: Reading) -> nn.Module:
    bias = getattr(node, "bias", None)
    if len(node.weight.shape) != 2:
        raise NIRError(f"a weight of shape {tuple(node.weight.shape)}; only matrices are supported")
    made = stateless.Linear(node.weight.shape[1], node.weight.shape[0], bias=bias is not None)
    return _weights(made, node.weight, bias)


def _conv(node: Any, reading: Reading) -> nn.Module:
    dims = len(node.weight.shape) - 2
    names = ("stride", "padding", "dilation")
    options = {n: _text(v) if isinstance(v := getattr(node, n), str | bytes) else _ints(v, dims) for n in names}
    groups = int(node.groups)
    has_bias = node.bias is not None and _note(node, "bias") != "none"
    kind: Any = stateless.Conv1d if dims == 1 else stateless.Conv2d
    channels, kernel = node.weight.shape[1] * groups, tuple(node.weight.shape[2:])
    made = kind(channels, node.weight.shape[0], kernel, groups=groups, bias=has_bias, **options)
    return _weights(made, node.weight, node.bias if has_bias else None)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _ints(value: Any, dims: int) -> tuple[int, ...]:
    return tuple(int(v) for v in np.broadcast_to(np.asarray(value).reshape(-1), dims))


def _pool(node: Any, reading: Reading) -> nn.Module:
    kind: Any = SumPool2d if type(node).__name__ == "SumPool2d" else stateless.AvgPool2d
    made: nn.Module = kind(*(_ints(v, 2) for v in (node.kernel_size, node.stride, node.padding)))
    return made


def _flatten(node: Any, reading: Reading) -> nn.Module:
    start, end = (int(d) + 1 if d >= 0 else int(d) for d in (node.start_dim, node.end_dim))
    made: nn.Module = stateless.Flatten(start, end)
    return made


def _delay(node: Any, reading: Reading) -> nn.Module:
    steps = _f64(node.delay) / reading.dt
    whole = np.round(steps)
    if not np.allclose(steps, whole, rtol=0, atol=1e-3):
        raise NIRError(f"a delay of {steps.min():g} to {steps.max():g} steps of dt={reading.dt} s, which is not whole")
    if np.all(whole == whole.flat[0]):
        return Delay(int(whole.flat[0]))
    return Delay(torch.from_numpy(whole.astype(np.int64)))


def _scale(node: Any, reading: Reading) -> nn.Module:
    return Scale(torch.as_tensor(gathered(_f64(node.scale))).to(torch.get_default_dtype()))


def _threshold(node: Any, reading: Reading) -> nn.Module:
    return Threshold(torch.as_tensor(gathered(_f64(node.threshold))).to(torch.get_default_dtype()))


_MAKERS: dict[str, Callable[[Any, Reading], nn.Module]] = {
    "IF": _if,
    "I": _i,
    "LIF": _lif,
    "LI": _li,
    "CubaLIF": _cuba,
    "CubaLI": _cuba_li,
    "Linear": _linear,
    "Affine": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
    "Delay": _delay,
    "Scale": _scale,
    "Threshold": _threshold,
}
