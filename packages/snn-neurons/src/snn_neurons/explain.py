"""Which backend will run, and why not a faster one."""

from dataclasses import dataclass

from torch import Tensor

from snn_neurons.choice import choose_backend, obstacle
from snn_neurons.errors import NotFusableError
from snn_neurons.node_program import node_program
from snn_neurons.step_node import StepNode


@dataclass(frozen=True)
class BackendReport:
    """The backend that runs a node on an input, and what keeps each other one from running it.

    ``backend`` is ``"native"``, ``"triton"``, ``"torch"``, ``"reference"`` (the plain loop) or ``"none"`` where the one
    asked for cannot run.
    """

    asked: str
    backend: str
    obstacles: dict[str, str]

    def __str__(self) -> str:
        lines = [f"backend={self.asked!r} runs {self.backend!r}"]
        lines += [f"  not {name}: {why}" for name, why in self.obstacles.items()]
        return "\n".join(lines)


def explain_backend(node: StepNode, x: Tensor) -> BackendReport:
    """Say which backend will run ``node`` on ``x`` and why not the others; nothing is run.

    Raises:
        TypeError: ``node`` is not defined by one step.
    """
    if not isinstance(node, StepNode):
        raise TypeError(f"node must be a neuron with a step (StepNode), got {type(node).__name__}")
    obstacles: dict[str, str] = {}
    for name in ("triton", "native"):
        error = obstacle(node, x, name)
        if error is not None:
            obstacles[name] = _why(error)
    try:
        node_program(node)
    except NotFusableError as error:
        obstacles["torch"] = f"no blocked loop, the plain one runs: {_why(error)}"
    try:
        backend = choose_backend(node, x)
    except RuntimeError:
        backend = "none"
    return BackendReport(node.backend, backend, obstacles)


def _why(error: Exception) -> str:
    if isinstance(error, NotFusableError):
        return "; ".join(filter(None, (error.reason, error.remedy)))
    return str(error)
