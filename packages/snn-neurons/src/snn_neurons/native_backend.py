"""The fused loop on CPU: C printed from the program, compiled once, run by a few threads."""

import ctypes
from array import array
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snn_neurons.call import Call
from snn_neurons.layout import Param, Periodic
from snn_neurons.native_build import load, no_compiler
from snn_neurons.native_source import BACKWARD_BLOCK, Variant, print_source
from snn_neurons.native_threads import parallel_region
from snn_neurons.program import Program

_TYPES = {
    torch.float32: "f32",
    torch.float64: "f64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.uint8: "u8",
    torch.bool: "b8",
}
# Below this number of element-steps a second thread costs more to start than it saves.
_WORK_PER_THREAD = 1 << 18
_STEPS_PER_STATE = 16


def unavailable(x: Tensor) -> str | None:
    """Why this backend cannot run on ``x``, or ``None``."""
    if x.device.type != "cpu":
        return f"the native backend runs on the CPU and the input is on {x.device}"
    if x.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return f"the native backend takes float32, float64, float16 and bfloat16, not {x.dtype}"
    return no_compiler()


def checkpoint_every(program: Program, x: Tensor) -> int:
    """Steps between two checkpoints: at most a quarter of a byte per element and step in float32."""
    return _STEPS_PER_STATE * max(1, len(program.states))


@cache
def _kernel(variant: Variant) -> Any:
    run = load(print_source(variant)).run
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    run.restype = ctypes.c_int
    return run


def _call(kernel: Any, arguments: list[int], scalars: list[float], partial: int) -> None:
    a, s = array("q", arguments), array("d", scalars)
    if kernel(a.buffer_info()[0], s.buffer_info()[0], partial, parallel_region()):
        raise MemoryError("the native kernel could not allocate its scratch memory")


def _threads(work: int) -> int:
    return 1 if work < 2 * _WORK_PER_THREAD else min(torch.get_num_threads(), work // _WORK_PER_THREAD)


def _pack(params: list[Param]) -> tuple[tuple[bool, ...], tuple[bool, ...], list[float], list[int]]:
    """Which parameters vary over neurons, which are 0; values of the others, the kernel's arguments for the former."""
    vector, zero, scalars, arguments = [False] * len(params), [False] * len(params), [0.0] * len(params), []
    for j, p in enumerate(params):
        if isinstance(p, float):
            scalars[j], zero[j] = p, p == 0.0
        elif isinstance(p, Periodic):
            vector[j] = True
            arguments += [p.values.data_ptr(), p.inner, p.values.numel()]
        else:
            scalars[j] = p.item()
    return tuple(vector), tuple(zero), scalars, arguments


def forward(call: Call, outs: list[Tensor], lasts: list[Tensor], saved: list[Tensor] | None) -> None:
    """Run all steps; writes ``outs``, ``lasts`` and the checkpoints ``saved``, row after row."""
    program, x, M, states, params, every = call
    T = x.shape[0]
    memory = _TYPES[lasts[0].dtype] if lasts else "f64" if x.dtype == torch.float64 else "f32"
    vector, zero, scalars, arguments = _pack(params)
    kernel = _kernel(Variant(program, _TYPES[x.dtype], _TYPES[outs[0].dtype], memory, vector, zero, None))
    arguments = [T, M, every, _threads(T * M), x.data_ptr(), x.stride(0), 0, 0, *arguments]
    arguments += [s.data_ptr() for s in states]
    arguments += [s.data_ptr() for s in lasts]
    arguments += [0] * len(states) if saved is None else [s.data_ptr() for s in saved]
    for out in outs:
        arguments += [out.data_ptr(), out.stride(0)]
    _call(kernel, arguments, scalars, 0)


def backward(
    call: Call,
    saved: list[Tensor],
    g_outs: list[Tensor | None],
    g_lasts: list[Tensor | None],
    g_x: Tensor | None,
    g_states: list[Tensor],
    want: list[bool],
) -> list[Tensor | None]:
    """Gradients by recomputing each segment from its checkpoint; writes ``g_x`` and ``g_states``."""
    program, x, M, states, params, every = call
    T = x.shape[0]
    dtype = states[0].dtype if states else torch.float64 if x.dtype == torch.float64 else torch.float32
    vector, zero, scalars, arguments = _pack(params)
    kept = program.n_outputs - program.memory_outputs
    given = [g for g in g_outs[:kept] if g is not None]
    out_type = _TYPES[given[0].dtype if given else x.dtype]
    kernel = _kernel(Variant(program, _TYPES[x.dtype], out_type, _TYPES[dtype], vector, zero, tuple(want)))
    arguments = [T, M, every, _threads(2 * T * M), x.data_ptr(), x.stride(0), *arguments]
    arguments[6:6] = [0, 0] if g_x is None else [g_x.data_ptr(), g_x.stride(0)]
    arguments += [s.data_ptr() for s in states]
    arguments += [s.data_ptr() for s in saved] if every < T else [0] * len(states)
    arguments += [0 if g is None else g.data_ptr() for g in g_lasts]
    arguments += [g.data_ptr() for g in g_states]
    for g in g_outs:
        arguments += [0, 0] if g is None else [g.data_ptr(), g.stride(0)]
    if not any(want):
        _call(kernel, arguments, scalars, 0)
        return [None] * len(params)
    full = [torch.empty(M, dtype=dtype) if w and v else None for w, v in zip(want, vector, strict=True)]
    arguments += [0 if f is None else f.data_ptr() for f, w in zip(full, want, strict=True) if w]
    partial = torch.empty((-(-M // BACKWARD_BLOCK), sum(want)), dtype=torch.float64)
    _call(kernel, arguments, scalars, partial.data_ptr())
    sums = None if all(vector[j] for j, w in enumerate(want) if w) else partial.sum(0).to(dtype)
    grads: list[Tensor | None] = []
    for j, p in enumerate(params):
        if not want[j]:
            grads.append(None)
        elif isinstance(p, Periodic):
            whole = full[j]
            assert whole is not None
            grads.append(p.reduce(whole))
        else:
            assert sums is not None
            grads.append(sums[sum(want[:j])])
    return grads
