"""The program of a node, traced once for each way its step can differ."""

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from snn_neurons.program import Program
from snn_neurons.reference import as_outputs, named_tuple_type
from snn_neurons.tracing import trace_program

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode


@dataclasses.dataclass(eq=False)
class Structure:
    """One way a node's step can be, as its attributes say, and what has been found out about it."""

    key: tuple[Any, ...]
    params: tuple[str, ...]  # those that have a value
    programs: dict[bool, Program | Exception] = dataclasses.field(default_factory=dict)
    backends: dict[Any, str] = dataclasses.field(default_factory=dict)


class Seen(NamedTuple):
    """The attributes a node had when its structure was found."""

    step: Any
    attributes: int
    values: list[tuple[str, Any]]
    structure: Structure


def active_params(node: "StepNode") -> tuple[str, ...]:
    """Names of the parameters that have a value."""
    return structure(node).params


def node_program(node: "StepNode", affine: bool = False) -> Program:
    """The program of ``node`` as it is now; with ``affine`` for the input ``x * scale + shift``.

    Raises:
        NotFusableError: the step is not pointwise.
    """
    programs = structure(node).programs
    found = programs.get(affine)
    if found is None:
        try:
            found = _trace(node, affine)
        except Exception as error:
            found = error
        programs[affine] = found
    if isinstance(found, Exception):
        raise found
    return found


def _trace(node: "StepNode", affine: bool) -> Program:
    names = active_params(node)
    state_type = named_tuple_type("State", node.memory_names)
    params_type = named_tuple_type("Params", node.param_names)
    extra = ("input_scale", "input_shift") if affine else ()
    store = node.store_v_seq

    def step(x: Tensor, states: tuple[Tensor, ...], params: tuple[Tensor, ...]) -> Any:
        given = dict(zip((*names, *extra), params, strict=True))
        if affine:
            x = x * given["input_scale"] + given["input_shift"]
        p = params_type(*[given.get(n) for n in node.param_names])
        out, new = node.pointwise_step(x, state_type(*states), p)
        outs = as_outputs(out)
        return (*outs, new.v) if store else outs, tuple(new)

    own = [*node.parameters(), *node.buffers(), *[v for v in node.__dict__.values() if isinstance(v, Tensor)]]
    return trace_program(step, node.memory_names, (*names, *extra), int(store), own)


def structure(node: "StepNode") -> Structure:
    """What the step may depend on besides its arguments: its public attributes, not values of parameters."""
    attributes = node.__dict__
    seen: Seen | None = node._seen
    if seen is not None and seen.step is node.__class__.step and seen.attributes == len(attributes):
        for name, value in seen.values:
            if attributes[name] is not value:
                break
        else:
            return seen.structure
    items: list[Any] = [node.__class__.step]
    values = [(n, v) for n, v in attributes.items() if n[0] != "_" and n not in ("training", "v_seq")]
    for name, value in values:
        if name in node.param_names:
            items.append((name, value is None))
        elif value is None or isinstance(value, bool | int | float | str):
            items.append((name, value))
        elif dataclasses.is_dataclass(value):
            fields = [getattr(value, f.name) for f in dataclasses.fields(value)]
            items.append((name, type(value), *["tensor" if isinstance(f, Tensor) else _key(f) for f in fields]))
        else:
            items.append((name, id(value)))
    key = tuple(items)
    found: Structure | None = node._structures.get(key)
    if found is None:
        found = Structure(key, tuple(n for n in node.param_names if getattr(node, n) is not None))
        node._structures[key] = found
    if all(_is_fixed(value) for _, value in values):
        node._seen = Seen(node.__class__.step, len(attributes), values, found)
    return found


def _is_fixed(value: Any) -> bool:
    """Whether a value stays what it is as long as it is the same object."""
    frozen = getattr(value, "__dataclass_params__", None)
    return frozen.frozen if frozen is not None else not hasattr(value, "__dict__")


def _key(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value
