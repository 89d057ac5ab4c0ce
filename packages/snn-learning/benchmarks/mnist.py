"""Unsupervised MNIST: one pass over the training images, labels only to name the neurons, accuracy on the test images.

    python mnist.py --data mnist.npz --neurons 100,400,1600 --seeds 0,1,2 --output results

Writes results.json after every run and results.md at the end. One thread; times are wall-clock seconds.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snn_learning.networks import DiehlCookNetwork, RetinaEncoder, assign_labels, classify

READOUTS = ("all_activity", "proportion", "likelihood")
ARRAYS = ("x_train", "y_train", "x_test", "y_test")


def load(path: Path) -> list[Tensor]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return [torch.from_numpy(file[name]) for name in ARRAYS]
    except Exception as error:
        print(f"error: --data {path} must be an .npz file with {', '.join(ARRAYS)}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def present(net: DiehlCookNetwork, encoder: RetinaEncoder, images: Tensor) -> Tensor:
    return torch.cat([net.respond(encoder(part)).sum(0) for part in images.split(100)])


def measure(data: list[Tensor], neurons: int, seed: int, args: argparse.Namespace) -> dict[str, float]:
    x_train, y_train, x_test, y_test = data
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x_train), generator=generator)[: args.images]
    x_train, y_train = x_train[order], y_train[order]
    net = DiehlCookNetwork(x_train[0].numel(), neurons, anneal_samples=len(x_train), generator=generator)
    encoder = RetinaEncoder(args.steps, seed=seed)
    start = time.perf_counter()
    for images in x_train.split(args.batch):
        net.learn(encoder(images))
    learned = time.perf_counter()
    net.eval()
    encoder.steps = args.test_steps
    named = slice(0, args.assign)
    assignment = assign_labels(present(net, encoder, x_train[named]), y_train[named], classes=10)
    assigned = time.perf_counter()
    counts = present(net, encoder, x_test)
    result: dict[str, float] = {"neurons": neurons, "seed": seed}
    for readout in READOUTS:
        result[readout] = (classify(counts, assignment, readout=readout) == y_test).float().mean().item()
    end = time.perf_counter()
    return result | {
        "train_s": learned - start, "assign_s": assigned - learned, "test_s": end - assigned, "total_s": end - start,
        "spikes_per_image": counts.sum(1).mean().item(),
    }  # fmt: skip


def markdown(results: list[dict[str, float]]) -> str:
    lines = [
        "| neurons | seed | all activity | proportion | likelihood | learning | naming | test | together |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in results:
        shares = " | ".join(f"{100 * r[name]:.2f} %" for name in READOUTS)
        times = " | ".join(f"{r[name]:.0f} s" for name in ("train_s", "assign_s", "test_s", "total_s"))
        lines.append(f"| {r['neurons']} | {r['seed']} | {shares} | {times} |")
    for neurons in sorted({r["neurons"] for r in results}):
        of = [r for r in results if r["neurons"] == neurons]
        shares = " | ".join(f"{100 * statistics.mean(r[name] for r in of):.2f} %" for name in READOUTS)
        times = " | ".join(
            f"{statistics.mean(r[name] for r in of):.0f} s" for name in ("train_s", "assign_s", "test_s", "total_s")
        )
        lines.append(f"| {neurons} | mean of {len(of)} | {shares} | {times} |")
    return "\n".join(lines) + "\n"


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=".npz file with x_train, y_train, x_test, y_test")
    parser.add_argument("--neurons", type=numbers, default=[100, 400, 1600], help="comma-separated")
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], help="comma-separated")
    parser.add_argument("--images", type=int, default=60_000, help="training images, each shown once")
    parser.add_argument("--assign", type=int, default=20_000, help="training images shown again to name the neurons")
    parser.add_argument("--steps", type=int, default=20, help="length of a presentation while learning")
    parser.add_argument("--test-steps", type=int, default=40, help="length of a presentation after learning")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--output", type=Path, default=Path("mnist"), help="stem of the .json and .md files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load(args.data)
    settings = {k: v for k, v in vars(args).items() if isinstance(v, int)}
    settings |= {"torch": torch.__version__, "python": platform.python_version()}
    results: list[dict[str, float]] = []
    for neurons in args.neurons:
        for seed in args.seeds:
            results.append(measure(data, neurons, seed, args))
            print(json.dumps(results[-1]), flush=True)
            content = json.dumps({"settings": settings, "results": results}, indent=1)
            args.output.with_suffix(".json").write_text(content + "\n")
    args.output.with_suffix(".md").write_text(markdown(results))


if __name__ == "__main__":
    main()
