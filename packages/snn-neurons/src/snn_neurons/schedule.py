"""A graph as calls of PyTorch functions that write into buffers made once."""

import functools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from snn_neurons.builder import GraphBuilder, prune
from snn_neurons.program import COMPARE, Graph, Op, Ref, is_constant, made_by

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": torch.logical_and,
    "or": torch.logical_or,
    "not": torch.logical_not,
    **{f"float_{name}": getattr(torch, name) for name in COMPARE},  # into a buffer of floats
}
# Their last argument is a number: a + alpha b, a + alpha b c, a + alpha b / c.
_SCALED = {
    "add_scaled": lambda alpha: functools.partial(torch.add, alpha=alpha),
    "add_product": lambda alpha: functools.partial(torch.addcmul, value=alpha),
    "add_quotient": lambda alpha: functools.partial(torch.addcdiv, value=alpha),
}
_OPPOSITE = {"ge": "lt", "gt": "le", "le": "gt", "lt": "ge", "eq": "ne", "ne": "eq"}


@lru_cache(maxsize=256)
def specialise(graph: Graph, constants: tuple[tuple[int, float], ...], keep: tuple[int, ...], exact: bool) -> Graph:
    """The outputs ``keep`` of a graph with some inputs constant, simplified for functions that cost a pass each.

    Args:
        exact: outputs, such as a state, decide spikes of later steps; see `merge`.
    """
    fixed = dict(constants)
    build = GraphBuilder(graph.n_inputs)
    values: list[Ref] = [fixed.get(i, i) for i in range(graph.n_inputs)]
    for op in graph.ops:
        args = [a if isinstance(a, float) else values[a] for a in op.args]
        if op.name in ("ge", "gt", "le", "lt") and is_constant(args[1], 0.0):
            difference = made_by(build.ops, build.n_inputs, args[0], "sub")
            if difference is not None:
                args = list(difference.args)  # h - theta >= 0 as h >= theta
        values.append(build(op.name, *args))
    outputs = [o if isinstance(o, float) else values[o] for o in graph.outputs]
    return merge(prune(build.build(outputs), [build.build(outputs).outputs[k] for k in keep]), exact)


def merge(graph: Graph, exact: bool) -> Graph:
    """The same graph in fewer passes: a comparison written as a float, a product or quotient added in one call.

    PyTorch's calls for ``a + b * c`` round once instead of twice. A spike must come out the same whether a step is run
    alone, in a sequence or again for the backward pass, so a value that decides one keeps both roundings, unless ``c``
    is a power of two, where there is nothing to round.

    Args:
        exact: the outputs decide spikes too.
    """
    n, deciding = graph.n_inputs, _deciding(graph, graph.outputs if exact else ())
    refs = [*[a for op in graph.ops for a in op.args], *graph.outputs]
    uses: Counter[Ref] = Counter(a for a in refs if isinstance(a, int))
    ops = list(graph.ops)

    made = functools.partial(made_by, graph.ops, n)

    def scaled(product: Op) -> tuple[list[Ref], float]:
        """The factors of a product without the constants that are multiplied into them for nothing else."""
        factors = list(product.args)
        alpha = 1.0
        for k, ref in enumerate(product.args):
            op = made(ref, "mul")
            if op is not None and isinstance(op.args[1], float) and uses[ref] == product.args.count(ref):
                factors[k], alpha = op.args[0], alpha * op.args[1]
        return factors, alpha

    for i, op in enumerate(graph.ops):
        if op.name == "float" and (comparison := made(op.args[0], *COMPARE)):
            ops[i] = Op(f"float_{comparison.name}", comparison.args)
        flag = made(op.args[1], "float") if op.name == "sub" and is_constant(op.args[0], 1.0) else None
        if flag and uses[op.args[1]] == 1 and (comparison := made(flag.args[0], *COMPARE)):
            ops[i] = Op(f"float_{_OPPOSITE[comparison.name]}", comparison.args)
        if op.name not in ("add", "sub") or ops[i] is not op:
            continue
        sign = 1.0 if op.name == "add" else -1.0
        for other, k in ((0, 1), (1, 0)) if op.name == "add" else ((0, 1),):
            product = made(op.args[k], "mul")
            if product is None or uses[op.args[k]] != 1:
                continue
            rest, (b, c) = op.args[other], product.args
            if isinstance(c, float):
                if n + i not in deciding or math.frexp(c)[0] in (0.5, -0.5):
                    ops[i] = Op("add_scaled", (rest, b, sign * c))
                    break
            elif n + i not in deciding:
                (b, c), alpha = scaled(product)
                ops[i] = Op("add_product", (rest, b, c, sign * alpha))
                for above, below in ((b, c), (c, b)):
                    inverse = made(below, "reciprocal")
                    if inverse is not None and uses[below] == 1:
                        ops[i] = Op("add_quotient", (rest, above, inverse.args[0], sign * alpha))
                break
    return prune(Graph(n, tuple(ops), graph.outputs), graph.outputs)


