"""A sequence as one loop in the compiled graph, so that a compiled net takes any number of steps."""

import functools
import types
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

if TYPE_CHECKING:
    from snn_base.memory_module import MemoryModule


def scan_steps(module: "MemoryModule", x_seq: Tensor) -> Tensor:
    """Repeat ``module.single_step_forward`` over ``x_seq [T, ...]``, ``T >= 1``, while being compiled.

    Unrolled, the loop would be compiled anew for each T. The first step runs on the module itself and shapes its lazy
    memories; the others are the body of a scan, in which a view of the module takes the changes, because the body of
    a scan must not change anything outside it.
    """
    from torch._higher_order_ops.scan import scan

    first = module.single_step_forward(x_seq[0])
    if x_seq.shape[0] == 1:
        alone: Tensor = tree_map(lambda one: one.unsqueeze(0), first)
        return alone

    steps = x_seq.shape[0]

    def body(carry: list[Tensor], x: Tensor) -> tuple[list[Tensor], Tensor]:
        view = _View(module)
        view._set(carry)
        # Inductor sizes the loop's output, T - 1 steps, from what the loop's body knows: so it must know T.
        x = x.expand(steps, *x.shape)[0]
        y = type(module).single_step_forward(view, x)  # type: ignore[arg-type]
        return [m.clone(memory_format=torch.contiguous_format) for m in view._get()], tree_map(torch.clone, y)

    view = _View(module)
    start = [m.clone(memory_format=torch.contiguous_format) for m in view._get()]
    last, rest = scan(body, start, x_seq[1:])
    _store(module, list(last))
    y_seq: Tensor = tree_map(lambda a, b: torch.cat([a.unsqueeze(0), b]), first, rest)
    return y_seq


def _held(module: nn.Module) -> list[str]:
    """Names of the module's own memories that are tensors now."""
    names = getattr(module, "_memory_defaults", {})
    return [name for name in names if isinstance(getattr(module, name), Tensor)]


def _stateful_children(module: nn.Module) -> list[str]:
    return [name for name, child in module._modules.items() if child is not None and _is_stateful(child)]


def _is_stateful(module: nn.Module) -> bool:
    return bool(_held(module)) or bool(_stateful_children(module))


def _store(module: nn.Module, values: list[Tensor]) -> None:
    for name in _held(module):
        setattr(module, name, values.pop(0))
    for name in _stateful_children(module):
        _store(getattr(module, name), values)


class _View:
    """Stands for a module inside the scan: memories are its own, all else is the module's."""

    def __init__(self, module: nn.Module) -> None:
        own: dict[str, Any] = self.__dict__
        own["_module"] = module
        own["_names"] = _held(module)
        own["_children"] = {}
        for name in own["_names"]:
            own[name] = getattr(module, name)
        for name in _stateful_children(module):
            own["_children"][name] = _View(getattr(module, name))

    def _get(self) -> list[Tensor]:
        values = [self.__dict__[name] for name in self._names]
        for child in self._children.values():
            values += child._get()
        return values

    def _set(self, values: list[Tensor]) -> None:
        values = list(values)
        self._take(values)

    def _take(self, values: list[Tensor]) -> None:
        for name in self._names:
            self.__dict__[name] = values.pop(0)
        for child in self._children.values():
            child._take(values)

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["_children"]:
            return self.__dict__["_children"][name]
        module = self.__dict__["_module"]
        method = getattr(type(module), name, None)
        if isinstance(method, types.FunctionType):
            return functools.partial(method, self)
        return getattr(module, name)

    def __call__(self, x: Tensor) -> Tensor:
        module = self.__dict__["_module"]
        if isinstance(module, nn.Sequential):
            for name in module._modules:
                x = getattr(self, name)(x)
            return x
        # Memories were shaped by the first step, so a stateful child needs no more than its step.
        step = "single_step_forward" if hasattr(module, "_memory_defaults") else "forward"
        result: Tensor = getattr(type(module), step)(self, x)
        return result
