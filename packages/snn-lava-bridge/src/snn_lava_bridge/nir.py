"""NIR graphs of ``CubaLIF`` neurons from and to ``.net`` files, with the error of quantisation reported.

One Euler step of ``dt`` of NIR's equations is the chip's neuron::

    a_I = dt / tau_syn,  a_V = dt / tau_mem,  input gain = (w_in dt / tau_syn) (r dt / tau_mem)
"""

from itertools import pairwise
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from snn_lava_bridge.cuba import CubaLIFNode
from snn_lava_bridge.errors import LavaExportError
from snn_lava_bridge.export import ExportReport, export_netx
from snn_lava_bridge.netx_layers import NetxLayer
from snn_lava_bridge.netx_read import read_netx


class NirReport(NamedTuple):
    """Largest rounding errors of decays (a fraction per step) and thresholds (relative), and the export's report."""

    decay_error: float
    threshold_error: float
    export: ExportReport


def _nir() -> Any:
    try:
        import nir
    except ImportError as error:
        raise ImportError("NIR graphs need the package nir: pip install nir") from error
    return nir


def netx_to_nir(path: str | PathLike[str], *, dt: float = 1e-3, scale: int = 64) -> Any:
    """The ``nir.NIRGraph`` of a file; weights and thresholds are divided by ``scale``, time is in seconds.

    Raises:
        LavaFileError: the file cannot be read.
        LavaExportError: a bias, delay, recurrence, or a decay of 0, which has no time constant.
        ImportError: nir is missing.
    """
    nir, network = _nir(), read_netx(path)
    nodes: dict[str, Any] = {"input": nir.Input(np.array(network.input_shape))}
    before = network.input_shape
    for index, layer in enumerate(network.layers):
        if layer.kind == "flatten":
            nodes[f"{index}_flatten"] = nir.Flatten({"input": np.array(before)}, start_dim=0, end_dim=-1)
        elif layer.spiking:
            nodes[f"{index}_synapse"] = _nir_synapse(nir, layer, before, scale)
            nodes[f"{index}_neuron"] = _nir_neuron(nir, layer, dt, scale)
        before = layer.shape
    nodes["output"] = nir.Output(np.array(before))
    names = list(nodes)
    # nir infers other sizes for grouped and unequally padded convolutions; the file's own were checked on reading.
    return nir.NIRGraph(nodes, list(pairwise(names)), type_check=False)


def _nir_synapse(nir: Any, layer: NetxLayer, before: tuple[int, ...], scale: int) -> Any:
    for name in ("bias", "delay", "weight_rec"):
        value = getattr(layer, name)
        if value is not None and bool(value.any()):
            raise LavaExportError(f"{layer.name}: {name} has no place in NIR's CubaLIF; the chip's acts on the voltage")
    assert layer.weight is not None
    weight = (layer.weight.double() / scale).numpy().astype(np.float32)
    if layer.kind == "dense":
        return nir.Linear(weight)
    return nir.Conv2d(
        before[1:], weight, layer.stride, layer.padding, layer.dilation, layer.groups, np.zeros(len(weight), np.float32)
    )


def _nir_neuron(nir: Any, layer: NetxLayer, dt: float, scale: int) -> Any:
    assert layer.neuron is not None

    def spread(decay: Tensor) -> np.ndarray[Any, Any]:
        if not bool((decay > 0).all()):
            raise LavaExportError(f"{layer.name}: a decay of 0 has no finite time constant in NIR")
        channels = (decay.double() / 4096).reshape(-1, *([1] * (len(layer.shape) - 1)))
        return channels.expand(layer.shape).numpy().copy()

    a_i, a_v = spread(layer.neuron.i_decay), spread(layer.neuron.v_decay)
    threshold = np.full(layer.shape, layer.neuron.v_th_mant / scale)
    zero = np.zeros(layer.shape)
    return nir.CubaLIF(
        tau_syn=dt / a_i, tau_mem=dt / a_v, r=1 / a_v, v_leak=zero, v_threshold=threshold, v_reset=zero, w_in=1 / a_i
    )


