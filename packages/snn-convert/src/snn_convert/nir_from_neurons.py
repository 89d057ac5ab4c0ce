"""The NIR node of each neuron: parameters per step become parameters in seconds.

One Euler step of ``dt`` of NIR's equations is our step when::

    LIF, LI     tau = tau_steps dt,  r = 1 (decay_input) or tau_steps,  v_leak = v_reset
    IF, I       r = 1, the gain per step, or 1/dt with integrate="seconds"
    CubaLIF     tau_syn = dt / current_decay,  w_in = 1 / current_decay,
                tau_mem = dt / voltage_decay,  r = 1 / voltage_decay
"""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from snn_convert.nir_neurons import EulerCubaLI, EulerCubaLIF, EulerLI, EulerLIF
from snn_convert.nir_units import Array, load_nir, next_float32, spread
from snn_layers.synapse import SynapseFilter
from snn_neurons import (
    CubaLIFNode,
    IFNode,
    LeakyIntegrator,
    LIFNode,
    ParametricLIFNode,
    RecurrentLIFNode,
    SpikingNode,
    SynapticLIFNode,
)


class Units(NamedTuple):
    """How parameters are written; see `to_nir`."""

    dt: float
    per_second: bool
    exact_threshold: bool
    extensions: bool


def neuron_node(module: nn.Module, shape: tuple[int, ...], units: Units, problems: list[str]) -> Any | None:
    """The node of ``module``, ``None`` if it is no neuron that NIR has; what NIR lacks is appended to ``problems``.

    Args:
        module: a neuron; `RecurrentLIFNode` gives the node of its neurons alone.
        shape: of one sample.
        units: how parameters are written.
        problems: what cannot be expressed, a sentence each.
    """
    write = _WRITERS.get(type(module))
    if write is None:
        return None
    before = len(problems)
    values = write(module, shape, units, problems)
    kind = values.pop("kind")
    metadata: dict[str, Any] = {}
    if isinstance(module, SpikingNode):
        values |= _firing(module, shape, units, problems, metadata)
    else:
        start = module.v_leak if isinstance(module, EulerLI | EulerCubaLI) else 0.0
        _initial(module, start, shape, units, problems)
    if len(problems) > before:
        return None
    return getattr(load_nir(), kind)(**values, metadata=metadata)


def _firing(
    module: SpikingNode, shape: tuple[int, ...], units: Units, problems: list[str], metadata: dict[str, Any]
) -> dict[str, Array]:
    threshold = spread(module.v_threshold, shape)
    if units.exact_threshold:
        threshold = next_float32(threshold, -np.inf)
    if module.v_reset is None:
        if units.extensions:
            metadata["reset"] = "subtract"
        else:
            problems.append("the soft reset (v_reset=None): NIR resets to a value")
    start = module.v_leak if isinstance(module, EulerLIF) else (0.0 if module.v_reset is None else module.v_reset)
    initial = _initial(module, start, shape, units, problems)
    if initial is not None:
        metadata["v_initial"] = initial
    reset = spread(0.0 if module.v_reset is None else module.v_reset, shape)
    return {"v_threshold": threshold, "v_reset": reset}


def _initial(module: Any, expected: Any, shape: tuple[int, ...], units: Units, problems: list[str]) -> Array | None:
    """The membrane after a reset where it is not the expected one."""
    fresh = copy.deepcopy(module)
    fresh.reset()
    value = fresh.memories["i" if isinstance(module, SynapseFilter) else "v"]
    if value is None:  # made from v_reset at the first step
        return None
    found = spread(value, shape)
    if np.array_equal(found, spread(expected, shape)):
        return None
    if not units.extensions or not isinstance(module, SpikingNode):
        problems.append("an initial membrane of its own: NIR has none")
        return None
    return found


def _leak(module: Any, shape: tuple[int, ...]) -> Array:
    return spread(0.0 if module.v_reset is None else module.v_reset, shape)


def _if(module: IFNode, shape: tuple[int, ...], units: Units, problems: list[str]) -> dict[str, Any]:
    return {"kind": "IF", "r": spread(1 / units.dt if units.per_second else 1.0, shape)}


