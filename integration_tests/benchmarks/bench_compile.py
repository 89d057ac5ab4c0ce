"""Training steps of a compiled and a plain net over several T and batch sizes, and the number of compilations.

python integration_tests/benchmarks/bench_compile.py [--rounds 7] [--out compile.json]
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from common import make_net
from torch import Tensor, nn
from torch._dynamo.utils import counters

from snn_base import reset_net


def step(net: nn.Module, run: nn.Module, x: Tensor) -> float:
    start = time.perf_counter()
    reset_net(net)
    run(x).mean(0).square().mean().backward()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    plain, other = make_net(28), make_net(28)
    compiled = torch.compile(other, fullgraph=True)
    rows = []
    print("| T | batch | plain ms | compiled ms | speed-up | compilations so far |\n|---|---|---|---|---|---|")
    for steps in (4, 8, 16, 100, 1):
        for batch in (8, 16, 32):
            x = torch.rand(steps, batch, 1, 28, 28)
            torch._dynamo.maybe_mark_dynamic(x, (0, 1))
            times: dict[str, list[float]] = {"plain": [], "compiled": []}
            for i in range(args.rounds + 1):
                pair = {"plain": step(plain, plain, x), "compiled": step(other, compiled, x)}
                for name, seconds in pair.items():
                    if i:
                        times[name].append(seconds * 1e3)
            medians = {name: statistics.median(values) for name, values in times.items()}
            graphs = counters["stats"]["unique_graphs"]
            rows.append({"T": steps, "batch": batch, **medians, "graphs": graphs})
            ratio = medians["plain"] / medians["compiled"]
            numbers = f"{medians['plain']:.1f} | {medians['compiled']:.1f} | {ratio:.2f} | {graphs}"
            print(f"| {steps} | {batch} | {numbers} |", flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
