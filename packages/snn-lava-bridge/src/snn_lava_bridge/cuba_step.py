"""One step of the CUBA neuron in integer arithmetic, as one pure pointwise function.

States are integers in units of ``1 / s_scale``, ``s_scale = 64 scale``, held in floating point. See `arithmetic`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from snn_lava_bridge.straight_through import chip_drive, erase, leak_through, saturate, truncate, wrap

Arithmetic = Literal["slayer", "chip"]
DecayGradient = Literal["true", "slayer"]


@dataclass(frozen=True)
class CubaSettings:
    """What one step needs to know beside tensors.

    Attributes:
        arithmetic: ``"slayer"`` (unbounded integers) or ``"chip"`` (24-bit wrap and saturation).
        gradient: ``"true"``, the derivative of the equations with rounding ignored, or ``"slayer"``, what slayer's
            training computes: the reset passes gradients as if it did not happen, decays get ``sum g[t+1] y[t]``.
        detach_reset: no gradient through the spike that resets (``"true"`` gradients only).
        graded: emit ``v`` where the neuron fires instead of 1.
        exact_division: dividing an integer by ``s_scale`` and multiplying it back loses nothing (powers of two).
    """

    arithmetic: Arithmetic = "slayer"
    gradient: DecayGradient = "true"
    detach_reset: bool = False
    graded: bool = False
    exact_division: bool = True


class CubaNumbers(Protocol):
    """The numbers of a step, tensors that broadcast with the state.

    Attributes:
        i_decay, v_decay: integers 0 ... 4096.
        v_bias, v_limit: bias and threshold, integers in state units; the neuron fires where ``V > v_limit``.
        units: ``s_scale``, the integer state of 1.0.
    """

    i_decay: Tensor
    v_decay: Tensor
    v_bias: Tensor
    v_limit: Tensor
    units: Tensor


class CubaStep(NamedTuple):
    """Spike, integrated current and voltage before the reset, and the voltage after it; integers but the spike."""

    spike: Tensor
    i: Tensor
    v_out: Tensor
    v: Tensor


def current_step(x: Tensor, i: Tensor, decay: Tensor, s_scale: Tensor, settings: CubaSettings) -> Tensor:
    """``I[t] = (1 - a_I) I[t-1] + X[t]`` in integers.

    Args:
        x: input in weight units.
        i: integer current of the step before, in the dtype of the result.
        decay: integers 0 ... 4096, broadcastable to ``x``.
        s_scale: integer state of 1.0.
    """
    carried = leak_through(i, i, decay, slayer=settings.gradient == "slayer")
    if settings.arithmetic == "slayer":
        return carried + truncate(x * s_scale).to(i.dtype)
    # The chip adds an integer number of weight units. Wrapping it first keeps every sum within 24 exact bits.
    return wrap(carried + chip_drive((x * (s_scale / 64)).to(i.dtype)))


def as_input(i: Tensor, x_dtype: torch.dtype, s_scale: Tensor, settings: CubaSettings) -> Tensor:
    """The integer current as the voltage integrator gets it: slayer hands it over as a float of weight units."""
    if settings.arithmetic == "chip" or (settings.exact_division and i.dtype == x_dtype):
        return i
    return truncate(i.to(x_dtype) / s_scale * s_scale).to(i.dtype)


def voltage_step(
    j: Tensor,
    v: Tensor,
    v_out: Tensor,
    p: CubaNumbers,
    fire: Callable[[Tensor], Tensor],
    settings: CubaSettings,
) -> tuple[Tensor, Tensor, Tensor]:
    """``V[t] = (1 - a_V) V[t-1] + J[t]``, fire above the threshold, reset to 0: spike, V before and after the reset.

    Args:
        j: integer current; v: integer voltage carried from the step before; v_out: that voltage before its reset.
        p: see `CubaNumbers`.
        fire: surrogate of the Heaviside step, applied to ``V - threshold - eps`` in weight units.
    """
    now = leak_through(v, v_out, p.v_decay, slayer=settings.gradient == "slayer") + j + p.v_bias
    if settings.arithmetic == "chip":
        now = saturate(now)
    # 0.01 is less than one integer unit, so that u >= 0 is the chip's strict V > threshold.
    u = (now - p.v_limit - 0.01) * (1.0 / p.units)
    fired = fire(u)
    if settings.gradient == "slayer":
        carried = erase(now, fired.detach())
    else:
        carried = now * (1.0 - (fired.detach() if settings.detach_reset else fired))
    spike = fired
    if settings.graded:
        value = now / p.units
        graded = getattr(fire, "graded", None)
        spike = fired * value
        if graded is not None:
            slope = graded(u)
            spike = spike.detach() + (slope - slope.detach())
    return spike, now, carried


def cuba_step(
    x: Tensor,
    i: Tensor,
    v: Tensor,
    v_out: Tensor,
    p: CubaNumbers,
    fire: Callable[[Tensor], Tensor],
    settings: CubaSettings,
) -> CubaStep:
    """Current, voltage, spike and reset of one step; arguments as in `current_step` and `voltage_step`."""
    i = current_step(x, i, p.i_decay, p.units, settings)
    j = as_input(i, x.dtype, p.units, settings)
    spike, v_out, v = voltage_step(j, v, v_out, p, fire, settings)
    return CubaStep(spike.to(x.dtype), i, v_out, v)


def leaky_integrator(
    x_seq: Tensor,
    decay: Tensor,
    state: Tensor | None = None,
    *,
    s_scale: int = 4096,
    threshold: float | None = None,
    gradient: DecayGradient = "true",
) -> Tensor:
    """``y[t] = tz(y[t-1] (4096 - d) >> 12) + trunc(S x[t])`` over a sequence, returned as ``y / S`` before resets.

    Args:
        x_seq: ``[T, N, ...]``.
        decay: integers 0 ... 4096, broadcastable to one step.
        state: initial state ``[N, ...]`` in the units of ``x_seq``; zeros if None.
        s_scale: integer state ``S`` of 1.0.
        threshold: where given, ``y`` restarts from 0 after a step with ``y / S >= threshold``.
        gradient: see `CubaSettings`.
    """
    initial = torch.zeros_like(x_seq[0]) if state is None else state.detach()
    slayer = gradient == "slayer"
    y = torch.trunc(initial * s_scale).double()
    y_out = torch.zeros_like(y)  # slayer sums decay gradients over outputs alone, not over the initial state
    outputs = []
    for x in x_seq.unbind(0):
        y_out = leak_through(y, y_out, decay.double(), slayer=slayer) + truncate(x * s_scale).double()
        y = y_out
        if threshold is not None:
            fired = (y_out.to(x.dtype) >= torch.tensor(threshold * s_scale, dtype=x.dtype)).double()
            y = erase(y_out, fired) if slayer else y_out * (1.0 - fired)
        outputs.append(y_out.to(x.dtype) / s_scale)
    return torch.stack(outputs)
