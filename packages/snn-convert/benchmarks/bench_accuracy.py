"""Accuracy of converted networks over time steps, beside SpikingJelly's conversions of the same weights.

Trains a plain and a residual network on images of 32 x 32 pixels (kept in ``--cache``), converts them with 512 training
images, and tests the first images of the test set. Cells that ``--json`` already holds are not computed again.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import networks
import numpy as np
import torch
from torch import Tensor, nn

from snn_convert import Recipe, convert

OURS = ("binary", "signed", "graded", "local_threshold_balancing", "braincog")
Run = Callable[[int], tuple[float, float]]


def peers() -> dict[str, dict[str, object]]:
    """SpikingJelly's conversions: name -> arguments of its recipe."""
    channels = {"channel_wise": True}
    return {
        "max": {"mode": "max"},
        "99.9 %": {"mode": "99.9%"},
        "0.8 max": {"mode": 0.8},
        "0.5 max": {"mode": 0.5},
        "channel-wise max, v = 1/2": {"mode": "max", "half_threshold": True, **channels},
        "channel-wise 99.9 %": {"mode": "99.9%", **channels},
        "channel-wise 99.9 %, v = 1/2": {"mode": "99.9%", "half_threshold": True, **channels},
        "channel-wise 99 %, v = 1/2, early pool": {
            "mode": "99%", "half_threshold": True, "pre_spike_maxpool": True, **channels
        },
        "local threshold balancing": {},
        "local threshold balancing, 16 passes": {},
    }  # fmt: skip


@contextmanager
def counted(modules: list[nn.Module], batch_of: Callable[[Tensor], Tensor]) -> Iterator[dict[str, float]]:
    """Count spikes, of either sign, and the neurons that they come from."""
    total = {"spikes": 0.0, "opportunities": 0.0}

    def hook(module: nn.Module, args: object, output: Tensor) -> None:
        total["spikes"] += batch_of(output).abs().sum().item()
        total["opportunities"] += output.numel()

    handles = [module.register_forward_hook(hook) for module in modules]
    yield total
    for handle in handles:
        handle.remove()


@torch.no_grad()
def ours(model: nn.Module, calibration: list[Tensor], recipe: str | Recipe, x: Tensor, y: Tensor, batch: int) -> Run:
    """A network is converted for the number of steps that it is run for."""

    def run(steps: int) -> tuple[float, float]:
        snn = convert(model, calibration, timesteps=steps, recipe=recipe)
        with torch.no_grad(), counted([n.node for n in snn.neurons().values()], lambda s: s) as total:
            right = sum(
                (snn.run(a).argmax(1) == b).sum().item() for a, b in zip(x.split(batch), y.split(batch), strict=True)
            )
        return 100 * right / len(y), total["spikes"] / total["opportunities"]

    return run


@torch.no_grad()
def spikingjelly(
    model: nn.Module, calibration: list[Tensor], name: str, x: Tensor, y: Tensor, batch: int, most: int
) -> Run:
    from spikingjelly.activation_based import ann2snn, functional, neuron
    from spikingjelly.activation_based.ann2snn import recipes

    if name.startswith("local threshold balancing"):
        recipe = recipes.LocalThresholdBalancingRecipe(calibration * (16 if "16" in name else 1))
    else:
        recipe = recipes.RateCodingRecipe(calibration, **peers()[name])
    snn = ann2snn.Converter(recipe).convert(model).eval()
    nodes = [m for m in snn.modules() if isinstance(m, neuron.BaseNode)]
    right, spikes, opportunities = np.zeros(most), np.zeros(most), 0
    for a, b in zip(x.split(batch), y.split(batch), strict=True):
        functional.reset_net(snn)
        out = torch.zeros(())
        for t in range(most):
            with counted(nodes, lambda s: s) as total:
                out = out + snn(a)
            right[t] += (out.argmax(1) == b).sum().item()
            spikes[t] += total["spikes"]
        opportunities += int(total["opportunities"])
    return lambda steps: (100 * right[steps - 1] / len(y), float(spikes[:steps].sum() / steps / opportunities))


def table(rows: list[dict[str, object]], network: str, timesteps: list[int]) -> str:
    """Accuracy and spikes per neuron and step, one conversion a line."""
    chosen = [r for r in rows if r["network"] == network]
    base = next((r["ann"] for r in chosen), float("nan"))
    heads = [f"T = {t}" for t in timesteps]
    lines = [f"{network}: the network itself has {base:.1f} %", ""]
    lines += ["| conversion | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in dict.fromkeys(str(r["conversion"]) for r in chosen):
        cells = []
        for t in timesteps:
            cell = next((r for r in chosen if r["conversion"] == name and r["T"] == t), None)
            cells.append(f"{cell['accuracy']:.1f} ({cell['spikes']:.3f})" if cell else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--cache", type=Path, default=Path("cache"), help="folder for trained weights")
    parser.add_argument("--json", type=Path, default=Path("accuracy.jsonl"), help="file of results, appended to")
    parser.add_argument("--networks", nargs="*", default=list(networks.NETWORKS), choices=list(networks.NETWORKS))
    parser.add_argument("--recipes", nargs="*", default=list(OURS), help="of snn_convert")
    parser.add_argument("--peers", nargs="*", default=list(peers()), help="conversions of SpikingJelly")
    parser.add_argument("--timesteps", nargs="*", type=int, default=[2, 4, 8, 16, 32, 64])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=1000, help="test images")
    parser.add_argument("--calibration", type=int, default=512, help="training images")
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the tables of the file and stop")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows: list[dict[str, object]] = []
    if args.json.exists():
        rows = [json.loads(line) for line in args.json.read_text().splitlines()]
    if not args.table:
        measure(args, rows)
    for network in args.networks:
        print(table(rows, network, args.timesteps))


def measure(args: argparse.Namespace, rows: list[dict[str, object]]) -> None:
    data = dict(np.load(args.data))
    x = networks.images(data["x_test"][: args.images])
    y = torch.from_numpy(data["y_test"][: args.images]).long()
    chosen = np.random.default_rng(0).permutation(len(data["x_train"]))[: args.calibration]
    calibration = list(networks.images(data["x_train"][chosen]).split(64))
    for network in args.networks:
        model = networks.train(network, data, args.epochs, args.cache).to(memory_format=torch.contiguous_format)
        ann = networks.accuracy(model, x, y)
        for library, names in (("snn_convert", args.recipes), ("SpikingJelly", args.peers)):
            for name in names:
                title = f"{library}: {name}"
                done = {r["T"] for r in rows if r["network"] == network and r["conversion"] == title}
                wanted = [t for t in args.timesteps if t not in done]
                if not wanted:
                    continue
                if library == "snn_convert":
                    run = ours(model, calibration, name, x, y, args.batch)
                else:
                    try:
                        run = spikingjelly(model, calibration, name, x, y, args.batch, max(wanted))
                    except ImportError:
                        print("spikingjelly is not installed: only ours is measured", file=sys.stderr)
                        break
                for steps in wanted:
                    accuracy, spikes = run(steps)
                    row = {"network": network, "ann": ann, "conversion": title, "T": steps}
                    rows.append({**row, "accuracy": accuracy, "spikes": spikes})
                    with args.json.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
                    print(f"{network} {title} T = {steps}: {accuracy:.1f} %, {spikes:.3f} spikes", flush=True)


if __name__ == "__main__":
    main()
