"""Which backend runs a node on an input, and why not a faster one."""

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode

BACKENDS = ("auto", "torch", "native", "triton")


def choose_backend(node: "StepNode", x: Tensor) -> str:
    """The backend that runs ``node`` on ``x``: the one asked for, or under ``"auto"`` the fastest that can."""
    return "reference"
