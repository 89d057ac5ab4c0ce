"""What a backward pass computes again of each step, and what of it the vector-Jacobian product then starts from."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations
from typing import NamedTuple

from snn_neurons.builder import GraphBuilder, prune
from snn_neurons.program import Graph, Program, Ref

_MOST_KEPT = 2


class Recomputation(NamedTuple):
    """``again`` gives the new states and the kept values of a step; ``back`` takes these in the places of the states.

    Both have the inputs of ``Program.vjp``; ``back`` does not read x.
    """

    again: Graph
    back: Graph


@cache
def recomputation(program: Program, wanted: tuple[int, ...]) -> Recomputation | None:
    """Values of a step, no more than it has states, from which alone the outputs ``wanted`` of the vjp follow.

    The membrane potential before firing is such a value of most neurons: kept instead of the states, it saves the
    vjp from computing it a second time. ``None`` where there is no such set.
    """
    n_s = len(program.states)
    build = GraphBuilder(program.vjp.n_inputs)
    step, vjp = (_added(build, graph) for graph in (program.step, program.vjp))
    whole = build.build([*step[program.n_outputs :], *[vjp[k] for k in wanted]])
    # Numbers of the whole graph; its first values are those of the step.
    new, outputs = whole.outputs[:n_s], whole.outputs[n_s:]
    uniform = whole.depends_only_on(frozenset(range(1 + n_s, 1 + n_s + len(program.params))))
    of_step = sorted(_needed(whole, new, ()) - uniform - set(range(whole.n_inputs)), reverse=True)
    candidates = [v for v in of_step if not whole.ops[v - whole.n_inputs].is_bool]
    for size in range(1, min(n_s, _MOST_KEPT) + 1):
        for kept in combinations(candidates, size):
            if not _needed(whole, outputs, kept) & set(range(1 + n_s)):
                return Recomputation(prune(whole, [*new, *kept]), _from_kept(whole, outputs, kept))
    return None


def _added(build: GraphBuilder, graph: Graph) -> list[Ref]:
    """The outputs of a graph whose inputs are the first of ``build``, put there."""
    values: list[Ref] = list(range(graph.n_inputs))
    for op in graph.ops:
        values.append(build(op.name, *[values[a] if isinstance(a, int) else a for a in op.args]))
    return [values[o] if isinstance(o, int) else o for o in graph.outputs]


def _needed(graph: Graph, outputs: Iterable[Ref], given: Sequence[int]) -> set[int]:
    """The values that ``outputs`` follow from, back to the inputs or to values that are given."""
    found = {o for o in outputs if isinstance(o, int)}
    for i in range(len(graph.ops) - 1, -1, -1):
        number = graph.n_inputs + i
        if number in found and number not in given:
            found.update(a for a in graph.ops[i].args if isinstance(a, int))
    return found


def _from_kept(graph: Graph, outputs: Sequence[Ref], kept: Sequence[int]) -> Graph:
    """The graph of ``outputs`` with the kept values as the inputs that the states were."""
    build = GraphBuilder(graph.n_inputs)
    values: list[Ref] = list(range(graph.n_inputs))
    for i, op in enumerate(graph.ops):
        number = graph.n_inputs + i
        if number in kept:
            values.append(1 + kept.index(number))
        else:
            values.append(build(op.name, *[values[a] if isinstance(a, int) else a for a in op.args]))
    return build.build([values[o] if isinstance(o, int) else o for o in outputs])
