"""Exponential traces of spikes: forwards in time, backwards in time, one step or a whole sequence."""

import math

import torch
from torch import Tensor

from snn_learning.functional.checks import check_binary


def decay_factor(tau: float, dt: float = 1.0) -> float:
    """Return ``exp(-dt / tau)``, the factor by which a trace decays in one step.

    Args:
        tau: time constant in ms; 0 forgets at once (factor 0), infinity never (factor 1).
        dt: duration of a step in ms.

    Raises:
        ValueError: ``tau`` is negative or ``dt`` is not positive.
    """
    if not tau >= 0.0:
        raise ValueError(f"tau must be a time constant >= 0 in ms, got {tau}")
    if not 0.0 < dt < math.inf:
        raise ValueError(f"dt must be a positive duration in ms, got {dt}")
    return math.exp(-dt / tau) if tau > 0.0 else 0.0


def trace(s_seq: Tensor, x: Tensor, decay: float) -> Tensor:
    """Return the trace ``x[t] = decay * x[t-1] + s[t]`` of every step.

    Args:
        s_seq: spikes or any real input, ``[T, ...]``.
        x: trace before the first step, ``[...]``.
        decay: factor per step, see `decay_factor`.
    """
    return _scan(s_seq, x, decay, reverse=False)


def nearest_trace(s_seq: Tensor, x: Tensor, decay: float) -> Tensor:
    """Return the trace of the nearest spike: ``x[t] = 1`` on a spike, else ``decay * x[t-1]``.

    Raises:
        ValueError: ``s_seq`` holds anything but 0 and 1.
    """
    check_binary(s_seq, "s_seq")
    steps = []
    for s in s_seq.unbind(0):
        x = torch.maximum(decay * x, s)
        steps.append(x)
    return torch.stack(steps) if steps else s_seq.clone()


def reverse_trace(s_seq: Tensor, decay: float) -> Tensor:
    """Return the trace that runs backwards, ``y[t] = decay * y[t+1] + s[t]`` with ``y[T] = 0``.

    It is the adjoint of `trace`: ``sum_t a[t] trace(b)[t] = sum_t reverse_trace(a)[t] b[t]`` for a trace that starts at
    zero, which turns two products of a pair rule into one.
    """
    return _scan(s_seq, torch.zeros_like(s_seq[0]) if len(s_seq) else s_seq, decay, reverse=True)


def previous(after: Tensor, x: Tensor, decay: float) -> Tensor:
    """Return what a trace was within each step before its increment, ``decay * x[t-1]``."""
    return decay * torch.cat([x.unsqueeze(0), after[:-1]])


def last_trace(s_seq: Tensor, x: Tensor, decay: float) -> Tensor:
    """Return only the last step of `trace`: ``decay**T x + sum_t decay**(T-1-t) s[t]``."""
    steps = s_seq.shape[0]
    powers = decay_powers(steps, decay, s_seq)
    grown: Tensor = torch.tensordot(powers.flip(0), s_seq, 1)
    return decay**steps * x + grown


def decay_powers(steps: int, decay: float, like: Tensor) -> Tensor:
    """Return ``[1, decay, decay**2, ...]``, ``[steps]``."""
    return torch.tensor([decay**t for t in range(steps)], dtype=like.dtype, device=like.device)


def _scan(s_seq: Tensor, x: Tensor, decay: float, *, reverse: bool) -> Tensor:
    if s_seq.shape[0] == 0:
        return s_seq.clone()
    steps = list(s_seq.unbind(0))
    if reverse:
        steps.reverse()
    if torch.is_grad_enabled() and (s_seq.requires_grad or x.requires_grad):
        out = []
        for s in steps:
            x = torch.add(s, x, alpha=decay)
            out.append(x)
        return torch.stack(out[::-1] if reverse else out)
    traces = torch.empty_like(s_seq)
    rows = list(traces.unbind(0))
    for s, row in zip(steps, reversed(rows) if reverse else rows, strict=True):
        x = torch.add(s, x, alpha=decay, out=row)
    return traces
