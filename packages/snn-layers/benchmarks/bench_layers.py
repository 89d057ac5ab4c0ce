"""Stateful layers against a loop over single steps, and DCT2d against a loop over blocks, as ratios of one run.

python packages/snn-layers/benchmarks/bench_layers.py [--rounds 9] [--threads 1] [--keep-memory] [--out layers.json]
"""

import argparse
import ctypes
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import snn_layers as sl
from snn_base import reset_net, set_step_mode


def block_loop(k: Tensor, x: Tensor) -> Tensor:
    n, y = len(k), torch.empty_like(x)
    for a in range(0, x.shape[-2], n):
        for b in range(0, x.shape[-1], n):
            y[..., a : a + n, b : b + n] = k @ x[..., a : a + n, b : b + n] @ k.T
    return y


def stepped(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        set_step_mode(layer, "s")
        reset_net(layer)
        return torch.stack([layer(step) for step in x])

    return run


def fused(layer: nn.Module, x: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        set_step_mode(layer, "m")
        reset_net(layer)
        return layer(x)

    return run


def cases() -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    image, rows = torch.rand(16, 16, 32, 16, 16), torch.rand(64, 32, 1024)
    layers: dict[str, tuple[nn.Module, Tensor]] = {
        "NeuNorm": (sl.NeuNorm(32, 16, 16), image),
        "SynapseFilter saturating": (sl.SynapseFilter(10.0), rows.round()),
        "SynapseFilter linear": (sl.SynapseFilter(10.0, kind="linear"), rows.round()),
        "LIPool": (sl.LIPool(2), image.round()),
        "SpikeMaxPool": (sl.SpikeMaxPool(3, 2, 1), image.round()),
        "Dropout": (sl.Dropout(0.5), rows),
        "TemporalEffectiveBatchNorm2d": (sl.TemporalEffectiveBatchNorm2d(32, 16).eval(), image),
        "BNTT2d": (sl.BNTT2d(32, 16).eval(), image),
        "LatencyEncoder": (sl.LatencyEncoder(64), rows),
        "WeightedPhaseEncoder": (sl.WeightedPhaseEncoder(8), rows),
        "DeltaEncoder": (sl.DeltaEncoder(0.1), rows),
        "DropConnectLinear": (sl.DropConnectLinear(256, 64, invariant=True), torch.rand(16, 16, 256)),
    }
    found = {name: (fused(layer, x), stepped(layer, x)) for name, (layer, x) in layers.items()}
    dct, x = sl.DCT2d(8), torch.rand(64, 3, 224, 224)
    found["DCT2d [64, 3, 224, 224], block 8"] = (lambda: dct(x), lambda: block_loop(dct.kernel, x))
    found["clone of [64, 3, 224, 224]"] = (x.clone, lambda: block_loop(dct.kernel, x))
    return found


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory of any size, so that fresh pages of the kernel are not what is timed."""
    for option, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 1 << 26)):  # mmap threshold, trim threshold, top pad
        if ctypes.CDLL(None).mallopt(option, value) != 1:
            raise SystemExit("error: --keep-memory needs glibc")


def seconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--keep-memory", action="store_true", help="fix the thresholds of malloc (Linux)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="time only layers whose name contains this")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.keep_memory:
        keep_freed_memory()
    rows = []
    print("| layer | ms | loop ms | loop / layer |\n|---|---|---|---|")
    with torch.no_grad():
        for name, (ours, loop) in cases().items():
            if args.only not in name:
                continue
            pairs = [(seconds(ours), seconds(loop)) for _ in range(args.rounds + 1)][1:]
            a, b = (1e3 * statistics.median(values) for values in zip(*pairs, strict=True))
            ratio = statistics.median(q / p for p, q in pairs)
            rows.append({"layer": name, "ms": a, "loop_ms": b, "ratio": ratio})
            print(f"| {name} | {a:.2f} | {b:.2f} | {ratio:.2f} |", flush=True)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
