"""Which backend runs a node on an input, and why not a faster one."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snn_neurons.errors import BackendError, NotFusableError
from snn_neurons.launch import backend_module
from snn_neurons.node_program import node_program, structure
from snn_neurons.sharded import PLAIN, is_plain, is_sharded

if TYPE_CHECKING:
    from snn_neurons.step_node import StepNode

BACKENDS = ("auto", "torch", "native", "triton")
_ORDINARY = frozenset((*PLAIN, float, type(None)))


def obstacle(node: "StepNode", x: Tensor, backend: str, device: str | None = None) -> Exception | None:
    """Why ``backend`` cannot run ``node`` on ``x``, as the error to raise, or ``None``."""
    if backend == "torch":
        return None
    # While a graph is made, tensors are stand-ins; the finished graph gets ordinary ones.
    reason = unusual(node, x) if device is None else None
    if reason:
        return BackendError(f"{reason}; only the plain loop runs on it")
    if _transformed():
        return BackendError("inside torch.func transforms only the plain loop runs; use backend='auto' or 'torch'")
    if backend == "triton" and (device or x.device.type) == "cpu" and node.backend == "auto":
        return BackendError("the triton backend runs on CUDA and the input is on cpu")
    checked = x if x.dtype.is_floating_point else x.new_empty((), dtype=node.memory_dtype(x))
    if device is not None and device != "cpu":
        checked = torch.empty((), dtype=checked.dtype, device=device)
    reason = backend_module(backend).unavailable(checked)
    if reason:
        return BackendError(reason)
    try:
        node_program(node)
    except NotFusableError as error:
        return error
    return None


def choose_backend(node: "StepNode", x: Tensor, device: str | None = None) -> str:
    """The backend that runs ``node`` on ``x``: the one asked for, or under ``"auto"`` the fastest that can.

    A step that cannot be traced runs as the plain loop, ``"reference"``, under ``"auto"`` and ``"torch"``; so do all
    under `torch.func` transforms, where only the plain loop has every derivative, and tensor subclasses.

    Args:
        device: the type of the device, where ``x`` only stands for the input.

    Raises:
        BackendError: the backend asked for cannot run it.
    """
    asked = node.backend
    if _transformed() or (device is None and unusual(node, x)):
        if asked in ("native", "triton"):
            raise _refusal(node, asked, obstacle(node, x, asked, device))
        return "reference"
    known_backends = structure(node).backends
    key = (asked, device or x.device.type, x.dtype)
    known = known_backends.get(key)
    if known is not None:
        return known
    if asked in ("native", "triton"):
        error = obstacle(node, x, asked, device)
        if error is not None:
            raise _refusal(node, asked, error)
        chosen = asked
    else:
        chosen = "torch"
        try:
            node_program(node)
            if asked == "auto":
                backend = "native" if (device or x.device.type) == "cpu" else "triton"
                chosen = backend if obstacle(node, x, backend, device) is None else "torch"
        except NotFusableError:
            chosen = "reference"
    known_backends[key] = chosen
    return chosen


def _refusal(node: "StepNode", asked: str, error: Exception | None) -> Exception:
    text = f"{type(node).__name__} cannot run with backend={asked!r}: "
    if isinstance(error, NotFusableError):
        found: BackendError = NotFusableError(text + error.reason, error.remedy)
    else:
        found = BackendError(f"{text}{error}")
    found.__cause__ = error
    return found


def unusual(node: "StepNode", x: Tensor) -> str | None:
    """What keeps ``x`` or the node's tensors from being given to a kernel by address, or ``None``.

    A sharded input is no obstacle where all parameters are numbers: its local part is an ordinary tensor.
    """
    params = [getattr(node, n) for n in node._param_names]
    values = (x, *params, *node._memory_values.values())
    if _ORDINARY.issuperset(map(type, values)):
        return None
    if is_sharded(x):
        tensors = any(isinstance(p, Tensor) for p in params)
        return "the input is sharded and the node has tensors as parameters" if tensors else None
    for value in values:
        if isinstance(value, Tensor) and not is_plain(value):
            return f"a tensor of the subclass {type(value).__name__} has no memory that a kernel could read"
    return None


def _transformed() -> bool:
    return torch._C._functorch.peek_interpreter_stack() is not None
