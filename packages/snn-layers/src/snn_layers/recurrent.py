"""Recurrence around a module: its last output comes back with the next input."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snn_base import MemoryModule, set_step_mode
from snn_layers import _check


class ElementwiseRecurrent(MemoryModule):
    """Mixes each input with the last output: ``y[t] = sub(f(x[t], y[t-1]))``, ``y[-1] = 0``.

    Args:
        sub_module: takes one step; step modules inside are set to ``"s"`` and stay so. Its output has the input's shape.
        element_wise_function: f, called as ``f(x, y)``.
        step_mode: ``"s"`` for ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.

    Raises:
        ValueError: the output of ``sub_module`` has another shape than the input.
    """

    drives_children = True
    y: Tensor

    def __init__(
        self,
        sub_module: nn.Module,
        element_wise_function: Callable[[Tensor, Tensor], Tensor] = torch.add,
        *,
        step_mode: str = "s",
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        self.sub_module = sub_module
        self.element_wise_function = element_wise_function
        set_step_mode(sub_module, "s")
        self.register_memory("y", 0.0)

    def single_step_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.sub_module(self.element_wise_function(x, self.y))
        if y.shape != x.shape:
            raise ValueError(
                f"ElementwiseRecurrent: sub_module must return the shape of its input {tuple(x.shape)}, "
                f"got {tuple(y.shape)}; LinearRecurrent takes other shapes"
            )
        self.y = y.to(self.y.dtype)
        return y


class LinearRecurrent(MemoryModule):
    """Maps the input and the last output linearly to the next input of a module.

    ``i[t] = W [x[t]; y[t-1]] + b``, ``y[t] = sub(i[t])``, ``y[-1] = 0``, ``W: in_features + out_features -> in_features``.

    Args:
        sub_module: takes one step ``[N, ..., in_features]`` to ``[N, ..., out_features]``; step modules inside are set
            to ``"s"`` and stay so.
        in_features, out_features: sizes of the last dims of input and output.
        bias: whether there is b.
        step_mode: ``"s"`` or ``"m"``.

    Raises:
        ValueError: sizes below 1, an input or an output of another last dim.
    """

    drives_children = True
    y: Tensor

    def __init__(
        self, sub_module: nn.Module, in_features: int, out_features: int, bias: bool = True, *, step_mode: str = "s"
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        self.in_features = _check.positive_int("LinearRecurrent", "in_features", in_features)
        self.out_features = _check.positive_int("LinearRecurrent", "out_features", out_features)
        self.sub_module = sub_module
        self.rc = nn.Linear(in_features + out_features, in_features, bias)
        set_step_mode(sub_module, "s")
        self.register_memory("y", self._zeros)

    def _zeros(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-1], self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        _check.size("LinearRecurrent", x, -1, self.in_features, "in_features")
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.sub_module(self.rc(torch.cat([x, self.y], dim=-1)))
        if y.shape != self.y.shape:
            raise ValueError(
                f"LinearRecurrent: sub_module must return shape {tuple(self.y.shape)} ending in out_features = "
                f"{self.out_features}, got {tuple(y.shape)}"
            )
        self.y = y.to(self.y.dtype)
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {super().extra_repr()}"
