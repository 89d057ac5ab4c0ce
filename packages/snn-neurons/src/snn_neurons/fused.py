"""Running a traced step over a whole sequence."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode


def run_fused(
    node: "StepNode", x_seq: Tensor, state: list[Tensor], backend: str
) -> tuple[tuple[Tensor, ...], list[Tensor], Tensor | None]:
    """Run ``node`` over ``x_seq [T, N, ...]`` from ``state`` in ``backend``."""
    raise NotImplementedError(backend)
