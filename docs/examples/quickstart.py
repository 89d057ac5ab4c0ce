"""Spiking networks on handwritten digits, four ways: trained, converted, taught by STDP, and written for Loihi 2.

    python docs/examples/quickstart.py [--data mnist.npz] [--epochs 12] [--output quickstart_output]

Prints accuracy, firing rates and time, and writes figures, weights, a Loihi file that is checked to the bit, and
``report.html``, one page that holds all of it.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.nn.functional as F
from digits import Digits, fail, load_digits
from html_report import Section, html_report
from torch import Tensor, nn

from snn_base import Recorder, reset_net
from snn_base.progress import progress
from snn_layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from snn_neurons import LIFNode

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# --8<-- [start:net]
def make_net(height: int, width: int, classes: int, channels: int = 24) -> nn.Sequential:
    """Conv-BN-LIF-pool twice, then a linear readout; every layer takes a sequence ``[T, N, ...]``."""
    return nn.Sequential(
        Conv2d(1, channels, 3, padding=1, bias=False, step_mode="m"),
        BatchNorm2d(channels, step_mode="m"),
        LIFNode(step_mode="m"),
        MaxPool2d(2, step_mode="m"),
        Conv2d(channels, 2 * channels, 3, padding=1, bias=False, step_mode="m"),
        BatchNorm2d(2 * channels, step_mode="m"),
        LIFNode(step_mode="m"),
        MaxPool2d(2, step_mode="m"),
        Flatten(step_mode="m"),
        Linear(2 * channels * (height // 4) * (width // 4), classes, step_mode="m"),
    )


# --8<-- [end:net]


# --8<-- [start:predict]
def predict(net: nn.Module, x: Tensor, steps: int) -> Tensor:
    """Class scores ``[N, classes]``: the readout averaged over ``steps`` presentations of the images."""
    reset_net(net)
    return net(x.expand(steps, *x.shape)).mean(0)


# --8<-- [end:predict]


@torch.no_grad()
def evaluate(net: nn.Module, x: Tensor, y: Tensor, steps: int, classes: int) -> tuple[float, Tensor]:
    """Accuracy and the confusion matrix ``[true, predicted]``."""
    net.eval()
    guess = torch.cat([predict(net, part, steps).argmax(1) for part in x.split(256)])
    counts = torch.bincount(y * classes + guess, minlength=classes**2).view(classes, classes)
    return (guess == y).float().mean().item(), counts


def train(net: nn.Module, data: Digits, epochs: int, batch: int, steps: int, classes: int) -> dict[str, list[float]]:
    """Train with Adam under one learning-rate cycle; returns the history per epoch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    per_epoch = -(-len(data.x_train) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=epochs * per_epoch)
    history: dict[str, list[float]] = {"training loss": [], "test error": []}
    for epoch in range(epochs):
        net.train()
        total = 0.0
        order = torch.randperm(len(data.x_train)).split(batch)
        for index in progress(order, desc=f"epoch {epoch + 1}/{epochs}"):
            # --8<-- [start:step]
            loss = F.cross_entropy(predict(net, data.x_train[index], steps), data.y_train[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            # --8<-- [end:step]
            total += loss.item() * len(index)
        accuracy, _ = evaluate(net, data.x_test, data.y_test, steps, classes)
        history["training loss"].append(total / len(data.x_train))
        history["test error"].append(1 - accuracy)
        print(f"epoch {epoch + 1:2d}  loss {history['training loss'][-1]:.4f}  test accuracy {100 * accuracy:.2f} %")
    return history


# --8<-- [start:record]
@torch.no_grad()
def record(net: nn.Sequential, x: Tensor, steps: int) -> tuple[dict[str, Tensor], Tensor]:
    """Spikes ``[T, N, ...]`` of both LIF layers and the membrane potential of the second one."""
    net.eval()
    net[6].store_v_seq = True
    with Recorder(net, outputs=["2", "6"], memories="6.v_seq") as recorder:
        predict(net, x, steps)
    net[6].store_v_seq = False
    return {"conv 1": recorder["2"], "conv 2": recorder["6"]}, recorder["6.v_seq"]


# --8<-- [end:record]


def draw(spikes: dict[str, Tensor], v: Tensor, counts: Tensor, history: dict[str, list[float]]) -> "dict[str, Figure]":
    """The figures of the trained network, by name."""
    from snn_base import plot

    last = spikes["conv 2"]
    rate = last[:, 0].flatten(1).mean(0)
    telling = (rate - 0.2).abs().argsort()[:3].tolist()  # neurons that neither rest nor fire at every step
    return {
        "spike_raster": plot.raster(last[:, 0, :8]),
        "membrane": plot.membrane(v[:, 0], last[:, 0], threshold=1.0, neurons=telling),
        "firing_rates": plot.rate_histogram({name: s.mean((0, 1)) for name, s in spikes.items()}),
        "confusion_matrix": plot.confusion_matrix(counts),
        "learning_curve": plot.learning_curve(history, ylabel="loss, error"),
    }


def replace_folder(finished: Path, output: Path) -> None:
    """Put a finished folder where the old output was, so that no half-written result is ever found there."""
    old = output.with_name(output.name + ".old")
    if old.exists():
        shutil.rmtree(old)
    if output.exists():
        output.rename(old)
    finished.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .npz file or a folder of IDX files; default: the digits of scikit-learn")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4, help="time steps T")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("quickstart_output"))
    args = parser.parse_args()
    for name in ("epochs", "batch", "steps"):
        if getattr(args, name) < 1:
            fail(f"--{name} must be at least 1, got {getattr(args, name)}")
    try:
        import matplotlib
    except ImportError:
        fail("the figures need matplotlib: pip install snn-base[plot]")
    matplotlib.use("Agg")
    import chapters

    data = load_digits(args.data)
    height, width = data.x_train.shape[-2:]
    if min(height, width) < 4:
        fail(f"images of {height} x {width} pixels are too small; 4 x 4 is the least")
    if args.output.exists() and not args.output.is_dir():
        fail(f"--output {args.output} is a file; give a folder")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{args.output.name}-", dir=args.output.parent))
    os.chmod(scratch, 0o755)
    try:
        start = time.perf_counter()
        torch.manual_seed(args.seed)
        classes = int(max(data.y_train.max(), data.y_test.max())) + 1
        net = make_net(height, width, classes)
        print(
            f"{len(data.x_train)} training and {len(data.x_test)} test images of {height} x {width}, {args.steps} steps"
        )
        history = train(net, data, args.epochs, args.batch, args.steps, classes)
        accuracy, counts = evaluate(net, data.x_test, data.y_test, args.steps, classes)
        spikes, v = record(net, data.x_test[:256], max(args.steps, 32))
        torch.save(net.state_dict(), scratch / "weights.pt")
        lines = [f"test accuracy      {100 * accuracy:.2f} %"]
        lines += [f"firing rate {name}  {s.mean():.3f} spikes per step" for name, s in spikes.items()]
        short = min(args.epochs, 9)
        trained = Section(
            "Trained", "A convolutional network, by surrogate gradients.", lines, draw(spikes, v, counts, history)
        )
        text = "An ordinary ReLU network made spiking; the dashed line is its own accuracy."
        converted = Section("Converted", text, *chapters.conversion(data, classes, short))
        text = "Competing neurons with STDP; labels only name the neurons afterwards."
        learned = Section("Learned locally", text, *chapters.local_learning(data, classes, short, args.seed))
        text = (
            "Integer weights and the chip's neuron; the file's integer simulation was compared with the trained module."
        )
        deployed = Section(
            "Written for Loihi 2", text, *chapters.deployment(data, classes, short, scratch / "digits.net")
        )
        sections = [trained, converted, learned, deployed]
        for section in sections:
            for name, figure in section.figures.items():
                figure.savefig(scratch / f"{name}.png", dpi=150)
        lines = [line for section in sections for line in section.lines]
        lines.append(f"time               {time.perf_counter() - start:.0f} s")
        (scratch / "report.html").write_text(html_report("Spiking networks on handwritten digits", sections))
        (scratch / "report.txt").write_text("\n".join(lines) + "\n")
        replace_folder(scratch, args.output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n".join(lines))
    print(f"read {args.output / 'report.html'}; figures, weights and the Loihi file lie beside it")


if __name__ == "__main__":
    main()
