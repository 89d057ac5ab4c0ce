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
    step, vjp = build.add(program.step), build.add(program.vjp)
    whole = build.build([*step[program.n_outputs :], *[vjp[k] for k in wanted]])
    # Numbers of the whole graph; its first values are those of the step.
    new, outputs = whole.outputs[:n_s], whole.outputs[n_s:]
    uniform = whole.depends_only_on(frozenset(range(1 + n_s, 1 + n_s + len(program.params))))
    of_step = sorted(_needed(whole, new, ()) - uniform - set(range(whole.n_inputs)), reverse=True)
    candidates = [v for v in of_step if not whole.ops[v - whole.n_inputs].is_bool]
    for size in range(1, min(n_s, _MOST_KEPT) + 1):
        for kept in combinations(candidates, size):
            if not _needed(whole, outputs, kept) & set(range(1 + n_s)):
                back = GraphBuilder(whole.n_inputs)
                found = back.add(whole, {value: 1 + j for j, value in enumerate(kept)})
                return Recomputation(prune(whole, [*new, *kept]), back.build(found[n_s:]))
    return None


def _needed(graph: Graph, outputs: Iterable[Ref], given: Sequence[int]) -> set[int]:
    """The values that ``outputs`` follow from, back to the inputs or to values that are given."""
    found = {o for o in outputs if isinstance(o, int)}
    for i in range(len(graph.ops) - 1, -1, -1):
        number = graph.n_inputs + i
        if number in found and number not in given:
            found.update(a for a in graph.ops[i].args if isinstance(a, int))
    return found
