"""A network whose layers form a graph: branches, sums and cycles."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from snn_base import MemoryModule, set_step_mode

Edge = tuple[str, str]


class NIRNetwork(MemoryModule):
    """Layers joined by edges: several edges into a layer are summed, and those that close a cycle take one step.

    Without cycles each layer runs over all steps at once; with cycles the network runs step by step.

    Args:
        layers: the modules by name; no name is ``"input"`` or ``"output"``.
        edges: pairs of names, from ``"input"`` to ``"output"``.
        delayed: those of the edges that carry the value of the step before, zeros at the start, with the shape of one
            sample of that value.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: the edges that are not delayed form a cycle, or a layer has no input.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        edges: Sequence[Edge],
        delayed: Mapping[Edge, tuple[int, ...]] | None = None,
        *,
        step_mode: Any = "s",
    ) -> None:
        super().__init__(step_mode)
        self.layers = nn.ModuleDict(dict(layers))
        self.edges = list(edges)
        self.delayed = dict(delayed or {})
        self.drives_children = bool(self.delayed)
        self._order = ordered([e for e in edges if e not in self.delayed], [*layers, "output"])
        now = [edge for edge in edges if edge not in self.delayed]
        self._sources = {name: [a for a, b in now if b == name] for name in self._order}
        self._fed = {source: f"fed_{i}" for i, source in enumerate(dict.fromkeys(a for a, _ in self.delayed))}
        self._late = {name: [self._fed[a] for a, b in self.delayed if b == name] for name in self._order}
        lost = [name for name in self._order if not self._sources[name] and not self._late[name]]
        if lost:
            raise ValueError(f"NIRNetwork: no edge leads to {lost}")
        shapes = {a: shape for (a, _), shape in self.delayed.items()}
        for source, memory in self._fed.items():
            self.register_memory(memory, partial(_zeros, shapes[source]))
        for layer in self.layers.values():
            set_step_mode(layer, "s" if self.drives_children else step_mode)

    def single_step_forward(self, x: Tensor) -> Tensor:
        return self._run(x)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        return super().multi_step_forward(x_seq) if self.delayed else self._run(x_seq)

    def _run(self, x: Tensor) -> Tensor:
        values = {"input": x}
        for name in self._order:
            given = [values[a] for a in self._sources[name]] + [getattr(self, m) for m in self._late[name]]
            total = given[0]
            for value in given[1:]:
                total = total + value
            values[name] = total if name == "output" else self.layers[name](total)
        for source, memory in self._fed.items():
            setattr(self, memory, values[source])
        return values["output"]


def _zeros(shape: tuple[int, ...], x: Tensor) -> Tensor:
    return x.new_zeros(x.shape[0], *shape)


def ordered(edges: Iterable[Edge], names: Iterable[str]) -> list[str]:
    """The names so that every edge leads forward.

    Raises:
        ValueError: the edges form a cycle.
    """
    waiting = {name: {a for a, b in edges if b == name and a != "input"} for name in names}
    found: list[str] = []
    while waiting:
        ready = [name for name, before in waiting.items() if before <= set(found)]
        if not ready:
            raise ValueError(f"NIRNetwork: the edges between {sorted(waiting)} form a cycle without a step in between")
        found += ready
        for name in ready:
            del waiting[name]
    return found


def closing_edges(edges: Sequence[Edge], start: str) -> list[Edge]:
    """The edges that lead back to a node on the way from ``start``, found depth first."""
    after: dict[str, list[str]] = {}
    for a, b in edges:
        after.setdefault(a, []).append(b)
    closing: list[Edge] = []
    done: set[str] = set()
    way = [start]
    pending = [list(after.get(start, []))]
    while way:
        if not pending[-1]:
            done.add(way.pop())
            pending.pop()
            continue
        following = pending[-1].pop(0)
        if following in way:
            closing.append((way[-1], following))
        elif following not in done:
            way.append(following)
            pending.append(list(after.get(following, [])))
    return closing
