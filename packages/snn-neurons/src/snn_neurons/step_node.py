"""A neuron as one pure step function with named memories and parameters, run by one of several backends."""

from collections.abc import Collection
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from snn_base import MemoryModule
from snn_neurons.choice import BACKENDS, choose_backend
from snn_neurons.fused import Affine, run_compiled, run_fused
from snn_neurons.node_program import Seen, Structure
from snn_neurons.reference import as_outputs, named_tuple_type, run_reference
from snn_neurons.sharded import is_plain

ParamValue = float | Tensor | None
_MEMORY_DTYPES = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


class StepNode(MemoryModule):
    """A neuron defined by one step, ``out[t], state[t] = step(x[t], state[t-1], p)``, repeated over time.

    A subclass registers its memories and parameters and writes `step` in pointwise PyTorch operations. The same step is
    the reference, and its traced form, with the derived backward, fills the fused kernels.

    Args:
        step_mode: ``"s"`` for ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.
        backend: ``"auto"``, ``"torch"``, ``"native"`` (CPU) or ``"triton"`` (CUDA).
        learnable: names of parameters to be registered as learnable.
        spike_dtype: dtype of the outputs (``torch.bool`` or ``torch.uint8``); ``None`` keeps that of the input.
        store_v_seq: keep the memory ``v`` of every step, ``[T, N, ...]``, as the attribute ``v_seq``.

    Memories are kept in float32 when the input is float16 or bfloat16.

    Raises:
        ValueError: an unknown backend, or a name in ``learnable`` that is no parameter.
    """

    static: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        step_mode: Any = "s",
        backend: str = "auto",
        learnable: Collection[str] = (),
        spike_dtype: torch.dtype | None = None,
        store_v_seq: bool = False,
    ) -> None:
        super().__init__(step_mode)
        if spike_dtype not in (None, torch.bool, torch.uint8):
            raise ValueError(f"spike_dtype must be None, torch.bool or torch.uint8, got {spike_dtype}")
        self._learnable = frozenset((learnable,) if isinstance(learnable, str) else learnable)
        self._param_names: tuple[str, ...] = ()
        self._structures: dict[Any, Structure] = {}
        self._seen: Seen | None = None
        self.backend = backend
        self.spike_dtype = spike_dtype
        self.store_v_seq = store_v_seq
        self.v_seq: Tensor | None = None

    # -- definition --------------------------------------------------------------------------------------------------
    def register_param(self, name: str, value: ParamValue, learnable: bool = False) -> None:
        """Declare the parameter ``self.<name>``, which `step` receives as ``p.<name>``.

        Args:
            name: attribute name.
            value: a float, or a tensor that broadcasts over the neuron shape ``x.shape[1:]`` (``[C, 1, 1]`` for one
                value per channel of ``[N, C, H, W]``), or ``None`` for a parameter this neuron does not use.
            learnable: register an ``nn.Parameter``; a name given to ``learnable=`` of the constructor is one as well.

        Raises:
            ValueError: the name is taken, or a learnable parameter has no value.
            TypeError: the value is of none of these kinds.
        """
        owner = type(self).__name__
        learnable = learnable or name in self._learnable
        if not name.isidentifier() or hasattr(self, name):
            raise ValueError(f"{owner}.register_param: {name!r} is not an identifier or is already an attribute")
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = float(value)
        elif value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{owner}: {name} must be a float, a tensor or None, got {type(value).__name__}")
        if learnable:
            if value is None:
                raise ValueError(f"{owner}: {name}=None cannot be learnable; give it a value")
            self.register_parameter(name, nn.Parameter(torch.as_tensor(value).detach().clone()))
        elif isinstance(value, nn.Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Tensor):
            self.register_buffer(name, value.detach().clone())
        else:
            setattr(self, name, value)
        self._param_names = (*self._param_names, name)

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        """One time step in pointwise PyTorch operations.

        Args:
            x: input ``[N, ...]``.
            state: NamedTuple of the memories before the step.
            p: NamedTuple of the parameters, tensors that broadcast with ``x`` (``None`` stays ``None``).

        Returns:
            The output (a tensor or a tuple of tensors) and the new state, ``state._replace(v=...)``.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step(x, state, p) -> (output, new_state)")

    def pointwise_step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        """The part of `step` that kernels compute: all of it, unless a subclass does the rest between steps."""
        return self.step(x, state, p)

    # -- settings ----------------------------------------------------------------------------------------------------
    @property
    def backend(self) -> str:
        """``"auto"``, ``"torch"``, ``"native"`` or ``"triton"``."""
        return self._backend

    @backend.setter
    def backend(self, value: str) -> None:
        if value not in BACKENDS:
            raise ValueError(f"{type(self).__name__}.backend must be one of {BACKENDS}, got {value!r}")
        self._backend = value

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the registered parameters, in order."""
        return self._param_names

    def memory_dtype(self, x: Tensor) -> torch.dtype:
        """float32 for half-precision inputs, else the dtype of ``x``."""
        return _MEMORY_DTYPES.get(x.dtype) or super().memory_dtype(x)

    # -- running -----------------------------------------------------------------------------------------------------
    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Any:
        """Run one step or a sequence, by ``step_mode``.

        Args:
            x: ``[N, ...]`` or ``[T, N, ...]``.
            scale, shift: the node is given ``x * scale + shift`` (a bias, a folded batch norm) in the same pass, with
                gradients; each broadcasts over the neuron shape: ``[C, 1, 1]`` for ``[N, C, H, W]``.
        """
        if self._learnable and (missing := self._learnable.difference(self._param_names)):
            raise ValueError(
                f"{type(self).__name__}: learnable={sorted(missing)} names no parameter; "
                f"it has {list(self._param_names)}"
            )
        if scale is None and shift is None:
            return super().forward(x)
        return self._affine_forward(x, 1.0 if scale is None else scale, 0.0 if shift is None else shift)

    def _affine_forward(self, x: Tensor, scale: float | Tensor, shift: float | Tensor) -> Any:
        given = [v for v in (x, scale, shift) if isinstance(v, Tensor)]
        backend = "compiled" if torch.compiler.is_compiling() else choose_backend(self, x)
        fused = backend != "reference" and x.dtype.is_floating_point and x.numel() > 0
        fused = fused and all(map(is_plain, given))
        if not fused and not torch.compiler.is_compiling():
            dtype = x.dtype if x.dtype.is_floating_point else self.memory_dtype(x)
            return super().forward((x * scale + shift).to(dtype))
        self.prepare_memories(x)
        outs = self._run(x if self.step_mode == "m" else x.unsqueeze(0), backend, (scale, shift))
        outs = outs if self.step_mode == "m" else tuple(o.squeeze(0) for o in outs)
        return outs[0] if len(outs) == 1 else outs

    def single_step_forward(self, x: Tensor) -> Any:
        """One step ``[N, ...] -> [N, ...]``."""
        if not torch.compiler.is_compiling():
            backend = choose_backend(self, x)
            if backend not in ("torch", "reference"):
                outs = self._run(x.unsqueeze(0), backend)
                return outs[0].squeeze(0) if len(outs) == 1 else tuple(o.squeeze(0) for o in outs)
        # The compiler fuses one step by itself, and inside its loops only plain operations can be differentiated.
        dtype = self.memory_dtype(x)
        state = named_tuple_type("State", self.memory_names)(*[getattr(self, n) for n in self.memory_names])
        out, new = self.step(x.to(dtype), state, self._tensor_params(dtype))
        for name, value in zip(self.memory_names, new, strict=True):
            setattr(self, name, value)
        outs = tuple(o.to(self._out_dtype(x)) for o in as_outputs(out))
        return outs[0] if len(outs) == 1 else outs

    def multi_step_forward(self, x_seq: Tensor) -> Any:
        """A sequence ``[T, N, ...] -> [T, N, ...]`` in one call of the chosen backend."""
        outs = self._run(x_seq, "compiled" if torch.compiler.is_compiling() else choose_backend(self, x_seq))
        return outs[0] if len(outs) == 1 else outs

    def _run(self, x_seq: Tensor, backend: str, affine: Affine | None = None) -> tuple[Tensor, ...]:
        names, values = self.memory_names, self._memory_values
        outs, last, v_seq = self._sequence(x_seq, [values[n] for n in names], backend, affine)  # type: ignore[misc]
        for name, value in zip(names, last, strict=True):
            values[name] = value
        if self.store_v_seq:
            self.v_seq = v_seq
        return outs

    def _sequence(
        self, x_seq: Tensor, state: list[Tensor], backend: str, affine: Affine | None
    ) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
        """Outputs, last memories and stored ``v`` of a sequence."""
        if backend == "compiled":
            return run_compiled(self, x_seq, state, affine)
        if backend == "reference":
            return run_reference(self, x_seq, state)
        return run_fused(self, x_seq, state, backend, affine)

    def _out_dtype(self, x: Tensor) -> torch.dtype:
        return self.spike_dtype or (x.dtype if x.dtype.is_floating_point else self.memory_dtype(x))

    def _tensor_params(self, dtype: torch.dtype) -> Any:
        """The parameters as `step` takes them: tensors of ``dtype``; a float becomes a 0-dim CPU tensor."""
        values = []
        for name in self._param_names:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                value = value.to(dtype)
            elif value is not None:
                value = torch.full((), value, dtype=dtype)
            values.append(value)
        return named_tuple_type("Params", self._param_names)(*values)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_structures"], state["_seen"] = {}, None
        state["v_seq"] = None
        return state

    def extra_repr(self) -> str:
        shown = []
        for name in self._param_names:
            value = getattr(self, name)
            shown.append(f"{name}={tuple(value.shape) if isinstance(value, Tensor) and value.dim() else value}")
        return ", ".join([*shown, super().extra_repr(), f"backend={self._backend!r}"])
