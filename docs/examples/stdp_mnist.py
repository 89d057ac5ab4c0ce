"""Digits learned without labels: winner-take-all spiking neurons and post-gated STDP.

    python stdp_mnist.py                                    # scikit-learn's 8x8 digits, a few seconds
    python stdp_mnist.py --data mnist.npz --neurons 400     # one pass over the training images
    python stdp_mnist.py --data mnist.npz --resume out/checkpoint.pt

Labels are used only after training, to name the neurons. Figures are drawn where matplotlib is installed.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from digits import Digits, fail, load_digits
from torch import Tensor

from snn_base.progress import progress
from snn_learning.networks import DiehlCookNetwork, RetinaEncoder, assign_labels, classify

READOUTS = ("all_activity", "proportion", "likelihood")


@dataclass
class Run:
    """Everything that changes while learning; ``net.samples`` says how many images have been seen."""

    net: DiehlCookNetwork
    encoder: RetinaEncoder
    config: dict[str, Any]

    @classmethod
    def start(cls, config: dict[str, Any]) -> "Run":
        height, width = config["size"]
        net = DiehlCookNetwork(
            height * width,
            config["neurons"],
            anneal_samples=config["epochs"] * config["images"],
            generator=torch.Generator().manual_seed(config["seed"]),
        )
        encoder = RetinaEncoder(
            config["steps"], sigma=config["sigma"], contrast=config["contrast"], seed=config["seed"]
        )
        return cls(net, encoder, config)

    def save(self, path: Path) -> None:
        state = {"config": self.config, "net": self.net.state_dict(), "encoder": self.encoder.state_dict()}
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)  # whoever interrupts the writing still has the old checkpoint

    @classmethod
    def load(cls, path: Path) -> "Run":
        if not path.is_file():
            fail(f"{path} does not exist; --resume takes a checkpoint.pt that an earlier run wrote")
        try:
            state = torch.load(path, weights_only=True)
            run = cls.start(state["config"])
            run.net.load_state_dict(state["net"])
            run.encoder.load_state_dict(state["encoder"])
        except Exception as error:
            fail(f"{path} is no checkpoint of this example ({type(error).__name__} on reading it)")
        return run


def train(
    run: Run, images: Tensor, *, checkpoint: Path | None = None, every: int = 200, until: int | None = None
) -> None:
    """Learn what is left of the epochs, or up to ``until`` images; every epoch has its own order, given by the seed."""
    total, batch = run.config["epochs"] * len(images), run.config["batch"]
    until = total if until is None else min(until, total)
    run.net.train()
    updates = 0
    while (seen := int(run.net.samples)) < until:
        epoch, start = divmod(seen, len(images))
        generator = torch.Generator().manual_seed(1000 * run.config["seed"] + epoch)
        order = torch.randperm(len(images), generator=generator)
        for rows in progress(order[start:].split(batch), desc=f"pass {epoch + 1} of {run.config['epochs']}"):
            run.net.learn(run.encoder(images[rows]))
            updates += 1
            if checkpoint is not None and updates % every == 0:
                run.save(checkpoint)
            if int(run.net.samples) >= until:
                break
    if checkpoint is not None:
        run.save(checkpoint)


@torch.no_grad()
def responses(run: Run, images: Tensor, *, steps: int) -> Tensor:
    """Present images without learning and return the spikes of every neuron, ``[N, neurons]``."""
    run.net.eval()
    encoder = RetinaEncoder(steps, sigma=run.encoder.sigma, contrast=run.encoder.contrast, seed=run.config["seed"] + 1)
    return torch.cat([run.net.respond(encoder(part)).sum(0) for part in images.split(250)])


def figures(run: Run, labels: Tensor, confusion: Tensor, folder: Path) -> Iterator[Path]:
    """Draw the receptive fields of up to ten neurons of each class, and the confusion matrix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    height, width = run.config["size"]
    fig, axes = plt.subplots(10, 10, figsize=(5.2, 5.2), squeeze=False)
    for digit, line in enumerate(axes):
        named = (labels == digit).nonzero()[:, 0].tolist()
        for column, axis in enumerate(line):
            axis.set(xticks=[], yticks=[])
            axis.axis("on" if column == 0 else "off")
            axis.spines[:].set_visible(False)
            if column < len(named):
                axis.imshow(run.net.weight[named[column]].view(height, width).numpy(), cmap="hot_r")
        line[0].set_ylabel(str(digit), rotation=0, va="center", labelpad=10)
    fig.supylabel("class", fontsize="medium")
    yield _save(fig, folder / "receptive_fields.png")

    fig, axis = plt.subplots(figsize=(5, 4.5))
    shares = confusion / confusion.sum(1, keepdim=True).clamp_min(1)
    axis.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    for i in range(len(confusion)):
        for j in range(len(confusion)):
            color = "white" if shares[i, j] > 0.5 else "black"
            axis.text(j, i, str(int(confusion[i, j])), ha="center", va="center", fontsize=7, color=color)
    axis.set(xlabel="class read out", ylabel="true class", xticks=range(len(confusion)), yticks=range(len(confusion)))
    yield _save(fig, folder / "confusion.png")


