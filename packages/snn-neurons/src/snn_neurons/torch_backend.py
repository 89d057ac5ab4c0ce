"""The fused loop in plain PyTorch: every device and dtype, no compiler, no graph per step.

Neurons are taken in blocks that stay in the cache while time passes over them.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from snn_neurons.call import Call
from snn_neurons.layout import Param, Periodic
from snn_neurons.passes import specialise
from snn_neurons.program import Graph, Program
from snn_neurons.recompute import recomputation
from snn_neurons.torch_source import Run, runner

_BLOCK = 1 << 15


def unavailable(x: Tensor) -> str | None:
    """Nothing stands in the way."""
    return None


def checkpoint_every(program: Program, x: Tensor) -> int:
    """Steps between two checkpoints: at most a quarter of a byte per element and step in float32."""
    return 16 * max(1, len(program.states))


class _Inputs:
    """Parameters as inputs of a graph: a float is folded into it, a tensor is cut with the block."""

    def __init__(self, program: Program, params: list[Param], dtype: torch.dtype, neurons: int) -> None:
        first = 1 + len(program.states)
        self._constants = tuple((first + j, p) for j, p in enumerate(params) if isinstance(p, float))
        self._values = [
            p.full(neurons) if isinstance(p, Periodic) else torch.zeros((), dtype=dtype) if isinstance(p, float) else p
            for p in params
        ]
        self._scalars = {first + j: v for j, v in enumerate(self._values) if v.dim() == 0}

    def block(self, start: int, stop: int) -> list[Tensor]:
        return [v[start:stop] if v.dim() else v for v in self._values]

    def runner(self, graph: Graph, keep: Sequence[int], like: Tensor, same_dtype: list[bool], exact: bool) -> Run:
        """Evaluates the outputs ``keep`` over tensors like this one; ``exact`` where states are among them."""
        return runner(specialise(graph, self._constants, tuple(keep), exact), like, self._scalars, same_dtype)


def _blocks(x: Tensor) -> Iterator[tuple[int, int]]:
    size = _BLOCK if x.device.type == "cpu" else x.shape[1]
    for start in range(0, x.shape[1], size):
        yield start, min(start + size, x.shape[1])


def _buffers(like: Tensor, count: int) -> list[Tensor]:
    return [torch.empty_like(like) for _ in range(count)]


def _sequence(x: Tensor) -> Tensor:
    return x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)


def _checkpoints(saved: list[Tensor], neurons: int) -> list[Tensor]:
    return [s.view(-1)[: s.numel() // neurons * neurons].view(-1, neurons) for s in saved]


def _rows(x: Tensor, start: int, stop: int, dtype: torch.dtype) -> list[Tensor]:
    return list(x[:, start:stop].to(dtype).unbind(0))


def forward(call: Call, outs: list[Tensor], lasts: list[Tensor], saved: list[Tensor] | None) -> None:
    """Run all steps; writes ``outs``, ``lasts`` and the checkpoints ``saved``, row after row."""
    program, x, neurons, states, params, every = call
    x, outs = _sequence(x), [_sequence(o) for o in outs]
    states, lasts = [s.view(-1) for s in states], [v.view(-1) for v in lasts]
    saved = saved if saved is None else _checkpoints(saved, neurons)
    T = x.shape[0]
    dtype = lasts[0].dtype if lasts else torch.promote_types(x.dtype, torch.float32)
    inputs = _Inputs(program, params, dtype, neurons)
    keep = list(range(len(program.step.outputs)))
    same_dtype = [o.dtype == dtype for o in (*outs, *lasts)]
    size = 0
    for start, stop in _blocks(x):
        if size != stop - start:
            size = stop - start
            like = x.new_empty(size, dtype=dtype)
            step = inputs.runner(program.step, keep, like, same_dtype, exact=True)
            spare = [_buffers(like, len(states)) for _ in range(2)]
        values, now = inputs.block(start, stop), [s[start:stop] for s in states]
        rows = [o[:, start:stop].unbind(0) for o in outs]
        for t, row in enumerate(_rows(x, start, stop, dtype)):
            if saved is not None and t and t % every == 0:
                for s, v in zip(saved, now, strict=True):
                    s[t // every - 1, start:stop] = v
            new = [v[start:stop] for v in lasts] if t == T - 1 else spare[t % 2]
            step([row, *now, *values], [*[r[t] for r in rows], *new])
            now = new


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
    program, x, neurons, states, params, every = call
    x, g_x = _sequence(x), None if g_x is None else _sequence(g_x)
    g_outs = [None if g is None else _sequence(g) for g in g_outs]
    g_lasts = [None if g is None else g.view(-1) for g in g_lasts]
    states, g_states = [s.view(-1) for s in states], [g.view(-1) for g in g_states]
    saved = _checkpoints(saved, neurons)
    T = x.shape[0]
    dtype = states[0].dtype if states else torch.promote_types(x.dtype, torch.float32)
    inputs = _Inputs(program, params, dtype, neurons)
    n_s, n = len(states), program.n_outputs
    wanted = [j for j, w in enumerate(want) if w]
    keep_vjp = [*([] if g_x is None else [0]), *range(1, 1 + n_s), *[1 + n_s + j for j in wanted]]
    found = recomputation(program, tuple(keep_vjp))
    again, keep = (program.step, range(n, n + n_s)) if found is None else (found.again, range(len(found.again.outputs)))
    back, keep_back = (program.vjp, keep_vjp) if found is None else (found.back, range(len(keep_vjp)))
    same_dtype = [*([] if g_x is None else [g_x.dtype == dtype]), *[True] * (n_s + len(wanted))]
    totals = {j: x.new_zeros(neurons, dtype=dtype) for j in wanted}
    size = 0
    for start, stop in _blocks(x):
        if size != stop - start:
            size = stop - start
            zero = x.new_zeros(size, dtype=dtype)
            step = inputs.runner(again, keep, zero, [True] * len(keep), exact=True)
            vjp = inputs.runner(back, keep_back, zero, same_dtype, exact=False)
            history = [_buffers(zero, n_s) for _ in range(min(every, T))]
            carried, spare = ([_buffers(zero, n_s) for _ in range(2)] for _ in range(2))
            part = _buffers(zero, len(wanted))
        values = inputs.block(start, stop)
        x_rows = _rows(x, start, stop, dtype)
        g_rows = [[zero] * T if g is None else _rows(g, start, stop, dtype) for g in g_outs]
        g_x_rows = [] if g_x is None else g_x[:, start:stop].unbind(0)
        grads = [zero if g is None else g[start:stop] for g in g_lasts]
        for c in reversed(range(-(-T // every))):
            steps = range(c * every, min(T, (c + 1) * every))
            now = [v[start:stop] for v in ([s[c - 1] for s in saved] if c else states)]
            if found is None:
                for kept, value in zip(history[0], now, strict=True):
                    kept.copy_(value)
                for k, t in enumerate(steps[:-1]):
                    step([x_rows[t], *history[k], *values], history[k + 1])
            else:
                for k, t in enumerate(steps):
                    step([x_rows[t], *now, *values], [*carried[k % 2], *history[k][: len(keep) - n_s]])
                    now = carried[k % 2]
            for t in reversed(steps):
                new = [g[start:stop] for g in g_states] if t == 0 else spare[t % 2]
                arguments = [x_rows[t], *history[t - steps[0]], *values, *[g[t] for g in g_rows], *grads]
                vjp(arguments, [*g_x_rows[t : t + 1], *new, *part])
                grads = new
                for j, p in zip(wanted, part, strict=True):
                    totals[j][start:stop] += p
    return [
        (p.reduce(totals[j]) if isinstance(p, Periodic) else totals[j].sum()) if w else None
        for j, (p, w) in enumerate(zip(params, want, strict=True))
    ]
