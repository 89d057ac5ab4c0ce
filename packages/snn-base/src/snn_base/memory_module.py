"""The core of every stateful layer: a module whose memories live from one time step to the next."""

import keyword
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from snn_base.errors import MemoryDeviceError, MemoryDtypeError, MemoryShapeError, MemoryStateError
from snn_base.outputs import stack_steps
from snn_base.scan import scan_steps
from snn_base.step_module import StepMode, StepModule

MemoryValue = float | Tensor | None
MemoryDefault = float | Tensor | Callable[[Tensor], Tensor] | None


class MemoryModule(StepModule):
    """A module with named memories, for example the membrane potential ``v`` of a neuron.

    A step maps an input and the memories to an output and new memories, ``y[t], m[t] = f(x[t], m[t-1])``; a sequence is
    that step repeated. A subclass registers its memories and writes `single_step_forward`; where a fused form of the
    sequence exists it overrides `multi_step_forward` as well.

    A memory reads and is assigned as an attribute. It is neither a parameter nor a buffer, follows ``.to()``,
    ``deepcopy`` and ``pickle``, and must be assigned, never changed in place, so that no tensor already returned ever
    changes.

    Args:
        step_mode: ``"s"`` for inputs ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.

    Example:
        >>> class Accumulate(MemoryModule):
        ...     def __init__(self):
        ...         super().__init__(step_mode="m")
        ...         self.register_memory("total", 0.0)
        ...
        ...     def single_step_forward(self, x):
        ...         self.total = self.total + x
        ...         return self.total
        >>> Accumulate()(torch.ones(3, 1)).flatten()
        tensor([1., 2., 3.])
    """

    def __init__(self, step_mode: StepMode = "s") -> None:
        super().__init__(step_mode)
        self._memory_values: dict[str, MemoryValue] = {}
        self._memory_defaults: dict[str, MemoryDefault] = {}
        self._persistent_memories: set[str] = set()
        self._checked_shape: tuple[int, ...] | None = None
        self._explicit_state = False  # True while the caller holds the state, as functional_call does

    # -- registration and access -------------------------------------------------------------------------------------
    def register_memory(self, name: str, value: MemoryDefault, *, persistent: bool = False) -> None:
        """Declare the memory ``self.<name>`` and the value it has after every reset.

        Args:
            name: attribute name of the memory.
            value: a float (becomes a tensor filled with it, shaped like one step of the input), a tensor (expanded to
                that shape), a callable of one step of the input that returns the tensor, or ``None`` (stays ``None``
                until the module assigns it).
            persistent: whether the memory enters ``state_dict``.

        Raises:
            ValueError: the name is not an identifier or is taken.
            TypeError: the value is of none of these kinds.
            RuntimeError: ``super().__init__()`` was not called first.
        """
        owner = type(self).__name__
        if "_memory_defaults" not in self.__dict__:
            raise RuntimeError(f"{owner}.register_memory: call super().__init__() before registering {name!r}")
        if not (isinstance(name, str) and name.isidentifier()) or keyword.iskeyword(name):
            raise ValueError(f"{owner}.register_memory: name must be an identifier, got {name!r}")
        if hasattr(self, name):
            raise ValueError(f"{owner}.register_memory: {name!r} is already an attribute; choose another name")
        self._memory_defaults[name] = self._valid_default("register_memory", name, value)
        if persistent:
            self._persistent_memories.add(name)
        self._memory_values[name] = _initial(self._memory_defaults[name])

    def _valid_default(self, method: str, name: str, value: Any) -> MemoryDefault:
        if type(value) is int:
            return float(value)
        if isinstance(value, Tensor):
            return value.detach().clone()
        if not (isinstance(value, float | None) or callable(value)):
            raise TypeError(
                f"{type(self).__name__}.{method}: value of {name!r} must be a float, a tensor, a callable or None, "
                f"got {type(value).__name__}"
            )
        return value  # type: ignore[no-any-return]

    # Values live in a dict and not in __dict__: while compiling, an attribute assigned before and after a scan would
    # keep the earlier value.
    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("_memory_values")
        if values is not None and name in values:
            return values[name]
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        values = self.__dict__.get("_memory_values")
        if values is not None and name in values:
            values[name] = value
        elif name == "_checked_shape":
            object.__setattr__(self, name, value)  # at every call; nn.Module would look among its parameters first
        else:
            super().__setattr__(name, value)

    @property
    def memory_names(self) -> tuple[str, ...]:
        """Names of the registered memories, in the order of registration."""
        return tuple(self._memory_defaults)

    @property
    def memories(self) -> dict[str, MemoryValue]:
        """The memories as they are now, by name."""
        return dict(self._memory_values)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._memory_values]

    def set_initial_memory(self, name: str, value: MemoryDefault) -> None:
        """Change the value that a registered memory has after every reset, and reset it to that value.

        Raises:
            KeyError: there is no memory of that name.
            TypeError: the value is none that `register_memory` takes.
        """
        if name not in self._memory_defaults:
            raise KeyError(f"{type(self).__name__} has no memory {name!r}; it has {list(self._memory_defaults)}")
        self._memory_defaults[name] = self._valid_default("set_initial_memory", name, value)
        self._memory_values[name] = _initial(self._memory_defaults[name])

    def set_memories(self, values: Mapping[str, MemoryValue]) -> None:
        """Assign several memories; they are checked against the next input."""
        for name, value in values.items():
            setattr(self, name, value)
        self._checked_shape = None

    def memory_dtype(self, x: Tensor) -> torch.dtype:
        """The dtype memories have for the input ``x``; by default that of ``x``, or torch's default for integers."""
        return x.dtype if x.dtype.is_floating_point or x.dtype.is_complex else torch.get_default_dtype()

    # -- reset and detach --------------------------------------------------------------------------------------------
    def reset(self, mask: Tensor | None = None) -> None:
        """Give every memory its registered value, for all samples or for those that ``mask`` names.

        Args:
            mask: boolean ``[N]``; only samples where it is true are reset. Memories must have the batch as first dim.

        Raises:
            TypeError: the mask is not a boolean tensor.
            ValueError: the mask does not have one entry per sample; no memory has changed then.
        """
        if mask is None:
            for name, default in self._memory_defaults.items():
                self._memory_values[name] = _initial(default)
            self._checked_shape = None
            return
        self.check_mask(mask)
        for name in self._memory_defaults:
            value = getattr(self, name)
            if self._is_running(name, value):
                rows = mask.to(value.device).view(-1, *([1] * (value.dim() - 1)))
                setattr(self, name, torch.where(rows, self._fresh_like(name, value), value))

    def check_mask(self, mask: Tensor) -> None:
        """Raise what `reset` would raise for ``mask``, and change nothing."""
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"{type(self).__name__}.reset: mask must be a boolean tensor, got {got}")
        for name in self._memory_defaults:
            value = getattr(self, name)
            if not self._is_running(name, value):
                continue
            if mask.dim() != 1 or value.dim() < 1 or mask.shape[0] != value.shape[0]:
                raise ValueError(
                    f"{type(self).__name__}.reset: mask of shape {tuple(mask.shape)} does not fit memory {name!r} of "
                    f"shape {tuple(value.shape)}; it must be [N] with N the batch size of the memory"
                )

    def _is_running(self, name: str, value: MemoryValue) -> bool:
        return isinstance(value, Tensor) and value is not self._memory_defaults[name]

    def detach(self) -> None:
        """Cut the memories from the graph of the past; outputs already returned keep theirs."""
        for name in self._memory_defaults:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                setattr(self, name, value.detach())

    def _fresh_like(self, name: str, value: Tensor) -> Tensor:
        default = self._memory_defaults[name]
        if isinstance(default, float):
            return torch.full_like(value, default)
        if isinstance(default, Tensor):
            return default.to(value).expand_as(value)
        if default is None:
            return torch.zeros_like(value)
        shape = value.shape if self._checked_shape is None else self._checked_shape
        return default(value.new_zeros(shape)).to(value)

    # -- forward -----------------------------------------------------------------------------------------------------
    def forward(self, x: Tensor) -> Tensor:
        if self._step_mode == "m" and x.dim() > 0 and x.shape[0] == 0:
            # No step, no trace: not even the shape of this input, so that fresh memories fit any that follows.
            kept = self._held()
            self.prepare_memories(x)
            y = super().forward(x)
            _give_back(kept)
            return y
        self.prepare_memories(x)
        return super().forward(x)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        """Repeat `single_step_forward` over the first dim of ``x_seq``; no steps give an empty sequence.

        Where a step returns a tuple, list or dict of tensors, so does the sequence.
        """
        if x_seq.shape[0] == 0:
            return self._empty_sequence(x_seq)
        # Inductor's backward of a scan of dynamic length gives wrong gradients (PyTorch 2.13), so a graph for training
        # holds the loop unrolled.
        if torch.compiler.is_compiling() and (torch.compiler.is_exporting() or not torch.is_grad_enabled()):
            return scan_steps(self, x_seq)
        y_seq: Tensor = stack_steps([self.single_step_forward(x) for x in x_seq.unbind(0)])
        return y_seq

    def _empty_sequence(self, x_seq: Tensor) -> Tensor:
        # One dry step tells the shape of an output; the concatenation keeps the result in the graph of x_seq.
        kept = self._held()
        dry = torch.cat([x_seq, x_seq.new_zeros(1, *x_seq.shape[1:])])[0]
        y: Tensor = tree_map(lambda one: one.unsqueeze(0)[:0], self.single_step_forward(dry))
        _give_back(kept)
        return y

    def _held(self) -> "list[tuple[MemoryModule, dict[str, MemoryValue], tuple[int, ...] | None]]":
        return [(m, m.memories, m._checked_shape) for m in self.modules() if isinstance(m, MemoryModule)]

    def prepare_memories(self, x: Tensor) -> None:
        """Shape fresh memories for the input ``x`` and check kept ones against it; `forward` calls this.

        Raises:
            MemoryShapeError, MemoryDtypeError, MemoryDeviceError: a kept memory does not fit ``x``.
            MemoryStateError: called inside a backward pass, where a recomputation would start from the wrong memory.
            TypeError: the callable of a lazily shaped memory returned no tensor.
        """
        if not self._memory_defaults:
            return
        compiling = torch.compiler.is_compiling()
        if not compiling and not self._explicit_state and torch._C._current_graph_task_id() != -1:
            raise MemoryStateError(
                f"{type(self).__name__} runs again inside a backward pass (torch.utils.checkpoint?), where its "
                "memories are no longer those of the first run, so gradients would be wrong; use "
                "snn_base.checkpoint_sequence, or checkpoint snn_base.functional_call with the state as an argument"
            )
        if self._step_mode == "m" and x.dim() > 0:
            x = x[0] if x.shape[0] else x.new_zeros(x.shape[1:])
        values = self._memory_values
        for name, default in self._memory_defaults.items():
            value = values[name]
            if value is None:
                if default is not None and not isinstance(default, float | Tensor):
                    values[name] = self._made(name, default(x))
            elif not isinstance(value, Tensor):
                # full_like also follows the layout of x and, for a sharded tensor, its placement.
                values[name] = torch.full_like(x, value, dtype=self.memory_dtype(x), requires_grad=False)
            elif value is default:
                values[name] = self._expanded(name, value, x)
            else:
                self._check(name, value, default, x, compiling)
        if not compiling and self._checked_shape != x.shape:
            self._checked_shape = tuple(x.shape)

    def _called(self, name: str) -> str:
        return f"{type(self).__name__}.{name}"

    def _made(self, name: str, value: Any) -> Tensor:
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{self._called(name)}: the callable it was registered with must return a tensor, "
                f"got {type(value).__name__}"
            )
        return value

    def _expanded(self, name: str, value: Tensor, x: Tensor) -> Tensor:
        try:
            return value.to(x.device, self.memory_dtype(x)).expand(x.shape)
        except RuntimeError:
            raise MemoryShapeError(
                f"{self._called(name)}: its initial value of shape {tuple(value.shape)} does not broadcast to "
                f"one step of the input, {tuple(x.shape)}"
            ) from None

    def _check(self, name: str, value: Tensor, default: MemoryDefault, x: Tensor, compiling: bool) -> None:
        if value.device != x.device:
            raise MemoryDeviceError(
                f"{self._called(name)} is on {value.device} but the input is on {x.device}; move the module with "
                f".to({str(x.device)!r}) or call snn_base.reset_net(net) before a new sequence"
            )
        shape: tuple[int, ...] | torch.Size = x.shape
        if default is None or (callable(default) and not isinstance(default, Tensor)):
            # The shape of such a memory is the module's own affair: it must be seen anew only when the input changes.
            if default is None or (not compiling and self._checked_shape == tuple(x.shape)):
                return
            shape = default(x).shape
        elif value.dtype != self.memory_dtype(x):
            raise MemoryDtypeError(
                f"{self._called(name)} has dtype {value.dtype} but an input of {x.dtype} needs "
                f"{self.memory_dtype(x)}; convert the module or call snn_base.reset_net(net) before a new sequence"
            )
        if value.shape != shape:
            raise MemoryShapeError(
                f"{self._called(name)} has shape {tuple(value.shape)} from an earlier sequence but this input "
                f"needs {tuple(shape)} (one step of the input is {tuple(x.shape)}); "
                "call snn_base.reset_net(net) before a new sequence"
            )

    # -- moving, copying, saving -------------------------------------------------------------------------------------
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "MemoryModule":
        super()._apply(fn, recurse)
        for name, default in self._memory_defaults.items():
            value = getattr(self, name)
            fresh = value is default
            if isinstance(default, Tensor):
                self._memory_defaults[name] = fn(default)
            if fresh:
                setattr(self, name, _initial(self._memory_defaults[name]))
            elif isinstance(value, Tensor):
                moved = fn(value)
                setattr(self, name, moved.to(self.memory_dtype(moved)) if moved.is_floating_point() else moved)
        return self

    def __getstate__(self) -> dict[str, Any]:
        # deepcopy and pickle refuse tensors inside a graph; a copy starts with the same values and no past.
        state = self.__dict__.copy()
        values = dict(self._memory_values)
        for name, value in values.items():
            if isinstance(value, Tensor) and value is not self._memory_defaults[name]:
                values[name] = value.detach()
        state["_memory_values"] = values
        return state

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in self._stored_memories():
            value = getattr(self, name)
            destination[prefix + name] = value if keep_vars else value.detach()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Mapping[str, Any], strict: bool, *args: Any
    ) -> None:
        for name in sorted(self._persistent_memories):
            # A net saved before its first step has no tensor to store, and loads as such.
            stored = state_dict.pop(prefix + name, None)
            old = getattr(self, name)
            if stored is None:
                setattr(self, name, _initial(self._memory_defaults[name]))
            else:
                device = old.device if isinstance(old, Tensor) else self._device(stored.device)
                setattr(self, name, stored.detach().to(device, copy=True))
            self._checked_shape = None
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *args)

    def _stored_memories(self) -> Iterator[str]:
        for name in self._memory_defaults:
            if name in self._persistent_memories and self._is_running(name, getattr(self, name)):
                yield name

    def _device(self, otherwise: torch.device) -> torch.device:
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return otherwise


def _give_back(kept: list[tuple[MemoryModule, dict[str, MemoryValue], tuple[int, ...] | None]]) -> None:
    for module, memories, shape in kept:
        for name, value in memories.items():
            setattr(module, name, value)
        module._checked_shape = shape


def _initial(default: MemoryDefault) -> MemoryValue:
    return default if default is None or isinstance(default, float | Tensor) else None
