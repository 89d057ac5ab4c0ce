"""The charge, fire, reset neuron."""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor

from snn_neurons.step_node import ParamValue, StepNode
from snn_neurons.surrogates import ATan


class SpikingNode(StepNode):
    """A neuron that charges, fires and resets; the base of the spiking nodes and of a user's own.

    ``h[t] = charge(x[t], v[t-1])``, ``s[t] = H(h[t] - v_threshold)`` with ``H(0) = 1``, then the hard reset
    ``v[t] = s v_reset + (1 - s) h`` or, with ``v_reset=None``, the soft reset ``v[t] = h - s v_threshold``.

    Args:
        v_threshold: threshold; a float, or a tensor that broadcasts over the neuron shape.
        v_reset: reset value, also that of ``v`` at the start; ``None`` for the soft reset, with ``v`` starting at 0.
        surrogate: the spike function, exact forward and with its own derivative backward.
        detach_reset: take the spike in the reset out of the graph.
        learnable: names of parameters to learn, for example ``("tau", "v_threshold", "surrogate_alpha")``.
        step_mode, backend, spike_dtype, store_v_seq: see `StepNode`.

    Example:
        >>> class Leaky(SpikingNode):
        ...     def charge(self, x, state, p):
        ...         return 0.5 * state.v + x
        >>> Leaky(step_mode="m")(torch.full((3, 1), 0.7)).flatten()
        tensor([0., 1., 0.])
    """

    def __init__(
        self,
        *,
        v_threshold: float | Tensor = 1.0,
        v_reset: float | Tensor | None = 0.0,
        surrogate: Callable[[Tensor], Tensor] | None = None,
        detach_reset: bool = False,
        learnable: Collection[str] = (),
        step_mode: Any = "s",
        backend: str = "auto",
        spike_dtype: torch.dtype | None = None,
        store_v_seq: bool = False,
    ) -> None:
        super().__init__(
            step_mode=step_mode, backend=backend, learnable=learnable, spike_dtype=spike_dtype, store_v_seq=store_v_seq
        )
        self.detach_reset = detach_reset
        self.surrogate: Any = ATan() if surrogate is None else surrogate
        self.register_param("v_threshold", v_threshold)
        self.register_param("v_reset", v_reset)
        for field in self._surrogate_params():
            self.register_param(f"surrogate_{field}", getattr(self.surrogate, field))
        fixed = self.v_reset is None or isinstance(self.v_reset, float)
        self.register_memory("v", (self.v_reset or 0.0) if fixed else self._initial_v)

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        """The membrane potential ``h`` before firing."""
        raise NotImplementedError(f"{type(self).__name__} must define charge(x, state, p) -> h, or step")

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Any, Any]:
        h = self.charge(x, state, p)
        s = self.fire(h - p.v_threshold, p)
        return s, state._replace(v=self.reset_membrane(h, s, p))

    def fire(self, u: Tensor, p: Any) -> Tensor:
        """The spike of ``u = h - v_threshold``, by the surrogate; its tensor fields are taken from ``p``."""
        fields = {f: getattr(p, f"surrogate_{f}") for f in self._surrogate_params()}
        surrogate = dataclasses.replace(self.surrogate, **fields) if fields else self.surrogate
        spike: Tensor = surrogate(u)
        return spike

    def reset_membrane(self, h: Tensor, s: Tensor, p: Any) -> Tensor:
        """The membrane potential after the spike ``s``."""
        s = self.fed_back(s)
        if p.v_reset is None:
            return h - s * p.v_threshold  # type: ignore[no-any-return]
        return (1.0 - s) * h + s * p.v_reset  # type: ignore[no-any-return]

    def fed_back(self, s: Tensor) -> Tensor:
        """The spike as it enters the memories: out of the graph with ``detach_reset``."""
        return s.detach() if self.detach_reset else s

    def _surrogate_params(self) -> list[str]:
        """The fields of the surrogate that are parameters: those that hold a tensor or are to be learned."""
        if not dataclasses.is_dataclass(self.surrogate):
            return []
        return [
            f.name
            for f in dataclasses.fields(self.surrogate)
            if isinstance(getattr(self.surrogate, f.name), Tensor) or f"surrogate_{f.name}" in self._learnable
        ]

    def _initial_v(self, x: Tensor) -> Tensor:
        value: ParamValue = self.v_reset
        assert isinstance(value, Tensor)
        return value.detach().to(x.device, self.memory_dtype(x)).expand(x.shape)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, surrogate={self.surrogate!r}"
