"""The fused loop in plain PyTorch: every device and dtype, no compiler, no graph per step."""

from collections.abc import Sequence

import torch
from torch import Tensor

from snn_neurons.layout import Param, Periodic
from snn_neurons.program import Graph, Program, Ref

_CALLS = {
    "float": None,
    "round": torch.round,
    "not": torch.logical_not,
    "and": torch.logical_and,
    "or": torch.logical_or,
}


def unavailable(x: Tensor) -> str | None:
    """Nothing stands in the way."""
    return None


def checkpoint_every(program: Program, x: Tensor) -> int:
    """Steps between two checkpoints of the state: at most a quarter of a byte per element and step in float32."""
    return 16 * max(1, len(program.states))


def evaluate(graph: Graph, inputs: Sequence[Tensor | float]) -> list[Tensor | float]:
    """The outputs of a graph for tensors that broadcast."""
    values: list[Tensor | float] = list(inputs)
    like = next(i for i in inputs if isinstance(i, Tensor))

    def get(ref: Ref) -> Tensor | float:
        return ref if isinstance(ref, float) else values[ref]

    for op in graph.ops:
        args = [get(a) for a in op.args]
        if op.name == "float":
            result = args[0].to(like.dtype)  # type: ignore[union-attr]
        elif op.name == "where":
            result = torch.where(*args)  # type: ignore[arg-type]
        else:
            tensors = [a if isinstance(a, Tensor) else torch.full((), a, dtype=like.dtype) for a in args]
            name = {"and": "logical_and", "or": "logical_or", "not": "logical_not"}.get(op.name, op.name)
            result = getattr(torch, name)(*tensors)
        values.append(result)
    return [get(o) for o in graph.outputs]


def _values(params: Sequence[Param], neurons: int) -> list[Tensor | float]:
    return [p.full(neurons) if isinstance(p, Periodic) else p for p in params]


def forward(
    program: Program,
    x: Tensor,
    states: list[Tensor],
    params: list[Param],
    outs: list[Tensor],
    lasts: list[Tensor],
    saved: list[Tensor] | None,
    every: int,
) -> None:
    """Run the step over ``x [T, M]``; writes ``outs``, ``lasts`` and the checkpoints ``saved``."""
    values = _values(params, x.shape[1])
    now: list[Tensor | float] = list(states)
    n = program.n_outputs
    dtype = lasts[0].dtype if lasts else torch.promote_types(x.dtype, torch.float32)
    for t in range(x.shape[0]):
        if saved is not None and t and t % every == 0:
            for s, v in zip(saved, now, strict=True):
                s[t // every - 1] = v
        result = evaluate(program.step, [x[t].to(dtype), *now, *values])
        for out, r in zip(outs, result[:n], strict=True):
            out[t] = r
        now = result[n:]
    for last, v in zip(lasts, now, strict=True):
        last.copy_(torch.as_tensor(v))


def backward(
    program: Program,
    x: Tensor,
    states: list[Tensor],
    params: list[Param],
    saved: list[Tensor],
    every: int,
    g_outs: list[Tensor | None],
    g_lasts: list[Tensor | None],
    g_x: Tensor | None,
    g_states: list[Tensor],
    want: list[bool],
) -> list[Tensor | None]:
    """Gradients by recomputing each segment from its checkpoint; writes ``g_x`` and ``g_states``."""
    T, neurons = x.shape
    values = _values(params, neurons)
    dtype = states[0].dtype if states else torch.promote_types(x.dtype, torch.float32)
    zero = torch.zeros(neurons, dtype=dtype, device=x.device)
    grads: list[Tensor | float] = [zero if g is None else g for g in g_lasts]
    totals: list[Tensor] = [zero.clone() if w else zero for w in want]
    n_s, n = len(states), program.n_outputs
    for c in reversed(range(-(-T // every))):
        now: list[Tensor | float] = [s[c - 1] for s in saved] if c else list(states)
        steps = range(c * every, min(T, (c + 1) * every))
        history = []
        for t in steps:
            history.append(now)
            if t != steps[-1]:
                now = evaluate(program.step, [x[t].to(dtype), *now, *values])[n:]
        for t in reversed(steps):
            g_out = [zero if g is None else g[t].to(dtype) for g in g_outs]
            result = evaluate(program.vjp, [x[t].to(dtype), *history.pop(), *values, *g_out, *grads])
            if g_x is not None:
                g_x[t] = result[0]
            grads = result[1 : 1 + n_s]
            for total, g, w in zip(totals, result[1 + n_s :], want, strict=True):
                if w:
                    total += g
    for out, g in zip(g_states, grads, strict=True):
        out.copy_(torch.as_tensor(g))
    return [
        (p.reduce(total) if isinstance(p, Periodic) else total.sum()) if w else None
        for p, total, w in zip(params, totals, want, strict=True)
    ]
