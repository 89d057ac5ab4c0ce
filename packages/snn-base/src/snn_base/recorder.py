"""Recording memories and outputs of chosen modules over time."""

import fnmatch
from collections.abc import Iterator, Sequence
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
    value after the last step (a neuron with ``store_v_seq=True`` offers every step as ``v_seq``). A module without a
    step mode adds one entry per call. Outputs of a tuple or list are recorded as ``"<module name>[0]"`` and so on; a
    module that the net holds under several names is recorded under the first that matches. What an activation
    checkpoint runs again in the backward pass is not recorded again.

    Args:
        net: the net to watch.
        outputs: pattern or patterns of module names whose outputs are recorded.
        memories: pattern or patterns of memory names, for example ``"*.v"``.
        device: where records are kept; ``None`` keeps them where they are made.

    Raises:
        ValueError: a pattern matches nothing.
        RuntimeError: the recorder is entered while it is recording.

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
        self._handles: list[RemovableHandle] = []
        self._net = net
        self._wanted = {"outputs": _patterns(outputs), "memories": _patterns(memories)}
        self._watched()  # a pattern that matches nothing shows here and not later

    def _watched(self) -> list[tuple[nn.Module, str | None, dict[str, str]]]:
        """Each module to watch, the name of its output if wanted, and the full names of its memories wanted."""
        outputs: dict[nn.Module, str] = {}
        memories: dict[nn.Module, dict[str, str]] = {}
        matched: set[tuple[str, str]] = set()
        for name, module in self._net.named_modules(remove_duplicate=False):
            found = _matching(name, self._wanted["outputs"])
            matched |= {("outputs", pattern) for pattern in found}
            if found:
                outputs.setdefault(module, name)
            for memory in (*module.memory_names, *_sequences(module)) if isinstance(module, MemoryModule) else ():
                full = f"{name}.{memory}" if name else memory
                found = _matching(full, self._wanted["memories"])
                matched |= {("memories", pattern) for pattern in found}
                if found:
                    memories.setdefault(module, {}).setdefault(memory, full)
        for kind, patterns in self._wanted.items():
            for pattern in patterns:
                if (kind, pattern) not in matched:
                    raise ValueError(f"Recorder: {kind}={pattern!r} matches nothing in {type(self._net).__name__}")
        return [(m, outputs.get(m), memories.get(m, {})) for m in {**outputs, **memories}]

    def __enter__(self) -> "Recorder":
        if self._handles:
            raise RuntimeError("Recorder: it is recording already; make a second Recorder to nest them")
        for module, output, kept in self._watched():
            self._handles.append(module.register_forward_hook(self._hook(output, kept)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, output: str | None, kept: dict[str, str]) -> Any:
        def record(module: nn.Module, args: tuple[Any, ...], y: Any) -> None:
            if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
                return
            multi = getattr(module, "step_mode", "s") == "m"
            if output is not None:
                for name, part in _parts(output, y):
                    self._add(name, part if multi else part.unsqueeze(0))
            for memory, full in kept.items():
                value = getattr(module, memory)
                if isinstance(value, Tensor):
                    whole = multi and memory in _sequences(module)
                    self._add(full, value if whole else value.unsqueeze(0))

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


def _parts(name: str, y: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(y, Tensor):
        yield name, y
    elif isinstance(y, tuple | list):
        for i, part in enumerate(y):
            yield from _parts(f"{name}[{i}]", part)


def _patterns(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _matching(name: str, patterns: list[str]) -> list[str]:
    return [pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)]


def _sequences(module: nn.Module) -> tuple[str, ...]:
    """Names under which a module offers a memory of every step."""
    return ("v_seq",) if getattr(module, "store_v_seq", False) else ()
