"""Recurrence around any module: its last output joins the next input."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from snn_base import MemoryModule, set_step_mode
from snn_layers import _check


class ElementwiseRecurrent(MemoryModule):
    """Feeds the last output back by an elementwise function: ``y[t] = sub(f(x[t], y[t-1]))``, ``y[-1] = 0``.

    Args:
        sub_module: keeps the shape of its input; step modules inside are set to ``"s"`` and stay so.
        element_wise_function: ``f(x, y)`` of the input and the last output.
        step_mode: ``"s"`` for ``[N, ...]``, ``"m"`` for ``[T, N, ...]``.

    Raises:
        ValueError: the output does not have the shape of the input.
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
                f"ElementwiseRecurrent: sub_module must keep the shape {tuple(x.shape)} of one step, for its output "
                f"joins the next input, got {tuple(y.shape)}"
            )
        self.y = y
        return y


class LinearRecurrent(MemoryModule):
    """Feeds the last output back by a linear map: ``y[t] = sub(W [x[t]; y[t-1]] + b)``, ``y[-1] = 0``.

    Args:
        sub_module: maps ``[N, in_features]`` to ``[N, out_features]``; step modules inside are set to ``"s"``.
        in_features, out_features: sizes of x and y; ``W`` maps ``in_features + out_features`` to ``in_features``.
        bias: whether there is a ``b``.
        step_mode: ``"s"`` for ``[N, in_features]``, ``"m"`` for ``[T, N, in_features]``.

    Raises:
        ValueError: sizes below 1; an input or output of another last dim.
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
        self.rc = nn.Linear(in_features + out_features, in_features, bias)
        self.sub_module = sub_module
        set_step_mode(sub_module, "s")
        self.register_memory("y", self._nothing)

    def _nothing(self, x: Tensor) -> Tensor:
        return x.new_zeros(*x.shape[:-1], self.out_features)

    def forward(self, x: Tensor) -> Tensor:
        _check.size("LinearRecurrent", x, -1, self.in_features, "in_features")
        return super().forward(x)

    def single_step_forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.sub_module(self.rc(torch.cat((x, self.y), dim=-1)))
        if y.shape[-1] != self.out_features:
            raise ValueError(
                f"LinearRecurrent: sub_module must return out_features = {self.out_features} values, "
                f"got {tuple(y.shape)}"
            )
        self.y = y
        return y

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, {super().extra_repr()}"
