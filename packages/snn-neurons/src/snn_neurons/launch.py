"""From tensors as a user has them to a backend's kernels: layout, dtypes, allocation, checkpoints."""

from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from snn_neurons import native_backend, torch_backend
from snn_neurons.call import Call
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


def kernel_params(spec: Spec, layout: Layout, tensors: Sequence[Tensor]) -> list[Param]:
    """All parameters as kernels take them: numbers, and the given tensors over neurons in storage order."""
    given = iter(tensors)
    return [layout.param(next(given), spec.memory_dtype) if s is None else s for s in spec.scalars]


def segments(T: int, every: int) -> int:
    """The number of checkpoints that ``T`` steps keep."""
    return max(0, -(-T // every) - 1)


def launch_forward(spec: Spec, x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], save: bool) -> Result:
    """Run ``spec`` over ``x [T, N, ...]``; with ``save``, keep a checkpoint of the states every few steps."""
    layout, backend, program = layout_of(x), backend_module(spec.backend), spec.program
    rows, first = layout.dense_sequence(x), _first(spec, layout, states)
    T, M = x.shape[0], layout.neurons
    kept = program.n_outputs - program.memory_outputs
    outs = [_empty(rows, spec.out_dtype if i < kept else spec.memory_dtype) for i in range(program.n_outputs)]
    lasts = [torch.empty_like(s) for s in first]
    every = spec.every or backend.checkpoint_every(program, rows)
    count = segments(T, every) if save else 0
    # Two elements more: a size that can be neither 0 nor 1 lets one compiled graph serve every T.
    saved = [s.new_empty(count * M + 2) for s in first] if count or (save and spec.every) else []
    if T == 0 or M == 0:
        for last, value in zip(lasts, first, strict=True):
            last.copy_(value)
    else:
        poison([*outs, *lasts, *saved])
        call = Call(program, rows, M, first, kernel_params(spec, layout, params), every)
        backend.forward(call, outs, lasts, saved if count else None)
    return Result([layout.restore_sequence(o) for o in outs], [layout.restore_step(v) for v in lasts], saved)


def _empty(rows: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(rows, dtype=dtype, memory_format=torch.contiguous_format)


def _first(spec: Spec, layout: Layout, states: Sequence[Tensor]) -> list[Tensor]:
    dtype = spec.memory_dtype
    return [layout.dense_step(_as(s, dtype)) for s in states]


def _as(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == dtype else x.to(dtype)


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
    layout, backend, program = layout_of(x), backend_module(spec.backend), spec.program
    rows, first = layout.dense_sequence(x), _first(spec, layout, states)
    T, M = x.shape[0], layout.neurons
    wanted = iter([True] * len(params) if want_params is None else want_params)
    want = [s is None and next(wanted) for s in spec.scalars]
    g_x = _empty(rows, rows.dtype) if want_x else None
    g_states = [torch.empty_like(s) for s in first]
    g_out = [None if g is None else layout.dense_sequence(g) for g in g_outs]
    g_last = [None if g is None else layout.dense_step(g) for g in g_lasts]
    g_params: list[Tensor | None]
    if T == 0 or M == 0:
        for out, g in zip(g_states, g_last, strict=True):
            out.zero_() if g is None else out.copy_(g)
        zeros = iter([torch.zeros_like(p) for p in params])
        g_params = [next(zeros) if s is None else None for s in spec.scalars]
    else:
        poison([*([g_x] if g_x is not None else []), *g_states])
        every = spec.every or backend.checkpoint_every(program, rows)
        call = Call(program, rows, M, first, kernel_params(spec, layout, params), every)
        g_params = backend.backward(call, saved, g_out, g_last, g_x, g_states, want)
    tensors = iter(params)
    shaped: list[Tensor | None] = []
    for s, g in zip(spec.scalars, g_params, strict=True):
        if s is None:
            p = next(tensors)
            shaped.append(None if g is None else layout.param_grad(g, p.shape).to(p.dtype))
    return Gradients(
        None if g_x is None else layout.restore_sequence(g_x),
        [_as(layout.restore_step(g), s.dtype) for g, s in zip(g_states, states, strict=True)],
        shaped,
    )


def poison(tensors: Sequence[Tensor]) -> None:
    """Called with the outputs before a kernel fills them; tests replace it by one that writes NaN."""
