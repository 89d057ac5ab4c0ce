"""Run the examples and draw every figure of the tutorials into this folder; a few minutes.

    python docs/figures/draw.py [--data mnist.npz] [--only stream loihi ...]

Without ``--data`` the figures of unsupervised learning keep what they show.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot

from snn_base import Recorder, plot

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import quickstart  # noqa: E402
from digits import load_digits  # noqa: E402


def example(name: str, *options: str | Path, processes: int = 0) -> str:
    """Run an example, under torchrun where ``processes`` is given, and return what it prints."""
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes else []
    command = [sys.executable, *launch, EXAMPLES / f"{name}.py", *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode and "--die-at" not in options:
        raise SystemExit(f"{name}.py failed:\n{done.stderr}")
    return done.stdout


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def digits(data: str | None) -> None:
    """The quickstart's figures, and one digit on its way through the trained network."""
    with folder() as here:
        print(example("quickstart", "--output", here / "out"))
        for source in sorted((here / "out").glob("*.png")):
            smaller(source, HERE / source.name.replace("_", "-"))
        net = quickstart.make_net(8, 8, 10)
        net.load_state_dict(torch.load(here / "out" / "weights.pt"))
    at_work(net.eval())


@torch.no_grad()
def at_work(net: torch.nn.Sequential, steps: int = 32) -> None:
    """A digit, the spikes of the second layer, a membrane potential, and the readout that decides."""
    image = load_digits().x_test[4:5]
    net[6].store_v_seq = True
    with Recorder(net, outputs=["6", "9"], memories="6.v_seq") as record:
        quickstart.predict(net, image, steps)
    spikes, v, scores = record["6"].flatten(1), record["6.v_seq"].flatten(1), record["9"][:, 0]
    rate = spikes.mean(0)
    active = (rate > 0.05).nonzero()[:, 0][:60]
    one = int((rate - 0.25).abs().argmin())
    figure, axes = pyplot.subplot_mosaic(
        [["digit", "spikes"], ["v", "v"], ["readout", "readout"]],
        figsize=(5.2, 6.0), layout="constrained", width_ratios=(1, 2.2), height_ratios=(1.6, 1, 1.4),
    )  # fmt: skip
    axes["digit"].imshow(image[0, 0].numpy(), cmap="gray_r")
    axes["digit"].set(title="input at every step", xticks=[], yticks=[])
    plot.raster(spikes[:, active], ax=axes["spikes"])
    axes["spikes"].set(title="spikes of the second convolution", xlabel="", ylabel="neuron")
    axes["v"].plot(v[:, one].numpy())
    axes["v"].axhline(1.0, color="gray", linestyle="--", linewidth=1)
    for t in spikes[:, one].nonzero()[:, 0].tolist():
        axes["v"].axvline(t, ymin=0.85, color="C3")
    axes["v"].set(title="membrane of one neuron, threshold dashed, spikes red", ylabel="v", xlim=(-0.5, steps - 0.5))
    mean = scores.cumsum(0) / torch.arange(1, steps + 1)[:, None]
    best = int(mean[-1].argmax())
    for k in range(mean.shape[1]):
        axes["readout"].plot(
            mean[:, k].numpy(), color="C0" if k == best else "0.8", label=f"class {k}" if k == best else None
        )
    axes["readout"].set(
        title="readout: mean score of each class so far",
        xlabel="time [steps]",
        ylabel="score",
        xlim=(-0.5, steps - 0.5),
    )
    axes["readout"].legend(frameon=False, loc="upper right")
    for axis in axes.values():
        axis.title.set_fontsize(10)
    figure.savefig(HERE / "at-work.png", dpi=110)


def smaller(source: Path, target: Path) -> None:
    """A picture with a palette of 64 colours, a third of the bytes."""
    from PIL import Image

    with Image.open(source) as image:
        image.convert("RGB").quantize(64).save(target, optimize=True)


def conversion(data: str | None) -> None:
    with folder() as here:
        print(example("convert_cnn", "--output", here))
        for source in ("errors", "accuracy"):
            smaller(here / f"{source}.png", HERE / f"convert-{source}.png")


def neuron(data: str | None) -> None:
    print(example("own_neuron", "--figure", HERE / "own-neuron.png"))


def stdp(data: str | None) -> None:
    """Receptive fields and confusion matrix on MNIST."""
    if data is None:
        print("stdp: no --data, the figures stay as they are")
        return
    with folder() as here:
        print(example("stdp_mnist", "--data", data, "--output", here))
        for source in ("receptive_fields.png", "confusion.png"):
            smaller(here / source, HERE / f"stdp-{source.replace('_', '-')}")


def loihi(data: str | None) -> None:
    print(example("deploy_to_loihi", "--figure", HERE / "loihi.png"))


def nir(data: str | None) -> None:
    print(example("exchange_nir", "--figure", HERE / "nir.png"))


def stream(data: str | None) -> None:
    print(example("stream", "--figure", HERE / "stream.png"))


def devices(data: str | None) -> None:
    """Losses of one process, of two, and of two that were killed and continued as one."""

    def losses(text: str) -> dict[int, float]:
        lines = (line.split() for line in text.splitlines() if line.startswith("step "))
        return {int(words[1]): float(words[3]) for words in lines}

    options = ("--steps", "40")
    runs = {
        "one process": losses(example("train_distributed", *options)),
        "two, DDP": losses(example("train_distributed", *options, processes=2)),
    }
    with folder() as here:
        sharded = (*options, "--engine", "fsdp", "--checkpoints", here)
        runs["two, FSDP2, killed at 17"] = losses(example("train_distributed", *sharded, "--die-at", "17", processes=2))
        runs["the same continued by one"] = losses(example("train_distributed", *sharded, processes=1))
    figure, axis = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
    for (name, run), marker in zip(runs.items(), ("-", "--", "x", "+"), strict=True):
        axis.plot(list(run), list(run.values()), marker, label=name)
    axis.set_xlabel("optimizer step")
    axis.set_ylabel("loss")
    axis.legend(frameon=False)
    figure.savefig(HERE / "devices.png", dpi=110)
    first = runs["one process"]
    for name, run in runs.items():
        worst = max(abs(loss - first[step]) for step, loss in run.items())
        print(f"{name}: {len(run)} losses, at most {worst:.1e} from those of one process")


PARTS = {part.__name__: part for part in (digits, neuron, conversion, stdp, loihi, nir, devices, stream)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .npz file or a folder of IDX files of MNIST")
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS))
    args = parser.parse_args()
    for name in args.only:
        PARTS[name](args.data)


if __name__ == "__main__":
    main()
