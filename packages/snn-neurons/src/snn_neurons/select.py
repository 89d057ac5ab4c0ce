"""Which backend runs a node on an input, and why not a faster one."""

from typing import TYPE_CHECKING

from torch import Tensor

from snn_neurons.errors import BackendError, NotFusableError

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode

BACKENDS = ("auto", "torch", "native", "triton")


def obstacle(node: "StepNode", x: Tensor, backend: str) -> Exception | None:
    """Why ``backend`` cannot run ``node`` on ``x``, as the error to raise, or ``None``."""
    from snn_neurons.launch import backend_module
    from snn_neurons.node_program import node_program

    if backend == "torch":
        return None
    if backend == "triton" and x.device.type == "cpu" and node.backend == "auto":
        return BackendError("the triton backend runs on CUDA and the input is on cpu")
    checked = x if x.dtype.is_floating_point else x.new_empty((), dtype=node.memory_dtype(x))
    reason = backend_module(backend).unavailable(checked)
    if reason:
        return BackendError(reason)
    try:
        node_program(node)
    except NotFusableError as error:
        return error
    return None


def choose_backend(node: "StepNode", x: Tensor) -> str:
    """The backend that runs ``node`` on ``x``: the one asked for, or under ``"auto"`` the fastest that can.

    A step that cannot be traced runs as the plain loop, ``"reference"``, under ``"auto"`` and ``"torch"``.

    Raises:
        BackendError: the backend asked for cannot run it.
    """
    asked = node.backend
    if asked in ("native", "triton"):
        error = obstacle(node, x, asked)
        if error is not None:
            raise type(error)(f"{type(node).__name__} cannot run with backend={asked!r}: {error}") from error
        return asked
    from snn_neurons.node_program import node_program

    try:
        node_program(node)
    except NotFusableError:
        return "reference"
    if asked == "auto":
        backend = "native" if x.device.type == "cpu" else "triton"
        if obstacle(node, x, backend) is None:
            return backend
    return "torch"
