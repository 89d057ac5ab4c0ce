"""Prints a graph as Python that calls PyTorch's functions on buffers made once."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snn_neurons.program import Graph, Op

_LOGICAL = {"and": "logical_and", "or": "logical_or", "not": "logical_not"}
# Their last argument is a number: a + alpha b, a + alpha b c, a + alpha b / c.
_SCALED = {"add_scaled": ("add", "alpha"), "add_product": ("addcmul", "value"), "add_quotient": ("addcdiv", "value")}

_TEMPLATE = """
def bind(buffers, constants, scalars, dtype):
    [{buffers}] = buffers
    [{constants}] = constants
    {once}
    def run(inputs, targets):
        {inputs}
        [{targets}] = targets
        {lines}
    return run
"""

Run = Callable[[Sequence[Tensor], Sequence[Tensor]], None]


def runner(graph: Graph, like: Tensor, scalars: Mapping[int, Tensor], same_dtype: Sequence[bool]) -> Run:
    """A function that evaluates ``graph`` over tensors of the size, dtype and device of ``like``, again and again.

    It is called with the inputs and with the tensors to write the outputs into, and allocates nothing.

    Args:
        scalars: inputs that are 0-dim and the same in every call; what follows from them alone is computed here.
        same_dtype: which outputs are written into tensors of the dtype of ``like``.
    """
    printed = _print(graph, frozenset(scalars), tuple(same_dtype))
    buffers = [torch.empty_like(like, dtype=torch.bool if is_bool else None) for is_bool in printed.buffers]
    constants = [_constant(value, like.dtype) for value in printed.constants]
    run: Run = printed.bind(buffers, constants, scalars, like.dtype)
    return run


@lru_cache(maxsize=1024)
def _constant(value: float, dtype: torch.dtype) -> Tensor:
    return torch.full((), value, dtype=dtype, device="cpu")


class _Printed(NamedTuple):
    bind: Callable[..., Run]
    buffers: tuple[bool, ...]  # whether each holds booleans
    constants: tuple[float, ...]


@lru_cache(maxsize=256)
def _print(graph: Graph, scalars: frozenset[int], same_dtype: tuple[bool, ...]) -> _Printed:
    n, uniform = graph.n_inputs, graph.depends_only_on(scalars)
    outputs = [o for o in graph.outputs if isinstance(o, int)]
    names = {i: f"a{i}" for i in range(n)}
    targets: dict[int, str] = {}  # values that are made where an output goes
    for k, o in enumerate(graph.outputs):
        if isinstance(o, int) and o >= n and o not in uniform and same_dtype[k]:
            targets.setdefault(o, f"t{k}")
    uses = Counter([a for op in graph.ops for a in _values(op)] + outputs)
    used = set(uses)
    buffers: list[bool] = []
    free: dict[bool, list[str]] = {True: [], False: []}
    constants: dict[str, str] = {}  # by their text: 0.0 equals -0.0
    scope: dict[str, Any] = {"inf": math.inf, "nan": math.nan}
    once, lines = [f"a{i} = scalars[{i}]" for i in sorted(scalars)], []
    for i, op in enumerate(graph.ops):
        number = n + i
        args = [names[a] if isinstance(a, int) else a for a in op.args]
        if op.name in _SCALED:
            function, factor = _SCALED[op.name]
            args[-1] = f"{factor}={args[-1]!r}"
        else:
            function = _LOGICAL.get(op.name, op.name.removeprefix("float_"))
        words = [a if isinstance(a, str) else constants.setdefault(repr(a), f"c{len(constants)}") for a in args]
        called = ", ".join(words)
        if op.name != "float":
            scope[function] = getattr(torch, function)
        if number in uniform:
            names[number] = f"u{number}"
            value = called if op.name == "float" else f"{function}({called})"
            once.append(f"u{number} = {value}" + ("" if op.is_bool else ".to(dtype)"))
            continue
        # Elementwise functions may write over what they read, so a buffer is free at the last use of its value.
        uses.subtract(_values(op))
        for a in sorted(set(_values(op))):
            if uses[a] == 0 and names[a].startswith("b"):
                free[graph.ops[a - n].is_bool].append(names[a])
        if number in targets:
            names[number] = targets[number]
        elif free[op.is_bool]:
            names[number] = free[op.is_bool].pop()
        else:
            names[number] = f"b{len(buffers)}"
            buffers.append(op.is_bool)
        name = names[number]
        lines.append(f"{name}.copy_({called})" if op.name == "float" else f"{function}({called}, out={name})")
    for k, o in enumerate(graph.outputs):
        if isinstance(o, float):
            lines.append(f"t{k}.fill_({o!r})")
        elif names[o] != f"t{k}":
            lines.append(f"t{k}.copy_({names[o]})")
    inputs = [f"a{i} = inputs[{i}]" for i in range(n) if i in used and i not in scalars]
    text = _TEMPLATE.format(
        buffers=", ".join(f"b{i}" for i in range(len(buffers))),
        constants=", ".join(constants.values()),
        once="; ".join(once) or "pass",
        inputs="; ".join(inputs) or "pass",
        targets=", ".join(f"t{k}" for k in range(len(graph.outputs))),
        lines="; ".join(lines) or "pass",
    )
    exec(text, scope)
    return _Printed(scope["bind"], tuple(buffers), tuple(map(float, constants)))


def _values(op: Op) -> list[int]:
    return [a for a in op.args if isinstance(a, int)]