def nir_to_netx(graph: Any, path: str | PathLike[str], *, dt: float = 1e-3, scale: int = 64) -> NirReport:
    """Write a chain of linear, convolution and flatten nodes with ``CubaLIF`` neurons as a ``.net`` file.

    Args:
        graph: ``nir.NIRGraph``.
        path: the file.
        dt: seconds of one step of the chip.
        scale: integer weight of 1.0.

    Raises:
        LavaExportError: the graph branches, or a node has no counterpart on the chip.
        ImportError: nir is missing.
    """
    nir = _nir()
    modules: list[nn.Module] = []
    shape: tuple[int, ...] | None = None
    for name, node in _chain(graph):
        if isinstance(node, nir.Input):
            shape = tuple(int(n) for n in np.asarray(node.input_type["input"]).reshape(-1))
        elif isinstance(node, nir.Flatten):
            modules.append(nn.Flatten())
        elif isinstance(node, nir.Linear | nir.Affine | nir.Conv2d):
            modules.append(_module(nir, name, node))
        elif isinstance(node, nir.CubaLIF):
            neuron, gain = _neuron(name, node, dt, scale)
            with torch.no_grad():
                for p in modules[-1].parameters() if modules else ():
                    p.mul_(gain)
            modules.append(neuron)
        elif not isinstance(node, nir.Output):
            raise LavaExportError(f"{name}: a NIR {type(node).__name__} has no counterpart on the chip")
    report = export_netx(nn.Sequential(*modules), path, shape)
    decays, thresholds = ([abs(getattr(r, n)) for r in report.layers] for n in ("decay_error", "threshold_error"))
    return NirReport(max(decays), max(thresholds), report)


def _chain(graph: Any) -> list[tuple[str, Any]]:
    after: dict[str, str] = {}
    for source, target in graph.edges:
        if source in after:
            raise LavaExportError(f"{source}: leads to several nodes; only a chain has a .net file")
        after[source] = target
    if len(set(after.values())) != len(after):
        raise LavaExportError("a node has several inputs; only a chain has a .net file")
    starts = [n for n in graph.nodes if n not in set(after.values())]
    if len(starts) != 1:
        raise LavaExportError(f"the graph must begin in one node, got {starts}")
    name, found = starts[0], [(starts[0], graph.nodes[starts[0]])]
    while name in after:
        name = after[name]
        found.append((name, graph.nodes[name]))
    return found


def _module(nir: Any, name: str, node: Any) -> nn.Module:
    weight = torch.as_tensor(np.asarray(node.weight), dtype=torch.float32)
    bias = getattr(node, "bias", None)
    bias = None if bias is None or not np.any(bias) else torch.as_tensor(np.asarray(bias), dtype=torch.float32)
    module: nn.Linear | nn.Conv2d
    if isinstance(node, nir.Conv2d):
        channels = weight.shape[1] * int(node.groups)
        options: dict[str, Any] = {
            n: v if isinstance(v := getattr(node, n), str) else tuple(np.broadcast_to(v, 2).tolist())
            for n in ("stride", "padding", "dilation")
        }
        kernel = (weight.shape[2], weight.shape[3])
        groups = int(node.groups)
        module = nn.Conv2d(channels, weight.shape[0], kernel, groups=groups, bias=bias is not None, **options)
    else:
        module = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        module.weight.copy_(weight)
        if bias is not None and module.bias is not None:
            module.bias.copy_(bias)
    return module


def _neuron(name: str, node: Any, dt: float, scale: int) -> tuple[CubaLIFNode, float]:
    if np.any(node.v_leak) or np.any(node.v_reset):
        raise LavaExportError(f"{name}: v_leak and v_reset must be 0 on the chip")
    a_i, a_v = (_per_channel(name, dt / np.asarray(tau, np.float64)) for tau in (node.tau_syn, node.tau_mem))
    gains = (
        np.asarray(node.w_in) * (dt / np.asarray(node.tau_syn)) * np.asarray(node.r) * (dt / np.asarray(node.tau_mem))
    )
    thresholds = np.asarray(node.v_threshold)
    if not np.allclose(gains, gains.flat[0]) or np.any(thresholds != thresholds.flat[0]):
        raise LavaExportError(f"{name}: input gain and threshold must be the same for all neurons of a layer")
    if float(a_i.max()) > 1 or float(a_v.max()) > 1:
        raise LavaExportError(f"{name}: dt={dt} exceeds a time constant; choose a smaller step")
    neuron = CubaLIFNode(a_i.float(), a_v.float(), float(thresholds.flat[0]), scale=scale)
    return neuron, float(gains.flat[0])


def _per_channel(name: str, decay: np.ndarray[Any, Any]) -> Tensor:
    value = torch.as_tensor(decay)
    if bool(torch.isclose(value, value.flatten()[0]).all()):
        return value.flatten()[0]
    flat = value.reshape(value.shape[0], -1)
    if not bool((flat == flat[:, :1]).all()):
        raise LavaExportError(f"{name}: time constants differ within a channel; the chip has one decay per channel")
    return flat[:, 0]
