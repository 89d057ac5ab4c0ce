"""Tensor subclasses: kernels take addresses, so only plain tensors reach them, and of a sharded one its local part."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

PLAIN = (Tensor, nn.Parameter)
Outcome = tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]


def is_plain(x: Tensor) -> bool:
    """Whether ``x`` is a tensor of PyTorch itself and not of a subclass, which may have no memory of its own."""
    return type(x) in PLAIN


def is_sharded(x: Tensor) -> bool:
    """Whether ``x`` is a ``torch.distributed.tensor.DTensor``."""
    # One can exist only where its module is loaded; loading it takes long.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def run_local(run: Callable[[Tensor, list[Tensor]], Outcome], x_seq: Any, states: Sequence[Any]) -> Outcome:
    """Run neurons on each process's part of ``x_seq [T, N, ...]``; what comes back is sharded like it.

    A partial sum is completed first and a sharded time dim gathered. Memories follow the placement of the input.
    """
    tensors = sys.modules["torch.distributed.tensor"]
    mesh = x_seq.device_mesh
    wanted = [p if p.is_shard() and p.dim != 0 else tensors.Replicate() for p in x_seq.placements]
    of_step = [tensors.Shard(p.dim - 1) if p.is_shard() else p for p in wanted]

    def part(x: Any, placements: list[Any]) -> Tensor:
        x = x.redistribute(mesh, placements) if is_sharded(x) else tensors.distribute_tensor(x, mesh, placements)
        local: Tensor = x.to_local()
        return local if is_plain(local) else local.clone()  # waits for what is still being received

    outs, lasts, v_seq = run(part(x_seq, wanted), [part(s, of_step) for s in states])
    shape = x_seq.shape

    def wrap(local: Tensor, placements: list[Any], size: Any) -> Tensor:
        strides = [1] * len(size)
        for d in reversed(range(len(size) - 1)):
            strides[d] = strides[d + 1] * max(size[d + 1], 1)
        whole: Tensor = tensors.DTensor.from_local(
            local.contiguous(), mesh, placements, run_check=False, shape=size, stride=tuple(strides)
        )
        return whole

    return (
        tuple(wrap(o, wanted, shape) for o in outs),
        [wrap(v, of_step, shape[1:]) for v in lasts],
        None if v_seq is None else wrap(v_seq, wanted, shape),
    )
