"""A pointwise neuron with a dense recurrent weight in one call: a kernel and a matmul per step, no graph per step."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from snn_neurons.call import Call
from snn_neurons.launch import Spec, backend_module, kernel_params
from snn_neurons.layout import Layout
from snn_neurons.node_program import active_params, node_program

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode


def run_recurrent(
    node: "StepNode", weight: Tensor, x_seq: Tensor, state: list[Tensor], backend: str
) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
    """Run ``node``, whose pointwise step is given ``x[t] + weight s[t-1]``, over ``x_seq [T, N, ..., F]``.

    ``s`` is the last memory, in which the step leaves its spikes.
    """
    program = node_program(node)
    values = [getattr(node, name) for name in active_params(node)]
    scalars = tuple(v if isinstance(v, float) else None for v in values)
    spec = Spec(program, backend, scalars, node._out_dtype(x_seq), node.memory_dtype(x_seq))
    tensors = [*state, *[v for v in values if isinstance(v, Tensor)]]
    flat = _Recurrent.apply(spec, x_seq, weight, *tensors)
    n = program.n_outputs
    v_seq = flat[n - 1] if program.memory_outputs else None
    return tuple(flat[: n - program.memory_outputs]), list(flat[n:]), v_seq


class _Recurrent(torch.autograd.Function):
    """Keeps what the neurons heard, ``[T, N, ..., F]``; backward computes the memories of all steps again from it."""

    @staticmethod
    def forward(ctx: Any, spec: Spec, x: Tensor, weight: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        program, dtype, T = spec.program, spec.memory_dtype, x.shape[0]
        n_s, features = len(program.states), x.shape[-1]
        w = weight.to(dtype)
        inputs = x.to(dtype).reshape(T, -1, features)
        heard = torch.empty_like(inputs, memory_format=torch.contiguous_format)
        now = [s.to(dtype).reshape(-1).contiguous() for s in tensors[:n_s]]
        values = kernel_params(spec, Layout(tuple(x.shape[1:]), None), tensors[n_s:])
        kept = program.n_outputs - program.memory_outputs
        outs = [
            x.new_empty((T, now[0].numel()), dtype=spec.out_dtype if i < kept else dtype)
            for i in range(program.n_outputs)
        ]
        kernel = backend_module(spec.backend)
        for t in range(T):
            torch.addmm(inputs[t], now[-1].view(-1, features), w.t(), out=heard[t])
            new = [torch.empty_like(s) for s in now]
            call = Call(program, heard[t].view(1, -1), now[0].numel(), now, values, 1)
            kernel.forward(call, [o[t : t + 1] for o in outs], new, None)
            now = new
        ctx.save_for_backward(heard, weight, *tensors)
        ctx.spec, ctx.shape, ctx.dtype = spec, x.shape, x.dtype
        ctx.set_materialize_grads(False)
        shaped = [o.view(x.shape) for o in outs]
        if not spec.out_dtype.is_floating_point:
            ctx.mark_non_differentiable(*shaped[:kept])
        return (*shaped, *[s.view(x.shape[1:]) for s in now])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "a recurrent neuron in one call has no second derivative; backend='torch' has (the plain loop)"
            )
        spec: Spec = ctx.spec
        heard, weight, *tensors = ctx.saved_tensors
        program, dtype, (T, _, features) = spec.program, spec.memory_dtype, heard.shape
        n_s, n_o = len(program.states), program.n_outputs
        layout = Layout(tuple(ctx.shape[1:]), None)
        values = kernel_params(spec, layout, tensors[n_s:])
        wanted = iter(ctx.needs_input_grad[3 + n_s :])
        want = [s is None and next(wanted) for s in spec.scalars]
        flat = heard.view(T, -1)
        kernel, w = backend_module(spec.backend), weight.to(dtype)
        history = _history(spec, flat, [s.to(dtype).reshape(-1) for s in tensors[:n_s]], values)
        g_outs = [None if g is None else layout.dense_sequence(g) for g in grads[:n_o]]
        g_now: list[Tensor | None] = [None if g is None else layout.dense_step(g) for g in grads[n_o:]]
        g_heard = torch.empty_like(heard)
        totals: list[Tensor | None] = [None] * len(want)
        for t in reversed(range(T)):
            g_before = [torch.empty_like(flat[0]) for _ in range(n_s)]
            g_out = [None if g is None else g[t : t + 1] for g in g_outs]
            call = Call(program, flat[t : t + 1], flat.shape[1], [h[t] for h in history], values, 1)
            found = kernel.backward(call, [], g_out, g_now, g_heard[t].view(1, -1), g_before, want)
            totals = [a if b is None else b if a is None else a + b for a, b in zip(found, totals, strict=True)]
            g_before[-1].view(-1, features).addmm_(g_heard[t], w)
            g_now = list(g_before)
        spikes = history[-1].view(-1, features)
        g_weight = (g_heard.view(-1, features).t() @ spikes).to(weight.dtype) if ctx.needs_input_grad[2] else None
        g_states = [
            None if g is None else g.view(s.shape).to(s.dtype) for g, s in zip(g_now, tensors[:n_s], strict=True)
        ]
        given = iter(tensors[n_s:])
        g_params = []
        for scalar, g in zip(spec.scalars, totals, strict=True):
            if scalar is None:
                p = next(given)
                g_params.append(None if g is None else layout.param_grad(g, p.shape).to(p.dtype))
        return (None, g_heard.view(ctx.shape).to(ctx.dtype), g_weight, *g_states, *g_params)


def _history(spec: Spec, heard: Tensor, first: Sequence[Tensor], values: list[Any]) -> list[Tensor]:
    """The memories before each step, ``[T, M]`` each: checkpoints at every step."""
    history = [torch.empty_like(heard) for _ in first]
    for h, s in zip(history, first, strict=True):
        h[0].copy_(s)
    kept = spec.program.n_outputs - spec.program.memory_outputs
    outs = [
        torch.empty_like(heard, dtype=spec.out_dtype if i < kept else spec.memory_dtype)
        for i in range(spec.program.n_outputs)
    ]
    start, lasts = [h[0].clone() for h in history], [torch.empty_like(s) for s in first]
    saved = [h[1:] for h in history]
    call = Call(spec.program, heard, heard.shape[1], start, values, 1)
    backend_module(spec.backend).forward(call, outs, lasts, saved)
    return history
