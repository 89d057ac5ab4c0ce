"""From a trained network to a ``.net`` file."""

from dataclasses import dataclass
from os import PathLike

from torch import nn

from snn_lava_bridge.errors import LavaExportError
from snn_lava_bridge.lint import Finding, lint
from snn_lava_bridge.lowering import LayerReport, lower_with_report
from snn_lava_bridge.netx_layers import NetxNetwork
from snn_lava_bridge.netx_write import write_netx


@dataclass(frozen=True)
class ExportReport:
    """What was written, what rounding did to it, and remarks that did not stop the export."""

    network: NetxNetwork
    layers: tuple[LayerReport, ...]
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        lines = [
            f"{r.name}: scale {r.scale}, {100 * r.saturated:.2f} % of weights saturated, weight error up to "
            f"{r.weight_error:.3g}, decay error up to {r.decay_error:.3g}, threshold {100 * r.threshold_error:+.2f} %"
            for r in self.layers
        ]
        return "\n".join([*lines, *map(str, self.findings)])


def lower(net: nn.Module, input_shape: tuple[int, ...] | None = None, *, scale: int | None = None) -> NetxNetwork:
    """The integers that `export_netx` would write, unchecked; arguments and errors as there."""
    return lower_with_report(net, input_shape, scale=scale)[0]


def export_netx(
    net: nn.Module,
    path: str | PathLike[str],
    input_shape: tuple[int, ...] | None = None,
    *,
    scale: int | None = None,
) -> ExportReport:
    """Write a network as a ``.net`` file that lava-dl's netx loads; no forward pass is needed before.

    The network is a (nested) ``nn.Sequential`` of blocks, or of linear, convolution and pooling layers each followed by
    neurons. Batch norms are folded with their running statistics, sum and average pools become depth-wise convolutions
    (the divisor of an average multiplies the threshold), learned decays, thresholds and delays are rounded as they are
    now. Weights are rounded to even integers.

    Args:
        net: the network; its parameters are read, nothing is changed.
        path: file to write; it is replaced only by a complete file.
        input_shape: shape of one input step without the batch, ``(F,)`` or ``(C, H, W)``; not needed where the first
            layer is linear.
        scale: integer weight of 1.0 for layers whose neuron has no scale of its own; by default the largest power of
            two at which no weight saturates.

    Raises:
        LavaExportError: a part has no counterpart on the chip, or a check of `lint` failed; layer and value are named.
    """
    network, layers = lower_with_report(net, input_shape, scale=scale)
    findings = lint(network)
    errors = [f for f in findings if f.level == "error"]
    if errors:
        raise LavaExportError("nothing was written:\n" + "\n".join(f"  {e.layer}: {e.message}" for e in errors))
    for report in layers:
        if report.saturated:
            text = f"{100 * report.saturated:.2f} % of the weights exceed 8 bits at scale {report.scale}: clamped"
            findings.append(Finding("warning", report.name, "saturated", text))
    write_netx(network, path)
    return ExportReport(network, tuple(layers), tuple(findings))
