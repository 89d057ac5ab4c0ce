"""Run all benchmarks of the neurons and write JSON lines, Markdown tables and a figure.

    python run.py --out results                      # CPU, one thread
    python run.py --out results --device cuda        # a machine with a GPU; needs no network
    python run.py --out results --quick              # about a minute, to see that everything runs

Only the libraries that can be imported are measured; the others appear as errors in the JSON lines.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import bench_layers
import bench_net
import bench_open_neuromorphic
import figure
import first_call
import harness


def plan(device: str, quick: bool) -> list[tuple[str, object, list[str]]]:
    """Title, module and arguments of every part."""
    if quick:
        layers = ["--kinds", "lif", "--T", "4", "--shapes", "32x128", "--seconds", "0.1", "--rounds", "3"]
        return [
            ("One layer", bench_layers, layers),
            ("Convolutional network", bench_net, ["--seconds", "0", "--rounds", "1"]),
            (
                "Linear and LIF, 500 steps",
                bench_open_neuromorphic,
                ["--sizes", "64", "--seconds", "0", "--rounds", "1"],
            ),
        ]
    if device == "cuda":
        layers = ["--T", "4,16,128", "--dtypes", "float32,bfloat16"]
        return [
            ("One layer", bench_layers, ["--kinds", "if,lif,plif,alif", "--shapes", "32x131072,32x4096", *layers]),
            ("One layer, replayed as a CUDA graph", bench_layers, ["--shapes", "32x4096,32x128", "--graphs", *layers]),
            ("Convolutional network", bench_net, []),
            ("Linear and LIF, 500 steps", bench_open_neuromorphic, ["--sizes", "512,4096,16384"]),
            ("First call", first_call, []),
        ]
    return [
        ("One layer", bench_layers, ["--kinds", "if,lif,plif,alif", "--T", "4,16,128", "--shapes", "32x4096,32x128"]),
        ("Convolutional network", bench_net, ["--rounds", "9"]),
        (
            "Linear and LIF, 500 steps",
            bench_open_neuromorphic,
            ["--sizes", "512,4096", "--rounds", "3", "--seconds", "1"],
        ),
        ("First call", first_call, []),
    ]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=Path("results"), help="folder for results.jsonl, tables.md, layers.png")
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--threads", default="1")
    p.add_argument("--libs", default="", help="comma list of adapters; default: all")
    p.add_argument("--quick", action="store_true")
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = args.out / "results.jsonl"
    lines.unlink(missing_ok=True)
    rows: list[harness.Row] = []
    tables = []
    for title, module, options in plan(args.device, args.quick):
        common = ["--device", args.device, "--threads", args.threads, "--libs", args.libs, "--out", str(lines)]
        part = module.main([*common, *options])  # type: ignore[attr-defined]
        rows += part
        tables.append(f"## {title}\n\n{module.table(part)}")  # type: ignore[attr-defined]
    about = ", ".join(f"{k} {v}" for k, v in harness.machine(args.device).items())
    (args.out / "tables.md").write_text(f"Measured on: {about}.\n\n" + "\n".join(tables))
    if importlib.util.find_spec("matplotlib") is not None:
        figure.draw(rows, args.out / "layers.png")


if __name__ == "__main__":
    harness.fix_allocator()
    main()
