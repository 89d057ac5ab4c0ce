"""The specification: a plain loop over the step with ordinary autograd, on any device and in any dtype."""

from collections import namedtuple
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode


@cache
def named_tuple_type(kind: str, names: tuple[str, ...]) -> Callable[..., Any]:
    """The NamedTuple that steps receive, one type per set of names."""
    return namedtuple(kind, names)


def as_outputs(out: Any) -> tuple[Tensor, ...]:
    """The outputs of a step as a tuple, whether it returned one tensor or several."""
    return tuple(out) if isinstance(out, tuple | list) else (out,)


def run_reference(
    node: "StepNode", x_seq: Tensor, state: list[Tensor], params: Any = None
) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
    """Repeat ``node.step`` over ``x_seq [T, N, ...]`` from ``state``.

    Args:
        params: the parameters as `step` takes them; those of the node by default.

    Returns:
        Outputs ``[T, N, ...]``, last state, and ``v`` of every step where the node stores it.
    """
    dtype = node.memory_dtype(x_seq)
    p = node._tensor_params(dtype) if params is None else params
    now = named_tuple_type("State", node.memory_names)(*state)
    steps: list[tuple[Tensor, ...]] = []
    v_steps: list[Tensor] = []
    out_dtype = node._out_dtype(x_seq)
    # One dry step tells the number of outputs when there are none to compute.
    for x in x_seq.unbind(0) if x_seq.shape[0] else (x_seq.new_zeros(x_seq.shape[1:]),):
        out, new = node.step(x.to(dtype), now, p)
        steps.append(tuple(o.to(out_dtype) for o in as_outputs(out)))
        if x_seq.shape[0]:
            now = new
        if node.store_v_seq:
            v_steps.append(new.v)
    T = x_seq.shape[0]
    outs = tuple(torch.stack(o)[:T] for o in zip(*steps, strict=True))
    return outs, list(now), torch.stack(v_steps)[:T] if v_steps else None
