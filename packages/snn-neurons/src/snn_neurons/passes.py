"""A graph rewritten for functions that cost a pass over memory each, as PyTorch's do: fewer of them."""

import functools
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from snn_neurons.builder import GraphBuilder, prune
from snn_neurons.program import COMPARE, Graph, Op, Ref, is_constant, made_by

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
    return merge(build.build([outputs[k] for k in keep]), exact)


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
