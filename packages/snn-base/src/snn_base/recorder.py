"""Recording memories and outputs of chosen modules over time."""

import fnmatch
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from snn_base.memory_module import MemoryModule


class Recorder:
    """Record what modules of a net put out, and what their memories are, each time they run.

    Patterns are shell-style and match ``"<module name>"`` for outputs and ``"<module name>.<memory>"`` for memories.
    In step mode ``"s"`` each call adds one step; in ``"m"`` a call adds its T steps of outputs, and of a memory the
    value after the last step (a neuron with ``store_v_seq=True`` offers every step as ``v_seq``).

    Args:
        net: the net to watch.
        outputs: pattern or patterns of module names whose outputs are recorded.
        memories: pattern or patterns of memory names, for example ``"*.v"``.
        device: where records are kept; ``None`` keeps them where they are made.

    Raises:
        ValueError: a pattern matches nothing.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 2))
        >>> with Recorder(net, outputs="0") as record:
        ...     y = net(torch.ones(4, 3))
        >>> record["0"].shape
        torch.Size([1, 4, 2])
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        outputs: str | Sequence[str] = (),
        memories: str | Sequence[str] = (),
        device: torch.device | str | None = None,
    ) -> None:
        self._device = device
        self._records: dict[str, list[Tensor]] = {}
        self._watched: list[tuple[str, nn.Module, bool, list[str]]] = []
        self._handles: list[RemovableHandle] = []
        wanted = {"outputs": _patterns(outputs), "memories": _patterns(memories)}
        matched: set[tuple[str, str]] = set()
        for name, module in net.named_modules():
            output = _matching(name, wanted["outputs"])
            matched |= {("outputs", pattern) for pattern in output}
            kept = []
            for memory in (*module.memory_names, *_sequences(module)) if isinstance(module, MemoryModule) else ():
                full = f"{name}.{memory}" if name else memory
                found = _matching(full, wanted["memories"])
                matched |= {("memories", pattern) for pattern in found}
                if found:
                    kept.append(memory)
            if output or kept:
                self._watched.append((name, module, bool(output), kept))
        for kind, patterns in wanted.items():
            for pattern in patterns:
                if (kind, pattern) not in matched:
                    raise ValueError(f"Recorder: {kind}={pattern!r} matches nothing in {type(net).__name__}")

    def __enter__(self) -> "Recorder":
        for name, module, output, kept in self._watched:
            self._handles.append(module.register_forward_hook(self._hook(name, output, kept)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, name: str, output: bool, kept: list[str]) -> Any:
        def record(module: nn.Module, args: tuple[Any, ...], y: Any) -> None:
            multi = getattr(module, "step_mode", "s") == "m"
            if output and isinstance(y, Tensor):
                self._add(name, y if multi else y.unsqueeze(0))
            for memory in kept:
                value = getattr(module, memory)
                if isinstance(value, Tensor):
                    whole = multi and memory in _sequences(module)
                    self._add(f"{name}.{memory}" if name else memory, value if whole else value.unsqueeze(0))

        return record

    def _add(self, name: str, value: Tensor) -> None:
        value = value.detach()
        self._records.setdefault(name, []).append(value if self._device is None else value.to(self._device))

    def __getitem__(self, name: str) -> Tensor:
        """The record ``[T, ...]`` of one name; raises `KeyError` with the names there are."""
        if name not in self._records:
            raise KeyError(f"Recorder: nothing recorded under {name!r}; there is {sorted(self._records)}")
        return torch.cat(self._records[name])

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def names(self) -> list[str]:
        """Names under which something was recorded."""
        return list(self._records)

    def clear(self) -> None:
        """Forget all records."""
        self._records.clear()


def _patterns(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _matching(name: str, patterns: list[str]) -> list[str]:
    return [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]


def _sequences(module: nn.Module) -> tuple[str, ...]:
    """Names under which a module offers a memory of every step."""
    return ("v_seq",) if getattr(module, "store_v_seq", False) else ()
