"""The fused call as a ``torch.library`` operation, for compiled and exported programs.

The program travels as a string, so that an exported graph finds its kernels in any process.
"""

import json
from functools import cache
from typing import Any

import torch
from torch import Tensor

from snn_neurons.launch import Spec, launch_backward, launch_forward
from snn_neurons.layout import layout_of
from snn_neurons.program import program_from_text

torch.library.define(
    "snn_neurons::forward", "(str spec, Tensor x, Tensor[] states, Tensor[] params, bool[] want, bool save) -> Tensor[]"
)
torch.library.define(
    "snn_neurons::backward",
    "(str spec, Tensor x, Tensor[] states, Tensor[] params, bool[] want, Tensor[] saved, Tensor?[] g_outs, "
    "Tensor?[] g_lasts) -> Tensor[]",
)


def spec_text(spec: Spec) -> str:
    """The string that stands for ``spec`` in a graph."""
    dtypes = [str(d).removeprefix("torch.") for d in (spec.out_dtype, spec.memory_dtype)]
    return json.dumps([spec.program.text, spec.backend, spec.scalars, *dtypes, spec.every])


@cache
def _spec(text: str) -> Spec:
    program, backend, scalars, out_dtype, memory_dtype, every = json.loads(text)
    dtypes = getattr(torch, out_dtype), getattr(torch, memory_dtype)
    return Spec(program_from_text(program), backend, tuple(scalars), *dtypes, every)


@torch.library.impl("snn_neurons::forward", "CompositeExplicitAutograd")
def _forward(
    spec: str, x: Tensor, states: list[Tensor], params: list[Tensor], want: list[bool], save: bool
) -> list[Tensor]:
    result = launch_forward(_spec(spec), x, states, params, save)
    return [*result.outs, *result.lasts, *result.saved]


@torch.library.impl("snn_neurons::backward", "CompositeExplicitAutograd")
def _backward(
    spec: str,
    x: Tensor,
    states: list[Tensor],
    params: list[Tensor],
    want: list[bool],
    saved: list[Tensor],
    g_outs: list[Tensor | None],
    g_lasts: list[Tensor | None],
) -> list[Tensor]:
    g = launch_backward(_spec(spec), x, states, params, saved, g_outs, g_lasts, True, want)
    assert g.x is not None
    return [g.x, *g.states, *[x.new_empty(0) if p is None else p.clone() for p in g.params]]


@torch.library.register_fake("snn_neurons::forward")  # type: ignore[untyped-decorator]
def _fake_forward(
    spec: str, x: Tensor, states: list[Tensor], params: list[Tensor], want: list[bool], save: bool
) -> list[Tensor]:
    s, layout = _spec(spec), layout_of(x)
    every = s.every or 1
    T, M = x.shape[0], x[0].numel() if x.dim() > 1 else 1
    count = torch.sym_max((T + every - 1) // every - 1, 0)
    kept = s.program.n_outputs - s.program.memory_outputs
    dtypes = [s.out_dtype if i < kept else s.memory_dtype for i in range(s.program.n_outputs)]
    outs = [layout.restore_sequence(x.new_empty((T, M), dtype=d)) for d in dtypes]
    lasts = [layout.restore_step(x.new_empty((M,), dtype=s.memory_dtype)) for _ in states]
    saved = [x.new_empty((count * M + 2,), dtype=s.memory_dtype) for _ in states] if save else []
    return [*outs, *lasts, *saved]


@torch.library.register_fake("snn_neurons::backward")  # type: ignore[untyped-decorator]
def _fake_backward(
    spec: str,
    x: Tensor,
    states: list[Tensor],
    params: list[Tensor],
    want: list[bool],
    saved: list[Tensor],
    g_outs: list[Tensor | None],
    g_lasts: list[Tensor | None],
) -> list[Tensor]:
    layout = layout_of(x)
    T, M = x.shape[0], x[0].numel() if x.dim() > 1 else 1
    g_x = layout.restore_sequence(x.new_empty((T, M)))
    g_states = [layout.restore_step(s.new_empty((M,))) for s in states]
    # A gradient that is not wanted is an empty tensor.
    return [g_x, *g_states, *[p.new_empty(p.shape) if w else x.new_empty(0) for p, w in zip(params, want, strict=True)]]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.spec, x, states, params, ctx.want, save = inputs
    program = _spec(ctx.spec).program
    ctx.n_s, ctx.n_o, ctx.n_p = len(states), program.n_outputs, len(params)
    ctx.saved_states = save
    ctx.save_for_backward(x, *states, *params, *output[ctx.n_o + ctx.n_s :])


def _autograd(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    if not ctx.saved_states:
        raise RuntimeError("this call of the fused neuron kept nothing for a backward pass: it ran without gradients")
    x, *rest = ctx.saved_tensors
    n_s, n_p, n_o = ctx.n_s, ctx.n_p, ctx.n_o
    states, params, saved = rest[:n_s], rest[n_s : n_s + n_p], rest[n_s + n_p :]
    found = torch.ops.snn_neurons.backward(
        ctx.spec, x, states, params, ctx.want, saved, list(grads[:n_o]), list(grads[n_o : n_o + n_s])
    )
    g_params = [g if w else None for g, w in zip(found[1 + n_s :], ctx.want, strict=True)]
    return None, found[0], list(found[1 : 1 + n_s]), g_params, None, None


torch.library.register_autograd("snn_neurons::forward", _autograd, setup_context=_setup_context)


def _twice(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    raise RuntimeError(
        "a fused neuron inside a compiled graph has no second derivative; run it eagerly with create_graph=True"
    )


torch.library.register_autograd("snn_neurons::backward", _twice)