def _lif(module: Any, shape: tuple[int, ...], units: Units, problems: list[str]) -> dict[str, Any]:
    steps = spread(module.tau, shape)
    r = spread(1.0, shape) if module.decay_input else steps
    return {"kind": "LIF", "tau": steps * units.dt, "r": r, "v_leak": _leak(module, shape)}


def _synaptic(module: SynapticLIFNode, shape: tuple[int, ...], units: Units, problems: list[str]) -> dict[str, Any]:
    values = _lif(module, shape, units, problems)
    steps = spread(module.tau_syn, shape)
    return values | {"kind": "CubaLIF", "tau_mem": values.pop("tau"), "tau_syn": steps * units.dt, "w_in": steps}


def _cuba(module: CubaLIFNode, shape: tuple[int, ...], units: Units, problems: list[str]) -> dict[str, Any]:
    current = _nonzero(spread(module.current_decay, shape), "current_decay", problems)
    voltage = _nonzero(spread(module.voltage_decay, shape), "voltage_decay", problems)
    zero = spread(0.0, shape)
    taus = {"tau_syn": units.dt / current, "tau_mem": units.dt / voltage}
    return {"kind": "CubaLIF", **taus, "w_in": 1 / current, "r": 1 / voltage, "v_leak": zero}


def _li(module: LeakyIntegrator, shape: tuple[int, ...], units: Units, problems: list[str]) -> dict[str, Any]:
    steps = spread(module.tau, shape)
    r = spread(1.0, shape) if module.decay_input else steps
    return {"kind": "LI", "tau": steps * units.dt, "r": r, "v_leak": spread(0.0, shape)}


def _filter(module: SynapseFilter, shape: tuple[int, ...], units: Units, problems: list[str]) -> dict[str, Any]:
    if module.kind != "linear":
        problems.append(f"kind={module.kind!r}: NIR's LI is linear")
    steps = spread(module.tau, shape)
    return {"kind": "LI", "tau": steps * units.dt, "r": steps, "v_leak": spread(0.0, shape)}


def _euler(module: EulerLI | EulerLIF, shape: tuple[int, ...], units: Units, problems: list[str]) -> dict[str, Any]:
    fires = isinstance(module, EulerLIF)
    decay, gain, leak = spread(module.decay, shape), spread(module.gain, shape), spread(module.v_leak, shape)
    if not decay.any():
        if leak.any():
            problems.append("v_leak without a decay: NIR's IF and I start at 0")
        return {"kind": "IF" if fires else "I", "r": gain / units.dt if units.per_second else gain}
    decay = _nonzero(decay, "decay", problems)
    return {"kind": "LIF" if fires else "LI", "tau": units.dt / decay, "r": gain / decay, "v_leak": leak}


def _euler_cuba(
    module: EulerCubaLI | EulerCubaLIF, shape: tuple[int, ...], units: Units, problems: list[str]
) -> dict[str, Any]:
    current = _nonzero(spread(module.current_decay, shape), "current_decay", problems)
    decay = _nonzero(spread(module.decay, shape), "decay", problems)
    return {
        "kind": "CubaLIF" if isinstance(module, EulerCubaLIF) else "CubaLI",
        "tau_syn": units.dt / current,
        "tau_mem": units.dt / decay,
        "r": spread(module.gain, shape) / decay,
        "w_in": spread(module.current_gain, shape) / current,
        "v_leak": spread(module.v_leak, shape),
    }


def _nonzero(decay: Array, name: str, problems: list[str]) -> Array:
    if bool((decay > 0).all()):
        return decay
    problems.append(f"{name} of 0: it has no finite time constant in NIR")
    return np.ones_like(decay)


Writer = Callable[[Any, tuple[int, ...], Units, list[str]], dict[str, Any]]
_WRITERS: dict[type[nn.Module], Writer] = {
    IFNode: _if,
    LIFNode: _lif,
    ParametricLIFNode: _lif,
    RecurrentLIFNode: _lif,
    SynapticLIFNode: _synaptic,
    CubaLIFNode: _cuba,
    LeakyIntegrator: _li,
    SynapseFilter: _filter,
    EulerLI: _euler,
    EulerLIF: _euler,
    EulerCubaLI: _euler_cuba,
    EulerCubaLIF: _euler_cuba,
}
