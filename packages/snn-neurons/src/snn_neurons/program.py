"""The traced form of a step and of its backward: two small pointwise graphs that every fused backend prints.

A `Graph` is a list of operations in order. Values are numbered: first the inputs, then one value per operation. An
argument is an ``int`` (the number of a value) or a ``float`` (a constant); so is an output.

Inputs of ``Program.step``:  x, states..., params...              outputs: outs..., new states...
Inputs of ``Program.vjp``:   x, states..., params..., g_outs..., g_states...   outputs: g_x, g_states..., g_params...

``vjp`` takes the states before the step and computes what it needs of the step again. Comparisons and logical
operations give booleans, which only ``where``, ``and``, ``or``, ``not`` and ``float`` take; all else is a float.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

Ref = int | float

UNARY = (
    *("neg", "abs", "sign", "reciprocal", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "sigmoid", "tanh"),
    *("sin", "cos", "erf", "atan", "floor", "ceil", "trunc", "round"),
)
BINARY = ("add", "sub", "mul", "div", "pow", "maximum", "minimum", "fmod")
COMPARE = ("lt", "le", "gt", "ge", "eq", "ne")
LOGICAL = ("and", "or", "not")
OPS = {
    **dict.fromkeys(UNARY, 1),
    **dict.fromkeys(BINARY, 2),
    **dict.fromkeys(COMPARE, 2),
    "and": 2,
    "or": 2,
    "not": 1,
    "where": 3,
    "float": 1,
}


@dataclass(frozen=True, eq=False)
class Op:
    """One pointwise operation: ``round`` rounds half to even, ``where(condition, a, b)``, ``float(boolean)``."""

    name: str
    args: tuple[Ref, ...]

    # To Python the value 2 equals the constant 2.0.
    @cached_property
    def _text(self) -> str:
        return f"{self.name}{self.args}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Op) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @property
    def is_bool(self) -> bool:
        return self.name in COMPARE or self.name in LOGICAL


def made_by(ops: Sequence[Op], n_inputs: int, ref: Ref, *names: str) -> Op | None:
    """The operation that ``ref`` is the result of, where it is one of these names."""
    op = ops[ref - n_inputs] if isinstance(ref, int) and ref >= n_inputs else None
    return op if op is not None and op.name in names else None


def is_constant(ref: Ref | None, constant: float) -> bool:
    """Whether ``ref`` is this constant; the number of a value may equal it."""
    return isinstance(ref, float) and ref == constant


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations over ``n_inputs`` float inputs; operation ``i`` defines value ``n_inputs + i``."""

    n_inputs: int
    ops: tuple[Op, ...]
    outputs: tuple[Ref, ...]

    @cached_property
    def text(self) -> str:
        """The graph as a string, the same for graphs of the same content only."""
        ops = [[op.name, *op.args] for op in self.ops]
        return json.dumps([self.n_inputs, ops, list(self.outputs)], separators=(",", ":"))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def depends_only_on(self, inputs: frozenset[int]) -> frozenset[int]:
        """Values that follow from these inputs (and constants) alone; a kernel computes them once."""
        known = set(inputs)
        for i, op in enumerate(self.ops):
            if all(isinstance(a, float) or a in known for a in op.args):
                known.add(self.n_inputs + i)
        return frozenset(known)


@dataclass(frozen=True, eq=False)
class Program:
    """A neuron's step and its vector-Jacobian product.

    ``memory_outputs`` counts the last outputs that are stored in the dtype of the memories (``v`` of every step)
    and not in that of the spikes.
    """

    states: tuple[str, ...]
    params: tuple[str, ...]
    n_outputs: int
    memory_outputs: int
    step: Graph
    vjp: Graph

    @cached_property
    def text(self) -> str:
        """The program as a string; `program_from_text` reads it in any process."""

        fields = [1, self.states, self.params, self.n_outputs, self.memory_outputs]
        return f"{json.dumps(fields, separators=(',', ':'))[:-1]},{self.step.text},{self.vjp.text}]"

    @cached_property
    def key(self) -> str:
        """A name for this content."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


@cache
def program_from_text(text: str) -> Program:
    """The program that ``Program.text`` wrote.

    Raises:
        ValueError: the text is not a program of this version.
    """
    try:
        version, states, params, n_outputs, memory_outputs, step, vjp = json.loads(text)
        if version != 1:
            raise ValueError(f"version {version}")

        def graph(g: list[list[list[str]]]) -> Graph:
            n, ops, outputs = g
            if any(OPS.get(name) != len(args) for name, *args in ops):
                raise ValueError("an unknown operation")
            return Graph(n, tuple(Op(name, tuple(args)) for name, *args in ops), tuple(outputs))  # type: ignore

        return Program(tuple(states), tuple(params), n_outputs, memory_outputs, graph(step), graph(vjp))
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"not a neuron program of version 1: {error}; {text[:60]!r}") from error
