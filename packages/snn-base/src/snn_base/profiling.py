"""What a net does with an input: spikes, operations, memory traffic and an estimate of the energy, layer by layer."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snn_base.functional import sequence
from snn_base.memory_module import MemoryModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class EnergyModel:
    """Energy of one operation in pJ: 45 nm CMOS at 0.9 V, 32-bit floating point.

    Horowitz, "Computing's Energy Problem (and what we can do about it)", ISSCC 2014: multiplication 3.7 pJ, addition
    0.9 pJ, hence 4.6 pJ for a multiply-accumulate; 32 bits from an 8 KiB cache 5 pJ, so 1.25 pJ a byte.
    """

    mac: float = 4.6
    ac: float = 0.9
    byte: float = 1.25


@dataclass(frozen=True)
class LayerProfile:
    """Counts of one layer for one sample, over all time steps.

    Attributes:
        name: qualified name of the module.
        kind: its class.
        spikes: sum of absolute outputs of a stateful layer with integer outputs, else 0.
        rate: its spikes per neuron and step.
        dense_macs: multiply-accumulates if every input counted.
        synaptic_operations: accumulates caused by nonzero inputs.
        macs: multiply-accumulates needed where inputs are real numbers.
        acs: accumulates needed where inputs are spikes (integers; one of value k is k accumulates).
        traffic_bytes: weights, inputs, outputs and memories read and written once per step.
        energy_pj: ``mac * macs + ac * acs + byte * traffic_bytes`` of the `EnergyModel`.
    """

    name: str
    kind: str
    spikes: float
    rate: float
    dense_macs: float
    synaptic_operations: float
    macs: float
    acs: float
    traffic_bytes: float
    energy_pj: float


@dataclass(frozen=True)
class Profile:
    """Counts of all layers, per sample; ``str`` is a table."""

    layers: tuple[LayerProfile, ...]
    energy_model: EnergyModel

    def total(self, field: str) -> float:
        """Sum of a numeric field of `LayerProfile` over the layers."""
        return float(sum(getattr(layer, field) for layer in self.layers))

    def to_json(self) -> str:
        """The profile as JSON, with the constants it was made with."""
        return json.dumps({"energy_model_pj": asdict(self.energy_model), "layers": [asdict(a) for a in self.layers]})

    def __str__(self) -> str:
        heads = ["layer", "kind", "spikes", "rate", "MACs", "ACs", "bytes", "energy [nJ]"]
        rows = []
        for a in self.layers:
            numbers = (f"{value:.3g}" for value in (a.macs, a.acs, a.traffic_bytes, a.energy_pj / 1e3))
            rows.append([a.name, a.kind, f"{a.spikes:.0f}", f"{a.rate:.3f}", *numbers])
        fields = ("spikes", "macs", "acs", "traffic_bytes")
        rows.append(["total", "", *(f"{self.total(f):.3g}" for f in fields), f"{self.total('energy_pj') / 1e3:.3g}"])
        rows[-1].insert(3, "")
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in [heads, *rows]]
        return "\n".join(line.rstrip() for line in lines)

    def figure(self) -> "Figure":
        """Energy of each layer as bars, by operation; needs matplotlib (``pip install snn-base[plot]``)."""
        from snn_base.plot import stacked_bars

        model = self.energy_model
        parts = {
            a.name: {
                "multiply-accumulate": model.mac * a.macs / 1e3,
                "accumulate": model.ac * a.acs / 1e3,
                "memory": model.byte * a.traffic_bytes / 1e3,
            }
            for a in self.layers
        }
        return stacked_bars(parts, xlabel="energy per sample [nJ]")


@torch.no_grad()
def profile(net: nn.Module, x: Tensor, *, batch_dim: int = 1, energy: EnergyModel | None = None) -> Profile:
    """Run ``net`` on ``x`` from a reset and count what each layer does, per sample.

    Counted are linear and convolution layers, of torch or derived from it, and stateful layers. An operation counts as
    an accumulate where the layer's input holds integers only, and as a multiply-accumulate otherwise. Memories of the
    net are left as they were.

    Args:
        net: any net.
        x: an input, ``[T, N, ...]`` for a net of multi-step layers, else ``[N, ...]`` with ``batch_dim=0``.
        batch_dim: dim of ``x`` that holds the samples.
        energy: energies of the operations; those of Horowitz (2014) by default.

    Raises:
        IndexError: ``x`` has no dim ``batch_dim``.
    """
    model = energy or EnergyModel()
    samples = x.shape[batch_dim]
    found: dict[str, dict[str, Any]] = {}
    handles = []
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd | MemoryModule):
            row = found.setdefault(name, {"kind": type(module).__name__})
            handles.append(module.register_forward_hook(_counter(row)))
    try:
        with sequence(net):
            net(x)
    finally:
        for handle in handles:
            handle.remove()
    layers = []
    for name, row in found.items():
        if "outputs" not in row:
            continue
        kind, outputs = row.pop("kind"), row.pop("outputs")
        per_sample = {key: value / samples for key, value in row.items()}
        cost = model.mac * per_sample["macs"] + model.ac * per_sample["acs"] + model.byte * per_sample["traffic_bytes"]
        layers.append(LayerProfile(name, kind, rate=row["spikes"] / outputs, energy_pj=cost, **per_sample))
    return Profile(tuple(layers), model)


def _counter(row: dict[str, Any]) -> Any:
    def count(module: nn.Module, args: tuple[Any, ...], y: Any) -> None:
        x = args[0]
        if not isinstance(x, Tensor) or not isinstance(y, Tensor):
            return
        own = list(module.parameters(recurse=False))
        traffic = float(sum(t.numel() * t.element_size() for t in (x, y)))
        dense = synaptic = macs = acs = spikes = 0.0
        steps = x.shape[0] if getattr(module, "step_mode", "s") == "m" else 1
        traffic += steps * sum(p.numel() * p.element_size() for p in own)
        if isinstance(module, MemoryModule):
            held = [m for m in module.memories.values() if isinstance(m, Tensor)]
            traffic += 2.0 * steps * sum(m.numel() * m.element_size() for m in held)
            spikes = float(y.abs().sum()) if _integers(y) else 0.0
        else:
            dense = _operations(module, torch.ones_like(x))
            synaptic = _operations(module, x.ne(0).to(x.dtype))
            if _integers(x):
                acs = _operations(module, x.abs())
            else:
                macs = dense
        new = {"spikes": spikes, "dense_macs": dense, "synaptic_operations": synaptic, "macs": macs, "acs": acs}
        for key, value in {**new, "traffic_bytes": traffic, "outputs": float(y.numel())}.items():
            row[key] = row.get(key, 0.0) + value

    return count


def _integers(x: Tensor) -> bool:
    return not x.is_floating_point() or bool(torch.equal(x, x.round()))


def _operations(module: nn.Module, x: Tensor) -> float:
    """Sum over inputs of ``x`` times the number of outputs each of them reaches."""
    if isinstance(module, nn.Linear):
        return float(x.sum(dtype=torch.float64)) * module.out_features
    assert isinstance(module, nn.modules.conv._ConvNd)
    dims = len(module.kernel_size)
    x = x.reshape(-1, *x.shape[-dims - 1 :])
    groups, out = module.groups, module.out_channels // module.groups
    # Channels of a group are summed first: all reach the same outputs.
    x = x.unflatten(1, (groups, -1)).sum(2)
    ones = torch.ones(groups, 1, *module.kernel_size, dtype=x.dtype, device=x.device)
    geometry: dict[str, Any] = {name: getattr(module, name) for name in ("stride", "padding", "dilation", "groups")}
    if module.transposed:
        y = _TRANSPOSED[dims](x, ones, output_padding=module.output_padding, **geometry)
    else:
        y = _CONVOLUTIONS[dims](x, ones, **geometry)
    return float(y.sum(dtype=torch.float64)) * out
