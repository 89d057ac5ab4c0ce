"""What is done to all memories of a net at once: reset, detach, modes, naming."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from snn_base.memory_module import MemoryModule, MemoryValue
from snn_base.step_module import StepMode, StepModule


def memory_modules(net: nn.Module) -> Iterator[tuple[str, MemoryModule]]:
    """Yield every `MemoryModule` of ``net`` with its qualified name; the list is made anew at each call."""
    for name, module in net.named_modules():
        if isinstance(module, MemoryModule):
            yield name, module


def reset_net(net: nn.Module, mask: Tensor | None = None) -> None:
    """Reset all memories of ``net``: call it before a new, unrelated sequence.

    Args:
        net: any module.
        mask: boolean ``[N]``; only samples where it is true are reset (ragged sequences, reinforcement learning).

    Raises:
        TypeError, ValueError: see `MemoryModule.reset`; no memory of the net has changed then.
    """
    modules = [module for _, module in memory_modules(net)]
    if mask is not None:
        for module in modules:
            module.check_mask(mask)
    for module in modules:
        module.reset(mask)


def detach_net(net: nn.Module) -> None:
    """Detach all memories of ``net`` from the graph of the past: truncated backpropagation through time."""
    for _, module in memory_modules(net):
        module.detach()


def set_step_mode(net: nn.Module, step_mode: StepMode) -> None:
    """Set the step mode of every `StepModule` of ``net``.

    Modules inside a container that drives them step by step declare it with ``drives_children = True`` and keep theirs.

    Raises:
        ValueError: ``step_mode`` is neither ``"s"`` nor ``"m"``.
    """
    if isinstance(net, StepModule):
        net.step_mode = step_mode
    if getattr(net, "drives_children", False):
        return
    for child in net.children():
        set_step_mode(child, step_mode)


def set_backend(net: nn.Module, backend: str, of: type[nn.Module] = MemoryModule) -> None:
    """Set ``backend`` on every module of ``net`` that has one and is an instance of ``of``.

    Raises:
        ValueError: a module does not know the backend; no module has changed then.
    """
    changed: list[tuple[Any, str]] = []
    for module in net.modules():
        if isinstance(module, of) and hasattr(module, "backend"):
            changed.append((module, module.backend))  # type: ignore[arg-type]
            try:
                module.backend = backend  # type: ignore[assignment]
            except ValueError:
                for earlier, before in changed[:-1]:
                    earlier.backend = before
                raise


def named_memories(net: nn.Module) -> Iterator[tuple[str, MemoryValue]]:
    """Yield ``(qualified name, value)`` of every memory of ``net``, for example ``("1.v", tensor)``."""
    for prefix, module in memory_modules(net):
        for name, value in module.memories.items():
            yield f"{prefix}.{name}" if prefix else name, value


MemoryState = dict[str, dict[str, Any]]


def memory_state(net: nn.Module) -> MemoryState:
    """Return all memories as ``{module name: {memory name: value}}``, a plain dict that ``torch.save`` takes.

    Tensors are shared, not copied: memories are never changed in place. They keep their graph.
    """
    return {prefix: dict(module.memories) for prefix, module in memory_modules(net)}


def load_memory_state(net: nn.Module, state: MemoryState) -> None:
    """Give the memories of ``net`` the values of ``state``, as `memory_state` returned it.

    Raises:
        KeyError: ``state`` names a module or memory that ``net`` does not have, or lacks one; nothing is loaded then.
        TypeError: ``state`` is no nested dict, or a value is neither a tensor, a float nor ``None``.
    """
    if not (isinstance(state, Mapping) and all(isinstance(memories, Mapping) for memories in state.values())):
        raise TypeError(
            "load_memory_state: state must be {module name: {memory name: value}} as memory_state returns it, "
            f"got {state!r:.200}"
        )
    modules = dict(memory_modules(net))
    expected = {(prefix, name) for prefix, module in modules.items() for name in module.memory_names}
    given = {(prefix, name) for prefix, memories in state.items() for name in memories}
    if expected != given:
        raise KeyError(
            f"load_memory_state: unknown memories {_joined(given - expected)}, missing memories "
            f"{_joined(expected - given)}; the state must come from memory_state of an equal net"
        )
    for prefix, memories in state.items():
        for name, value in memories.items():
            if not (value is None or isinstance(value, float | Tensor)):
                raise TypeError(f"load_memory_state: {prefix}.{name} must be a tensor, a float or None, got {value!r}")
    for prefix, memories in state.items():
        modules[prefix].set_memories(memories)


def _joined(keys: set[tuple[str, str]]) -> list[str]:
    return sorted(f"{prefix}.{name}" if prefix else name for prefix, name in keys)
