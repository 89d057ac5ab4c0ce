"""Building a graph while simplifying it: constants folded, equal values shared, dead operations dropped."""

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from snn_neurons.program import Graph, Op, Ref, is_constant, made_by

_FOLD: dict[str, Callable[..., float]] = {
    "neg": lambda a: -a,
    "abs": abs,
    "reciprocal": lambda a: 1 / a,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: float(a**b),
    "maximum": max,
    "minimum": min,
}
_COMMUTATIVE = {"add", "mul", "maximum", "minimum", "and", "or", "eq", "ne"}


class GraphBuilder:
    """Collects operations over ``n_inputs`` inputs; ``uniform`` inputs are parameters, the same at every step."""

    def __init__(self, n_inputs: int, uniform: frozenset[int] = frozenset()) -> None:
        self.n_inputs = n_inputs
        self.ops: list[Op] = []
        self._known: dict[Op, Ref] = {}
        self._uniform = set(uniform)

    def __call__(self, name: str, *args: Ref) -> Ref:
        """The value of an operation, new or already there."""
        simple = self._simplify(name, args)
        if simple is not None:
            return simple
        if name in _COMMUTATIVE:
            args = tuple(sorted(args, key=lambda a: (isinstance(a, float), a)))
        op = Op(name, args)
        if op not in self._known:
            self._known[op] = self.n_inputs + len(self.ops)
            self.ops.append(op)
            if all(isinstance(a, float) or a in self._uniform for a in args):
                self._uniform.add(self.n_inputs + len(self.ops) - 1)
        return self._known[op]

    def _negated(self, ref: Ref) -> Ref | None:
        """What ``ref`` is the negative of, where it was made so."""
        op = made_by(self.ops, self.n_inputs, ref, "neg")
        return None if op is None else op.args[0]

    def is_bool(self, ref: Ref) -> bool:
        return isinstance(ref, int) and ref >= self.n_inputs and self.ops[ref - self.n_inputs].is_bool

    def as_float(self, ref: Ref) -> Ref:
        return self("float", ref) if self.is_bool(ref) else ref

    def as_bool(self, ref: Ref) -> Ref:
        return ref if self.is_bool(ref) else self("ne", ref, 0.0)

    def _simplify(self, name: str, args: tuple[Ref, ...]) -> Ref | None:
        if name in _FOLD and all(isinstance(a, float) for a in args):
            try:
                return _FOLD[name](*args)
            except (ArithmeticError, ValueError):
                return None
        a = args[0]
        b = args[1] if len(args) > 1 else None
        if name == "add" and is_constant(b, 0.0):
            return a
        if name == "add" and is_constant(a, 0.0):
            return b
        if name == "add" and b is not None:
            for term, rest in ((a, b), (b, a)):
                negated = self._negated(term)
                if negated is not None:
                    return self("sub", rest, negated)
        if name == "sub" and is_constant(b, 0.0):
            return a
        if name == "sub" and is_constant(a, 0.0) and b is not None:
            return self("neg", b)
        if name == "mul":
            for one, other in ((a, b), (b, a)):
                if isinstance(one, float) and one in (0.0, 1.0):
                    return other if one == 1.0 else 0.0
                if is_constant(one, -1.0) and other is not None:
                    return self("neg", other)
        if name == "div" and b is not None:
            if is_constant(a, 0.0):
                return 0.0
            if isinstance(b, float) and b != 0.0:
                return self("mul", a, 1.0 / b)
            if isinstance(b, int) and b in self._uniform and not (isinstance(a, int) and a in self._uniform):
                # One division for all steps.
                return self("mul", a, self("reciprocal", b))
            if is_constant(a, 1.0):
                return self("reciprocal", b)
        if name == "neg" and self._negated(a) is not None:
            return self._negated(a)
        if name == "where" and args[1] == args[2] and type(args[1]) is type(args[2]):
            return args[1]
        return None

    def add(self, graph: Graph, given: Mapping[int, Ref] = MappingProxyType({})) -> list[Ref]:
        """The outputs of ``graph``, computed here from the same inputs; values of it that are ``given`` are not."""
        values: list[Ref] = [given.get(i, i) for i in range(graph.n_inputs)]
        for number, op in enumerate(graph.ops, graph.n_inputs):
            args = [values[a] if isinstance(a, int) else a for a in op.args]
            values.append(given[number] if number in given else self(op.name, *args))
        return [values[o] if isinstance(o, int) else o for o in graph.outputs]

    def build(self, outputs: Sequence[Ref]) -> Graph:
        """The graph of what the outputs need."""
        return prune(Graph(self.n_inputs, tuple(self.ops), tuple(outputs)), outputs)


def prune(graph: Graph, outputs: Sequence[Ref]) -> Graph:
    """The graph that computes these values of ``graph`` and nothing else."""
    n = graph.n_inputs
    needed = {o for o in outputs if isinstance(o, int)}
    for i in range(len(graph.ops) - 1, -1, -1):
        if n + i in needed:
            needed.update(a for a in graph.ops[i].args if isinstance(a, int))
    number: dict[int, int] = {i: i for i in range(n)}
    kept: list[Op] = []
    for i, op in enumerate(graph.ops):
        if n + i in needed:
            number[n + i] = n + len(kept)
            kept.append(Op(op.name, tuple(number[a] if isinstance(a, int) else a for a in op.args)))
    return Graph(n, tuple(kept), tuple(number[o] if isinstance(o, int) else o for o in outputs))


def narrowed(graph: Graph, uniform: frozenset[int], zero: frozenset[int], outputs: Sequence[int]) -> Graph:
    """The part of a graph that some outputs need when some inputs are zero; the inputs keep their numbers."""
    build = GraphBuilder(graph.n_inputs, uniform)
    results = build.add(graph, dict.fromkeys(zero, 0.0))
    return build.build([results[o] for o in outputs])
