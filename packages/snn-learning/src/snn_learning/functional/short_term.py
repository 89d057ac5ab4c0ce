"""Short-term plasticity."""

from typing import Literal, NamedTuple

from torch import Tensor

from snn_learning.functional.traces import decay_factor


class ShortTermState(NamedTuple):
    """Utilisation ``u`` and resources ``x`` of every presynaptic neuron, ``[N, *pre]``."""

    u: Tensor
    x: Tensor


def tsodyks_markram_step(
    s: Tensor,
    state: ShortTermState,
    *,
    U: float,
    tau_f: float,
    tau_d: float,
    rest: Literal["zero", "U"] = "zero",
    dt: float = 1.0,
) -> tuple[Tensor, ShortTermState]:
    """Return what each presynaptic spike releases, and the state after the step.

    ::

        u <- u_rest + (u - u_rest) * exp(-dt / tau_f),    x <- 1 + (x - 1) * exp(-dt / tau_d)
        on a spike:  u <- u + U * (1 - u),   release = u * x,   x <- x - release

    Args:
        s: presynaptic spikes of the step, ``[N, *pre]``, 0 or 1.
        state: at rest it is ``u = u_rest``, ``x = 1``.
        U: increment of utilisation.
        tau_f, tau_d: time constants of facilitation and recovery in ms.
        rest: whether ``u`` rests at zero or at ``U``.
        dt: duration of a step in ms.

    References:
        Tsodyks, Pawelzik, Markram 1998.
    """
    u_rest = U if rest == "U" else 0.0
    u = u_rest + (state.u - u_rest) * decay_factor(tau_f, dt)
    x = 1.0 + (state.x - 1.0) * decay_factor(tau_d, dt)
    u = u + U * (1.0 - u) * s
    release = u * x * s
    return release, ShortTermState(u, x - release)
