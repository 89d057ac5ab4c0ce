"""Containers that decide how time runs through the modules inside them."""

from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from snn_base import StepModule, set_step_mode
from snn_layers import _check
from snn_layers._fold import first_tensor, folded_call, map_tensors
from snn_layers.stepwise import refuse_stateful


class MultiStep(StepModule):
    """Runs its modules once per time step: ``y[t] = module(x[t])``.

    For modules that know single steps only. Step modules inside are set to ``"s"`` and stay so.

    Args:
        modules: run one after the other at each step.
        step_mode: ``"m"`` loops over the first dim; ``"s"`` passes one step on. Inputs and outputs may be tuples,
            lists or dicts of tensors.

    Raises:
        ValueError: a sequence of no steps, whose output cannot be known, or inputs of different lengths.
    """

    drives_children = True

    def __init__(self, *modules: nn.Module, step_mode: str = "m") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.module = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        set_step_mode(self.module, "s")

    def forward(self, *args: Any) -> Any:
        if self.step_mode == "s":
            return self.module(*args)
        first = first_tensor(args)
        if first is None or first.dim() < 2 or first.shape[0] == 0:
            shape = None if first is None else tuple(first.shape)
            raise ValueError(f"MultiStep: x must have shape [T, N, ...] with T of at least 1, got shape {shape}")
        steps = first.shape[0]

        def length(x: Tensor) -> None:
            if x.shape[0] != steps:
                raise ValueError(f"MultiStep: x must have {steps} steps like its first tensor, got {tuple(x.shape)}")

        map_tensors(length, args)
        return _stack([self.module(*map_tensors(itemgetter(t), args)) for t in range(steps)])


def _stack(outputs: list[Any]) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.stack(outputs)
    if isinstance(first, dict):
        return {key: _stack([y[key] for y in outputs]) for key in first}
    items = [_stack([y[i] for y in outputs]) for i in range(len(first))]
    if hasattr(first, "_fields"):
        return type(first)(*items)
    return tuple(items) if isinstance(first, tuple) else items


class TimeFold(StepModule):
    """Runs stateless modules on all time steps at once: ``[T, N, ...]`` is folded to ``[T * N, ...]`` and back.

    Args:
        modules: run one after the other; step modules inside are set to ``"s"`` and stay so.
        step_mode: ``"m"`` folds; ``"s"`` passes one step on. Inputs and outputs may be tuples, lists or dicts of
            tensors; a tuple returned by one module is the one argument of the next.

    Raises:
        ValueError: a module inside is stateful (named), or an output does not keep the batch as first dim.
    """

    drives_children = True

    def __init__(self, *modules: nn.Module, step_mode: str = "m") -> None:
        super().__init__()
        self.step_mode = step_mode
        self.module = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
        set_step_mode(self.module, "s")
        refuse_stateful(self.module, "TimeFold")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        refuse_stateful(self.module, "TimeFold")  # a stateful module may have been put in since
        if self.step_mode == "s":
            return self.module(*args, **kwargs)
        return folded_call(self, self.module, args, kwargs, "TimeFold")


class SpikingSequential(nn.Sequential, StepModule):
    """A sequence of layers, stateful and stateless mixed, run layer by layer or step by step with equal results.

    In ``step_mode="m"`` stateless torch modules get time folded into the batch; all others get ``[T, N, ...]``.
    ``order="layer"`` runs each layer over all steps before the next one: fastest. ``order="step"`` takes ``chunk``
    steps through all layers before the next ones: intermediate sequences are then ``chunk`` steps long. The orders
    agree unless a layer mixes time steps without a memory, as batch statistics in training do.

    Args:
        layers: any modules; those with a step mode are set to ``step_mode``.
        order: ``"layer"`` or ``"step"``.
        chunk: steps taken at once in the order ``"step"``.

    Raises:
        ValueError: an unknown order, a chunk below 1.
    """

    def __init__(self, *layers: nn.Module, order: str = "layer", chunk: int = 1, step_mode: str = "s") -> None:
        nn.Sequential.__init__(self, *layers)
        self.order: str = _check.one_of("SpikingSequential", "order", order, ("layer", "step"))
        self.chunk = _check.positive_int("SpikingSequential", "chunk", chunk)
        self.step_mode = step_mode
        for layer in layers:
            set_step_mode(layer, self.step_mode)

    def forward(self, input: Any) -> Any:
        if self.step_mode == "s":
            return super().forward(input)
        first = first_tensor(input)
        if first is None or first.dim() < 2:
            shape = None if first is None else tuple(first.shape)
            raise ValueError(f"SpikingSequential in step_mode='m': x must have shape [T, N, ...], got shape {shape}")
        steps = first.shape[0]
        if self.order == "layer" or steps <= self.chunk:
            return _run(self, input)
        parts = []
        for start in range(0, steps, self.chunk):
            piece = map_tensors(itemgetter(slice(start, start + self.chunk)), input)
            parts.append(_run(self, piece))
        return _concatenate(parts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            part = SpikingSequential(order=self.order, chunk=self.chunk, step_mode=self.step_mode)
            for name, layer in list(self._modules.items())[index]:
                part.add_module(name, layer)
            return part
        return super().__getitem__(index)

    def extra_repr(self) -> str:
        chunk = f", chunk={self.chunk}" if self.order == "step" else ""
        return f"order={self.order!r}{chunk}, step_mode={self.step_mode!r}"


def _run(layers: nn.Sequential, x: Any) -> Any:
    for layer in layers:
        if isinstance(layer, StepModule):
            x = layer(x)
        elif not any(isinstance(m, StepModule) for m in layer.modules()):
            x = folded_call(layer, layer, (x,), {}, f"SpikingSequential: {type(layer).__name__}")
        elif isinstance(layer, nn.Sequential):
            x = _run(layer, x)
        else:
            x = layer(x)  # a net of step modules: it passes sequences on itself
    return x


def _concatenate(parts: list[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], dict):
        return {key: _concatenate([p[key] for p in parts]) for key in parts[0]}
    items = [_concatenate([p[i] for p in parts]) for i in range(len(parts[0]))]
    if hasattr(parts[0], "_fields"):
        return type(parts[0])(*items)
    return tuple(items) if isinstance(parts[0], tuple) else items
