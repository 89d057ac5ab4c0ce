"""Write a spiking network as a NIR file, read it back, and show that both give the same spikes.

The file can be read by snnTorch, Norse, sinabs and others; docs/nir.md says which neurons they agree on. A network with
parts that NIR lacks is refused by name. ``--figure FILE`` draws the output of both networks.
"""

import argparse
import os
import tempfile
from pathlib import Path

import nir
import torch
from torch import Tensor, nn

from snn_base import reset_net
from snn_convert import NIRError, from_nir, to_nir
from snn_layers import Conv2d, Flatten, Linear, MaxPool2d, SpikingSequential
from snn_neurons import CubaLIFNode, LIFNode, RecurrentLIFNode

STEPS, DT = 100, 1e-4


# --8<-- [start:net]
def make_net() -> SpikingSequential:
    return SpikingSequential(
        Conv2d(2, 8, 3, padding=1, groups=2),
        LIFNode(tau=2.5, v_threshold=0.4),
        Flatten(),
        Linear(8 * 8 * 8, 20),
        RecurrentLIFNode(20, tau=4.0, v_threshold=0.4),
        Linear(20, 10),
        CubaLIFNode(current_decay=0.4, voltage_decay=0.1, v_threshold=0.7),
        step_mode="m",
    )


# --8<-- [end:net]


def draw(path: Path, spikes: Tensor, theirs: Tensor) -> None:
    """The output spikes of one sample: bars of the network, circles of the one that was read back."""
    import matplotlib

    matplotlib.use("Agg")
    from snn_base import plot

    figure = plot.raster(spikes[:, 0])
    time, neuron = theirs[:, 0].nonzero(as_tuple=True)
    axis = figure.axes[0]
    axis.scatter(time.numpy(), neuron.numpy(), s=45, facecolors="none", edgecolors="C1", linewidths=0.8)
    axis.legend(
        ["network", "read back from the file"], loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("SNN_EXAMPLE_QUICK")))
    parser.add_argument("--out", type=Path, help="where to keep the file")
    parser.add_argument("--figure", type=Path, help="where to draw the output spikes; needs matplotlib")
    args = parser.parse_args()
    torch.manual_seed(0)
    net = make_net()
    graph = to_nir(net, (2, 8, 8), dt=DT)
    for name, node in graph.nodes.items():
        print(f"{name:8} {type(node).__name__}")
    x_seq = (torch.rand(STEPS, 2 if args.quick else 16, 2, 8, 8) < 0.3).float() * 2
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = args.out or Path(folder, "net.nir")
        nir.write(path, graph)
        again = from_nir(path, dt=DT, step_mode="m")
        reset_net(net)
        spikes, theirs = net(x_seq), again(x_seq)
    print(f"{int(spikes.sum())} output spikes, {int((spikes != theirs).sum())} differ after the way through the file")
    if not torch.equal(spikes, theirs):
        raise SystemExit("the file does not say what the network computes")
    if args.figure:
        draw(args.figure, spikes, theirs)
    try:
        to_nir(nn.Sequential(net[0], LIFNode(v_reset=None), MaxPool2d(2)), (2, 8, 8), dt=DT)
    except NIRError as error:
        print(error)


if __name__ == "__main__":
    main()
