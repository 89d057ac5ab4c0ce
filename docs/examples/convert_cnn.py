"""Train a small residual CNN on handwritten digits, convert it, and read what the conversion costs.

Prints the report of the conversion and the accuracy over time steps of several recipes, and leaves the converted
network, the report and two figures under ``--output``.
"""

import argparse
import os
from pathlib import Path

import torch
from digits import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from snn_base.plot import accuracy_over_time
from snn_base.progress import progress
from snn_convert import accuracy_curve, check, conversion_report, convert, load, save, search_timesteps


class Net(nn.Module):
    """Convolutions with a residual sum, batch norms and maximum pooling."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(channels)
        self.block = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.block_norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels * 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.relu(x + self.block_norm(self.block(x)))
        x = F.adaptive_avg_pool2d(F.max_pool2d(x, 2), 4)
        y: Tensor = self.head(x.flatten(1))
        return y


def train(net: nn.Module, x: Tensor, y: Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in progress(range(epochs), desc="training"):
        for rows in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()


def main() -> None:
    quick = bool(os.environ.get("SNN_EXAMPLE_QUICK"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .npz file or a folder of IDX files; default: the digits of scikit-learn")
    parser.add_argument("--epochs", type=int, default=3 if quick else 15)
    parser.add_argument("--timesteps", type=int, default=4, help="steps T to convert for")
    parser.add_argument("--output", type=Path, default=Path("convert_cnn_output"))
    args = parser.parse_args()
    torch.manual_seed(0)
    data = load_digits(args.data)
    model = Net(24, int(data.y_train.max()) + 1)
    train(model, data.x_train, data.y_train, args.epochs)
    with torch.no_grad():
        reference = float((model(data.x_test).argmax(1) == data.y_test).double().mean())
    print(f"the network itself: {100 * reference:.2f} %")

    print(check(model, data.x_train[:8]))
    calibration = data.x_train[:512].split(128)
    test = list(zip(data.x_test.split(128), data.y_test.split(128), strict=True))
    curves = {}
    for recipe in ("rate_coding", "binary", "signed", "graded"):
        snn = convert(model, calibration, timesteps=args.timesteps, recipe=recipe)
        curve = accuracy_curve(snn, test, (1, 2, 4, 8, 16, 32))
        curves[recipe] = curve.accuracy
        spikes = conversion_report(model, snn, data.x_test[:128]).spikes
        shown = "  ".join(f"T={steps}: {100 * value:.1f}" for steps, value in curve.accuracy.items())
        print(f"{recipe:12s} {shown}  ({spikes:.0f} spikes in {args.timesteps} steps)")

    snn = convert(model, calibration, timesteps=args.timesteps)
    report = conversion_report(model, snn, data.x_test[:256])
    print(f"\n{report}\n")
    steps = search_timesteps(snn, test, reference - 0.02)
    print(f"T = {steps} is enough for two points below the network itself")

    args.output.mkdir(parents=True, exist_ok=True)
    save(snn, args.output / "digits.safetensors")
    with torch.no_grad():
        same = torch.equal(load(args.output / "digits.safetensors").run(data.x_test[:64]), snn.run(data.x_test[:64]))
    print(f"read back from {args.output / 'digits.safetensors'}: {'the same' if same else 'DIFFERENT'} output")
    report.to_json(args.output / "report.json")
    try:
        figures = {"errors": report.plot(), "accuracy": accuracy_over_time(curves, reference=reference)}
    except ImportError as error:
        print(f"no figures: {error}")
        return
    for name, figure in figures.items():
        figure.savefig(args.output / f"{name}.png", dpi=150, bbox_inches="tight")
    print(f"the report and its figures are in {args.output}")


if __name__ == "__main__":
    main()