def _deciding(graph: Graph, outputs: Sequence[Ref]) -> set[int]:
    """Values that a step function of the graph follows from, or one of ``outputs``."""
    found = {o for o in outputs if isinstance(o, int)}
    for i in range(len(graph.ops) - 1, -1, -1):
        op = graph.ops[i]
        if graph.n_inputs + i in found or op.name in (*COMPARE, "floor", "ceil", "trunc", "round", "sign", "fmod"):
            found.update(a for a in op.args if isinstance(a, int))
    return found


class Schedule:
    """Evaluates a graph over tensors of one size again and again without allocating; ``scalars`` are 0-dim inputs."""

    def __init__(
        self, graph: Graph, size: int, dtype: torch.dtype, device: torch.device, scalars: frozenset[int] = frozenset()
    ) -> None:
        self.graph = graph
        self._constants: dict[float, Tensor] = {}
        self._dtype = dtype
        uses = [0] * (graph.n_inputs + len(graph.ops))
        for op in graph.ops:
            for a in op.args:
                if isinstance(a, int):
                    uses[a] += 1
        for o in graph.outputs:
            if isinstance(o, int):
                uses[o] += 2  # never given up
        alone = graph.depends_only_on(scalars)
        self._results: dict[int, int] = {}
        for k, o in enumerate(graph.outputs):
            if isinstance(o, int) and o >= graph.n_inputs and o not in alone and o not in self._results:
                self._results[o] = k
        free: dict[bool, list[Tensor]] = {True: [], False: []}
        held: dict[int, Tensor] = {}
        left = list(uses)
        self._values: list[Any] = [None] * len(uses)
        self._calls: list[tuple[Any, tuple[Any, ...], int, Tensor]] = []
        for i, op in enumerate(graph.ops):
            number = graph.n_inputs + i
            kind = op.is_bool
            if number in alone:
                buffer = torch.empty((), dtype=torch.bool if kind else dtype, device=device)
                left[number] += 1  # never reused as a buffer of a whole block
            elif free[kind]:
                buffer = free[kind].pop()
            else:
                buffer = torch.empty(size, dtype=torch.bool if kind else dtype, device=device)
            refs: tuple[Ref, ...] = op.args
            function: Callable[..., Any] | None = None
            if op.name in _SCALED:
                refs, function = op.args[:-1], _SCALED[op.name](op.args[-1])
            elif op.name != "float":
                function = _FUNCTIONS.get(op.name) or getattr(torch, op.name)
            args = tuple(a if isinstance(a, int) else self._constant(a) for a in refs)
            self._calls.append((function, args, number, buffer))
            held[number] = buffer
            for a in {a for a in op.args if isinstance(a, int)}:
                left[a] -= sum(1 for b in op.args if b == a and isinstance(b, int))
                if left[a] == 0 and a in held:
                    free[held[a].dtype == torch.bool].append(held.pop(a))
            if left[number] == 0:
                free[kind].append(held.pop(number))

    def _constant(self, value: float) -> Tensor:
        if value not in self._constants:
            self._constants[value] = torch.full((), value, dtype=self._dtype)
        return self._constants[value]

    def __call__(self, inputs: Sequence[Tensor], targets: Sequence[Tensor | None]) -> None:
        """Evaluate; output ``k`` goes to ``targets[k]``, or nowhere where that is ``None``."""
        values = self._values
        values[: len(inputs)] = inputs
        results = self._results
        for function, args, number, buffer in self._calls:
            k = results.get(number)
            if k is not None:
                target = targets[k]
                if target is not None and target.dtype == buffer.dtype:
                    buffer = target
            given = [values[a] if a.__class__ is int else a for a in args]
            if function is None:
                buffer.copy_(given[0])
            else:
                function(*given, out=buffer)
            values[number] = buffer
        for k, o in enumerate(self.graph.outputs):
            target = targets[k]
            if target is None:
                continue
            if isinstance(o, float):
                target.fill_(o)
            elif values[o] is not target:
                target.copy_(values[o])
