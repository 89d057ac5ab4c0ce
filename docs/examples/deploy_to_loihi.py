"""Train a spiking network on handwritten digits with the chip's weights, write a Loihi 2 file and prove it exact.

The network is trained twice: with float weights, then with quantised ones. Its ``.net`` file is then run in the integer
simulation of the chip and compared with the trained module spike by spike. ``--figure FILE`` draws one digit's way.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from snn_base import reset_net
from snn_lava_bridge import (
    CubaLIFNode,
    FlattenBlock,
    choose_scales,
    conv_block,
    dense_block,
    export_netx,
    lint,
    simulate,
    verify,
)
from snn_neurons.surrogates import ATan

STEPS, SHOWN = 10, 8


def encode(images: Tensor) -> Tensor:
    """Spikes ``[T, N, 1, 8, 8]``: at step t the pixels brighter than level t, then silence for the layers' latency."""
    levels = (torch.arange(SHOWN) + 0.5) / SHOWN * 16
    spikes = (images.unsqueeze(0) > levels.view(-1, 1, 1, 1)).unsqueeze(2).float()
    return torch.cat([spikes, spikes.new_zeros(STEPS - SHOWN, *spikes.shape[1:])])


# --8<-- [start:net]
def make_net(*, quantize: bool) -> nn.Sequential:
    def neuron(threshold: float) -> CubaLIFNode:
        return CubaLIFNode(0.5, 0.125, threshold, requires_grad=True, surrogate_function=ATan(), step_mode="m")

    return nn.Sequential(
        conv_block(1, 12, 3, neuron(0.5), padding=1, quantize=quantize, step_mode="m"),
        FlattenBlock(),
        dense_block(12 * 64, 50, neuron(0.5), quantize=quantize, step_mode="m"),
    )


# --8<-- [end:net]


def scores(spikes: Tensor) -> Tensor:
    """Spike counts of the ten classes, five neurons each."""
    return spikes.sum(0).unflatten(1, (10, 5)).sum(2)


def train(net: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, lr: float) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    net.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(labels)).split(64):
            reset_net(net)
            loss = F.cross_entropy(scores(net(encode(images[chosen]))) / 3, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(spikes: Tensor, labels: Tensor) -> float:
    return 100 * float((scores(spikes).argmax(1) == labels).float().mean())


@torch.no_grad()
def run(net: nn.Module, x: Tensor) -> Tensor:
    net.eval()
    reset_net(net)
    spikes: Tensor = net(x)
    reset_net(net)
    return spikes


def draw(path: Path, image: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """One digit, the spikes that encode it, and the output spikes of the file's simulation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from snn_base import plot

    figure, axes = pyplot.subplot_mosaic(
        [["digit", "input"], ["digit", "output"]], figsize=(5.2, 4.4), layout="constrained", width_ratios=(1, 2.4)
    )
    axes["digit"].imshow(image.numpy(), cmap="gray_r")
    axes["digit"].set_axis_off()
    plot.raster(inputs, ax=axes["input"])
    axes["input"].set(title="input spikes", xlabel="", ylabel="pixel")
    plot.raster(outputs, ax=axes["output"])
    axes["output"].set(title="output spikes", ylabel="five neurons per class", yticks=range(0, 51, 10))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("SNN_EXAMPLE_QUICK")))
    parser.add_argument("--out", type=Path, help="where to keep the .net file")
    parser.add_argument("--figure", type=Path, help="where to draw one digit; needs matplotlib")
    args = parser.parse_args()
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()
    labels = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(labels))
    chosen, rest = order[:1400], order[1400:]
    test, answers = encode(images[rest]), labels[rest]
    epochs = 3 if args.quick else 15

    float_net = make_net(quantize=False)
    train(float_net, images[chosen], labels[chosen], epochs=epochs, lr=5e-3)

    # --8<-- [start:quantised]
    net = make_net(quantize=True)
    net.load_state_dict(float_net.state_dict())
    for choice in choose_scales(net, max_saturated=0.001):
        print(f"block {choice.name}: scale {choice.scale}, {100 * choice.saturated:.2f} % of the weights saturate")
    rounded = accuracy(run(net, test), answers)
    train(net, images[chosen], labels[chosen], epochs=max(1, epochs // 3), lr=1e-3)
    # --8<-- [end:quantised]

    with tempfile.TemporaryDirectory() as folder:
        path = args.out or Path(folder, "digits.net")
        # --8<-- [start:file]
        print(export_netx(net, path, (1, 8, 8)))
        for finding in lint(path, spikes=test[:, :50]):
            print(finding)
        print(verify(net, path, test))
        simulated = simulate(path, test)
        # --8<-- [end:file]
        print(f"float weights        {accuracy(run(float_net, test), answers):6.2f} %")
        print(f"rounded weights      {rounded:6.2f} %")
        print(f"trained quantised    {accuracy(run(net, test), answers):6.2f} %")
        print(f"simulated chip file  {accuracy(simulated, answers):6.2f} %")
        if not torch.equal(simulated, run(net, test)):
            raise SystemExit("the file does not compute what was trained")
    if args.figure:
        draw(args.figure, images[rest][0], test[:, 0], simulated[:, 0])


if __name__ == "__main__":
    main()
