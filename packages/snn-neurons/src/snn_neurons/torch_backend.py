"""The fused loop in plain PyTorch: every device and dtype, no compiler, no graph per step.

Neurons are taken in blocks that stay in the cache while time passes over them.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from snn_neurons.layout import Param, Periodic
from snn_neurons.program import Graph, Program
from snn_neurons.schedule import Schedule, specialise

_BLOCK = 1 << 15


def unavailable(x: Tensor) -> str | None:
    """Nothing stands in the way."""
    return None


def checkpoint_every(program: Program, x: Tensor) -> int:
    """Steps between two checkpoints: at most a quarter of a byte per element and step in float32."""
    return 16 * max(1, len(program.states))


class _Inputs:
    """Parameters as inputs of a schedule: a float is folded into the graph, a tensor is cut with the block."""

    def __init__(self, program: Program, params: list[Param], dtype: torch.dtype, neurons: int) -> None:
        first = 1 + len(program.states)
        self._step = program.step
        self.constants = tuple((first + j, p) for j, p in enumerate(params) if isinstance(p, float))
        self._values = [
            p.full(neurons) if isinstance(p, Periodic) else torch.zeros((), dtype=dtype) if isinstance(p, float) else p
            for p in params
        ]

        self._scalars = frozenset(first + j for j, v in enumerate(self._values) if v.dim() == 0)

    def block(self, start: int, stop: int) -> list[Tensor]:
        return [v[start:stop] if v.dim() else v for v in self._values]

    def schedule(self, graph: Graph, keep: list[int], size: int, dtype: torch.dtype, device: torch.device) -> Schedule:
        exact = graph is self._step
        return Schedule(specialise(graph, self.constants, tuple(keep), exact), size, dtype, device, self._scalars)


def _blocks(x: Tensor) -> Iterator[tuple[int, int]]:
    size = _BLOCK if x.device.type == "cpu" else x.shape[1]
    for start in range(0, x.shape[1], size):
        yield start, min(start + size, x.shape[1])


def _rows(x: Tensor, start: int, stop: int, dtype: torch.dtype) -> list[Tensor]:
    return list(x[:, start:stop].to(dtype).unbind(0))


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
    T = x.shape[0]
    dtype = lasts[0].dtype if lasts else torch.promote_types(x.dtype, torch.float32)
    inputs = _Inputs(program, params, dtype, x.shape[1])
    keep = list(range(len(program.step.outputs)))
    schedule, size = None, 0
    for start, stop in _blocks(x):
        if schedule is None or size != stop - start:
            size = stop - start
            schedule = inputs.schedule(program.step, keep, size, dtype, x.device)
            spare = [[x.new_empty(size, dtype=dtype) for _ in states] for _ in range(2)]
        values, now = inputs.block(start, stop), [s[start:stop] for s in states]
        rows = [o[:, start:stop].unbind(0) for o in outs]
        for t, row in enumerate(_rows(x, start, stop, dtype)):
            if saved is not None and t and t % every == 0:
                for s, v in zip(saved, now, strict=True):
                    s[t // every - 1, start:stop] = v
            new = [v[start:stop] for v in lasts] if t == T - 1 else spare[t % 2]
            schedule([row, *now, *values], [*[r[t] for r in rows], *new])
            now = new


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
    dtype = states[0].dtype if states else torch.promote_types(x.dtype, torch.float32)
    inputs = _Inputs(program, params, dtype, neurons)
    n_s, n = len(states), program.n_outputs
    wanted = [j for j, w in enumerate(want) if w]
    keep_vjp = [0, *range(1, 1 + n_s), *[1 + n_s + j for j in wanted]]
    totals = {j: x.new_zeros(neurons, dtype=dtype) for j in wanted}
    size = 0
    for start, stop in _blocks(x):
        if size != stop - start:
            size = stop - start
            step = inputs.schedule(program.step, list(range(n, n + n_s)), size, dtype, x.device)
            vjp = inputs.schedule(program.vjp, keep_vjp, size, dtype, x.device)
            history = [[x.new_empty(size, dtype=dtype) for _ in states] for _ in range(min(every, T))]
            spare = [[x.new_empty(size, dtype=dtype) for _ in states] for _ in range(2)]
            part = [x.new_empty(size, dtype=dtype) for _ in wanted]
            zero = x.new_zeros(size, dtype=dtype)
        values = inputs.block(start, stop)
        rows = _rows(x, start, stop, dtype)
        g_rows = [[zero] * T if g is None else _rows(g, start, stop, dtype) for g in g_outs]
        x_rows = [None] * T if g_x is None else list(g_x[:, start:stop].unbind(0))
        grads = [zero if g is None else g[start:stop] for g in g_lasts]
        for c in reversed(range(-(-T // every))):
            steps = range(c * every, min(T, (c + 1) * every))
            for kept, value in zip(history[0], [s[c - 1] for s in saved] if c else states, strict=True):
                kept.copy_(value[start:stop])
            for k, t in enumerate(steps[:-1]):
                step([rows[t], *history[k], *values], history[k + 1])
            for t in reversed(steps):
                new = [g[start:stop] for g in g_states] if t == 0 else spare[t % 2]
                arguments = [rows[t], *history[t - steps[0]], *values, *[g[t] for g in g_rows], *grads]
                vjp(arguments, [x_rows[t], *new, *part])
                grads = new
                for j, p in zip(wanted, part, strict=True):
                    totals[j][start:stop] += p
    return [
        (p.reduce(totals[j]) if isinstance(p, Periodic) else totals[j].sum()) if w else None
        for j, (p, w) in enumerate(zip(params, want, strict=True))
    ]
