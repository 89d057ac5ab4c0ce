"""The CUDA backend: a program's steps as one Triton kernel forward and one backward.

Memories live in registers, in float32 (float64 for float64 inputs), over all steps. The backward reads the input again,
computes ``every`` steps from a checkpoint into registers and sweeps them in reverse. Gradients of parameters are summed
per block in the kernel and then over the blocks, in a fixed order.
"""

import importlib.util
import linecache
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snn_neurons.call import Call
from snn_neurons.layout import Param, Periodic
from snn_neurons.program import Program
from snn_neurons.triton_source import HELPERS, Variant, backward_source, forward_source

_WARPS = 2
# Multiply-adds are left apart: the backward must find the spikes of the forward again, and it is other code.
_OPTIONS = {"num_warps": _WARPS, "num_stages": 1, "enable_fp_fusion": False}


def unavailable(x: Tensor) -> str | None:
    """Why this backend cannot run on ``x``; ``None`` if it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install snn-neurons[triton])"
    if x.dtype not in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return f"the input is {x.dtype}, not floating-point"
    if not x.is_cuda and not interpreted():
        return f"the input is on {x.device}, not on a CUDA device"
    return None


def interpreted() -> bool:
    """Whether Triton's interpreter runs kernels on the CPU (``TRITON_INTERPRET=1`` before Triton is imported)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def checkpoint_every(program: Program, x: Tensor) -> int:
    """Steps per chunk: what the registers of a thread hold without spilling, fewer for a short sequence."""
    T, memories = x.shape[0], len(program.states)
    if T <= 1:
        return 1
    if T <= 4 or memories > 3:
        return 4
    return 16 if memories <= 1 and len(program.vjp.ops) <= 36 else 8


@cache
def _kernel(program: Program, variant: Variant, name: str) -> Any:
    """The kernel ``forward`` or ``backward`` of a program; Triton looks its text up by the file name."""
    body = (forward_source if name == "forward" else backward_source)(program, variant)
    text = f"import triton\nimport triton.language as tl\n{HELPERS}\n\n{body}"
    file = f"<snn_neurons {name} {program.key} {abs(hash(variant)):x}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, Any] = {"__name__": f"snn_neurons_{name}_{program.key}"}
    exec(compile(text, file, "exec"), scope)
    return scope[name]


def _block(x: Tensor, params: list[Param]) -> int:
    """Neurons per program.

    Two per thread share address arithmetic and move in one access. Their registers would spill in float64, and where
    parameters take registers too.
    """
    single = x.dtype == torch.float64 or any(isinstance(p, Periodic) for p in params)
    return 32 * _WARPS * (1 if single else 2)


def _params(params: list[Param], x: Tensor, dtype: torch.dtype) -> tuple[tuple[str, ...], list[Any]]:
    """Kinds of the parameters, and the kernel's arguments for them."""
    kinds, arguments = [], []
    for p in params:
        if isinstance(p, Periodic):
            kinds.append("periodic")
            arguments += [p.values, p.inner, p.values.numel()]
        elif isinstance(p, Tensor):
            kinds.append("scalar")
            arguments.append(p)
        elif dtype == torch.float64:
            # A number would reach the kernel as float32.
            kinds.append("scalar")
            arguments.append(torch.full((), p, dtype=dtype, device=x.device))
        else:
            kinds.append("value")
            arguments.append(float(p))
    return tuple(kinds), arguments


def _bytes(t: Tensor) -> Tensor:
    return t.view(torch.uint8) if t.dtype == torch.bool else t


def _sequences(tensors: list[Tensor]) -> list[Any]:
    return [a for t in map(_bytes, tensors) for a in (t, t.stride(0))]


def _launch(kernel: Any, arguments: list[Any], call: Call, block: int) -> None:
    x, n = call.x, call.neurons
    grid = (-(-n // block),)
    if x.is_cuda:
        with torch.cuda.device(x.device):
            kernel[grid](*arguments, x.shape[0], n, BLOCK=block, **_OPTIONS)
    else:
        kernel[grid](*arguments, x.shape[0], n, BLOCK=block, **_OPTIONS)


def forward(call: Call, outs: list[Tensor], lasts: list[Tensor], saved: list[Tensor] | None) -> None:
    """Run all steps; writes ``outs``, ``lasts`` and the checkpoints ``saved``, row after row."""
    program, x, n, states, params, every = call
    dtype = states[0].dtype if states else _compute_dtype(x)
    kinds, values = _params(params, x, dtype)
    keep = saved if saved is not None and x.shape[0] > every else []
    variant = Variant(every, kinds, double=dtype == torch.float64, aligned=n % 16 == 0, checkpoints=bool(keep))
    arguments = [*_sequences([x, *outs]), *states, *lasts, *keep, *values]
    _launch(_kernel(program, variant, "forward"), arguments, call, _block(x, params))


def backward(
    call: Call,
    saved: list[Tensor],
    g_outs: list[Tensor | None],
    g_lasts: list[Tensor | None],
    g_x: Tensor | None,
    g_states: list[Tensor],
    want: list[bool],
) -> list[Tensor | None]:
    """Gradients of the input into ``g_x``, of the first memories into ``g_states``; those of parameters come back."""
    program, x, n, states, params, every = call
    dtype = states[0].dtype if states else _compute_dtype(x)
    block = _block(x, params)
    kinds, values = _params(params, x, dtype)
    keep = [] if every >= x.shape[0] else saved
    variant = Variant(
        every,
        kinds,
        double=dtype == torch.float64,
        aligned=n % 16 == 0,
        checkpoints=bool(keep),
        g_outs=tuple(g is not None for g in g_outs),
        g_lasts=tuple(g is not None for g in g_lasts),
        want_x=g_x is not None,
        want=tuple(want),
    )
    parts = [
        None if not w else x.new_empty(n if isinstance(p, Periodic) else -(-n // block), dtype=dtype)
        for p, w in zip(params, want, strict=True)
    ]
    given = [g for g in g_outs if g is not None]
    arguments = [
        *_sequences([x, *given, *([] if g_x is None else [g_x])]),
        *states,
        *keep,
        *[g for g in g_lasts if g is not None],
        *g_states,
        *[part for part in parts if part is not None],
        *values,
    ]
    _launch(_kernel(program, variant, "backward"), arguments, call, block)
    return [
        None if part is None else p.reduce(part) if isinstance(p, Periodic) else part.sum()
        for part, p in zip(parts, params, strict=True)
    ]


def _compute_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32
