"""The first-order linear recurrence over time without a loop, and what accumulating memories share."""

import torch
from torch import Tensor

_BLOCK = 16


def accumulator_dtype(x: Tensor) -> torch.dtype:
    """The dtype in which sums over time are kept: at least float32, in which counts up to 2**24 are exact."""
    if not x.dtype.is_floating_point:
        return torch.get_default_dtype()
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def first_order(u_seq: Tensor, decay: Tensor | float, initial: Tensor) -> Tensor:
    """Return ``x[t] = decay * x[t-1] + u[t]`` for all t, with ``x[-1] = initial``.

    A lower triangular matrix ``decay ** (t - k)`` times the sequence, in blocks of steps: the work per entry is
    ``block + T / block`` rather than T, and there is no loop over T.

    Args:
        u_seq: ``[T, ...]`` with T of at least 1.
        decay: scalar in [0, 1].
        initial: ``[...]``.
    """
    steps = u_seq.shape[0]
    u = u_seq.flatten(1) if u_seq.dim() > 1 else u_seq.unsqueeze(1)
    a = torch.as_tensor(decay, dtype=u.dtype, device=u.device)
    # A matrix product under autocast would round the memory to half precision.
    with torch.autocast(u.device.type, enabled=False):
        if steps <= _BLOCK:
            x = _powers(a, steps) @ u
        else:
            blocks = (steps + _BLOCK - 1) // _BLOCK
            padded = torch.cat([u, u.new_zeros(blocks * _BLOCK - steps, u.shape[1])])
            local = _powers(a, _BLOCK) @ padded.view(blocks, _BLOCK, -1)
            ends = _powers(a**_BLOCK, blocks) @ local[:, -1]
            carried = torch.cat([torch.zeros_like(ends[:1]), ends[:-1]])
            rise = a ** torch.arange(1, _BLOCK + 1, device=u.device)
            x = torch.addcmul(local, rise.view(1, -1, 1), carried.unsqueeze(1)).flatten(0, 1)[:steps]
        start = a ** torch.arange(1, steps + 1, device=u.device)
        x = torch.addcmul(x, start.unsqueeze(1), initial.reshape(1, -1))
    return x.view(u_seq.shape)


def _powers(a: Tensor, n: int) -> Tensor:
    exponent = torch.arange(n, device=a.device).unsqueeze(1) - torch.arange(n, device=a.device)
    return torch.where(exponent >= 0, a ** exponent.clamp(min=0), 0.0)