def _save(fig: Any, path: Path) -> Path:
    from matplotlib import pyplot as plt

    fig.tight_layout()
    fig.savefig(path, dpi=150)
    plt.close(fig)
    return path


def options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help=".npz file or folder of IDX files; scikit-learn's digits by default")
    parser.add_argument("--neurons", type=int, help="competing neurons (100 for the small digits, 400 with --data)")
    parser.add_argument("--images", type=int, help="use only the first so many training images")
    parser.add_argument("--epochs", type=int, help="passes over the images (10 for the small digits, 1 with --data)")
    parser.add_argument("--batch", type=int, default=32, help="images of one update")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("stdp_mnist_output"), help="folder for what is written")
    parser.add_argument("--resume", type=Path, help="checkpoint.pt to go on from; its settings hold")
    parser.add_argument("--quick", action="store_true", help="a shorter run, to see that it works")
    args = parser.parse_args(arguments)
    for name in ("neurons", "images", "epochs", "batch"):
        value = getattr(args, name)
        if value is not None and value < 1:
            fail(f"--{name} must be at least 1, got {value}")
    args.quick = args.quick or os.environ.get("SNN_EXAMPLE_QUICK") == "1"
    return args


def configuration(args: argparse.Namespace, images: Tensor) -> dict[str, Any]:
    small = images.shape[-1] < 16
    return {
        "size": list(images.shape[1:]),
        "images": len(images),
        "neurons": args.neurons or (100 if small else 400),
        "epochs": args.epochs or (2 if args.quick else 10 if small else 1),
        "batch": args.batch,
        "seed": args.seed,
        "steps": 20,
        "sigma": 0.0 if small else 0.8,  # a pixel of the small digits is a receptive field already
        "contrast": 3.0 if small else 4.0,
    }


def main(arguments: list[str] | None = None) -> float:
    args = options(arguments)
    data: Digits = load_digits(args.data)
    if args.quick and args.images is None:
        args.images = 3000
    x_train, y_train = data.x_train[: args.images].squeeze(1), data.y_train[: args.images]
    x_test = data.x_test.squeeze(1)
    run = Run.load(args.resume) if args.resume else Run.start(configuration(args, x_train))
    if run.config["size"] != list(x_train.shape[1:]) or run.config["images"] != len(x_train):
        fail(f"{args.resume} was made with {run.config['images']} images of size {run.config['size']}, the data differ")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--output {args.output} cannot be made: {error.strerror}")

    start = time.perf_counter()
    train(run, x_train, checkpoint=args.output / "checkpoint.pt")
    print(f"learned {int(run.net.samples)} images in {time.perf_counter() - start:.0f} s")
    steps = 2 * run.config["steps"]
    assignment = assign_labels(responses(run, x_train, steps=steps), y_train, classes=10)
    counts = responses(run, x_test, steps=steps)
    accuracies = {r: float((classify(counts, assignment, readout=r) == data.y_test).float().mean()) for r in READOUTS}
    for readout, accuracy in accuracies.items():
        print(f"{readout:13s} {accuracy:.2%}")
    read_out = classify(counts, assignment)
    confusion = torch.bincount(10 * data.y_test + read_out, minlength=100).view(10, 10).float()
    try:
        for path in figures(run, assignment.labels, confusion, args.output):
            print(path)
    except ImportError:
        print("no figures: pip install matplotlib")
    return accuracies["likelihood"]


if __name__ == "__main__":
    main()
