"""From tensors as a user has them to a backend's kernels: layout, dtypes, allocation, checkpoints."""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from snn_neurons import native_backend, torch_backend
from snn_neurons.layout import Layout, Param, layout_of
from snn_neurons.program import Program


class Spec(NamedTuple):
    """What one fused call computes, besides its tensors.

    ``scalars`` has one entry per parameter: its value, or ``None`` for those that come as tensors.
    """

    program: Program
    backend: str
    scalars: tuple[float | None, ...]
    out_dtype: torch.dtype
    memory_dtype: torch.dtype
    every: int | None = None  # steps between checkpoints; None: the backend's choice for each input


class Result(NamedTuple):
    """Outputs ``[T, N, ...]``, last states ``[N, ...]`` and the checkpoints kept for backward, each ``[C * M + 2]``."""

    outs: list[Tensor]
    lasts: list[Tensor]
    saved: list[Tensor]


def backend_module(name: str) -> ModuleType:
    """The module that implements a backend."""
    if name == "triton":
        from snn_neurons import triton_backend

        return triton_backend
    return {"torch": torch_backend, "native": native_backend}[name]


def flat_params(spec: Spec, layout: Layout, tensors: Sequence[Tensor]) -> list[Param]:
    """All parameters as kernels take them: numbers, and the given tensors over flat neurons."""
    given = iter(tensors)
    return [layout.param(next(given), spec.memory_dtype) if s is None else s for s in spec.scalars]


def segments(spec: Spec, T: int, every: int) -> int:
    """The number of checkpoints that ``T`` steps keep."""
    return max(0, -(-T // every) - 1)


def launch_forward(spec: Spec, x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], save: bool) -> Result:
    """Run ``spec`` over ``x [T, N, ...]``; with ``save``, keep a checkpoint of the states every few steps."""
    layout = layout_of(x)
    backend = backend_module(spec.backend)
    flat = layout.flatten_sequence(x)
    T, M = flat.shape
    program = spec.program
    first = _first(spec, layout, states)
    kept = program.n_outputs - program.memory_outputs
    outs = [_empty(flat, spec.out_dtype if i < kept else spec.memory_dtype) for i in range(program.n_outputs)]
    lasts = [torch.empty_like(s) for s in first]
    every = spec.every or backend.checkpoint_every(program, flat)
    count = segments(spec, T, every) if save else 0
    # Two elements more: a size that can be neither 0 nor 1 lets one compiled graph serve every T.
    saved = [s.new_empty(count * M + 2) for s in first] if count or (save and spec.every) else []
    if T == 0 or M == 0:
        for last, value in zip(lasts, first, strict=True):
            last.copy_(value)
    else:
        poison([*outs, *lasts, *saved])
        values = flat_params(spec, layout, params)
        backend.forward(program, flat, first, values, outs, lasts, _rows(saved, M) if count else None, every)
    return Result([layout.restore_sequence(o) for o in outs], [layout.restore_step(v) for v in lasts], saved)


def _empty(flat: Tensor, dtype: torch.dtype) -> Tensor:
    if flat.dtype == dtype and flat.is_contiguous():
        return torch.empty_like(flat)
    return flat.new_empty(flat.shape, dtype=dtype)


def _first(spec: Spec, layout: Layout, states: Sequence[Tensor]) -> list[Tensor]:
    dtype = spec.memory_dtype
    return [layout.flatten_step(s if s.dtype == dtype else s.to(dtype)) for s in states]


def _rows(saved: Sequence[Tensor], neurons: int) -> list[Tensor]:
    return [s[:-2].view(-1, neurons) for s in saved]


class Gradients(NamedTuple):
    """Gradients of the input, the initial states and the parameter tensors."""

    x: Tensor | None
    states: list[Tensor]
    params: list[Tensor | None]


def launch_backward(
    spec: Spec,
    x: Tensor,
    states: Sequence[Tensor],
    params: Sequence[Tensor],
    saved: Sequence[Tensor],
    g_outs: Sequence[Tensor | None],
    g_lasts: Sequence[Tensor | None],
    want_x: bool = True,
    want_params: Sequence[bool] | None = None,
) -> Gradients:
    """The gradients of `launch_forward`, recomputed from its input and checkpoints."""
    layout = layout_of(x)
    backend = backend_module(spec.backend)
    flat = layout.flatten_sequence(x)
    T, M = flat.shape
    wanted = iter([True] * len(params) if want_params is None else want_params)
    want = [s is None and next(wanted) for s in spec.scalars]
    first = _first(spec, layout, states)
    g_x = _empty(flat, flat.dtype) if want_x else None
    g_states = [torch.empty_like(s) for s in first]
    g_out = [None if g is None else layout.flatten_sequence(g) for g in g_outs]
    g_last = [None if g is None else layout.flatten_step(g) for g in g_lasts]
    if T == 0 or M == 0:
        for out, g in zip(g_states, g_last, strict=True):
            out.zero_() if g is None else out.copy_(g)
        zeros = iter([torch.zeros_like(p) for p in params])
        g_params: list[Tensor | None] = [next(zeros) if s is None else None for s in spec.scalars]
    else:
        poison([*([g_x] if g_x is not None else []), *g_states])
        values = flat_params(spec, layout, params)
        every = spec.every or backend.checkpoint_every(spec.program, flat)
        grads = backend.backward(
            spec.program, flat, first, values, _rows(saved, M), every, g_out, g_last, g_x, g_states, want
        )
        g_params = list(grads)
    tensors = iter(params)
    shaped: list[Tensor | None] = []
    for s, g in zip(spec.scalars, g_params, strict=True):
        if s is None:
            p = next(tensors)
            shaped.append(None if g is None else layout.param_grad(g, p.shape).to(p.dtype))
    return Gradients(
        None if g_x is None else layout.restore_sequence(g_x),
        [layout.restore_step(g).to(s.dtype) for g, s in zip(g_states, states, strict=True)],
        shaped,
    )


def poison(tensors: Sequence[Tensor]) -> None:
    """Called with the outputs before a kernel fills them; tests replace it by one that writes NaN."""
