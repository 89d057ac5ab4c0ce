"""A neuron class from one function."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from snn_neurons.step_node import StepNode

Step = Callable[[Tensor, Any, Any], tuple[Any, Any]]


def neuron(
    *, memories: Mapping[str, float], params: Mapping[str, float | Tensor] | None = None
) -> Callable[[Step], type[StepNode]]:
    """Turn a step function into a neuron class that runs in the fused kernels.

    The function computes ``out, new_state = step(x, state, p)`` in pointwise operations. The class takes the parameters
    and the options of `StepNode` as keywords.

    Args:
        memories: names of the memories and their values after `reset`.
        params: names of the parameters and their default values.

    Example:
        >>> import torch
        >>> from snn_neurons import ATan
        >>> @neuron(memories={"v": 0.0}, params={"decay": 0.5})
        ... def Leaky(x, state, p):
        ...     h = p.decay * state.v + x
        ...     s = ATan()(h - 1.0)
        ...     return s, state._replace(v=h - s)
        >>> Leaky(decay=0.9, step_mode="m")(torch.full((3, 1), 0.6)).flatten()
        tensor([0., 1., 0.])

    Raises:
        ValueError: there is no memory.
    """
    if not memories:
        raise ValueError("memories must name at least one memory, for example memories={'v': 0.0}")
    defaults = dict(params or {})

    def decorate(function: Step) -> type[StepNode]:
        def __init__(self: StepNode, **options: Any) -> None:
            given = {name: options.pop(name, default) for name, default in defaults.items()}
            StepNode.__init__(self, **options)
            for name, value in given.items():
                self.register_param(name, value)
            for name, value in memories.items():
                self.register_memory(name, value)

        def step(self: StepNode, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
            return function(x, state, p)

        body = {
            "__init__": __init__,
            "step": step,
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
        }
        return type(function.__name__, (StepNode,), body)

    return decorate
