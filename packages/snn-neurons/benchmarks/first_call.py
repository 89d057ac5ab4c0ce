"""Time the first call of a neuron in a new process: with an empty kernel cache, then with the cache that it left.

python first_call.py --libs "snn_neurons[native],spikingjelly+compile"
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness


def child(name: str, kind: str, device: str) -> None:
    """Forward with backward once, timed without the imports."""
    import torch
    from adapters import ADAPTERS

    x = torch.randn(16, 32, 128, device=device, requires_grad=True)
    layer = ADAPTERS[name][kind](device)
    t = time.perf_counter()
    layer.forward(x).sum().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    print(json.dumps(time.perf_counter() - t))


def measure(name: str, kind: str, args: argparse.Namespace) -> list[harness.Row]:
    """One row with an empty cache, one with the cache of the process before."""
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        variables = ("SNN_NEURONS_CACHE_DIR", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")
        env = {**os.environ, **dict.fromkeys(variables, cache)}
        for state in ("empty", "warm"):
            command = [sys.executable, str(Path(__file__)), "--child", name, "--kind", kind, "--device", args.device]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            row = {"bench": "first_call", "lib": name, "kind": kind, "cache": state}
            row |= {"first_s": json.loads(done.stdout)} if done.returncode == 0 else {"error": done.stderr[-300:]}
            rows.append(harness.record(row, args.out))
    return rows


def table(rows: list[harness.Row]) -> str:
    times = {(r["lib"], r["cache"]): r.get("first_s") for r in rows}
    libs = dict.fromkeys(r["lib"] for r in rows)
    show = {None: "-"}
    lines = [
        [lib, *(show.get(t, f"{t:.2f}" if t else "-") for t in (times[lib, "empty"], times[lib, "warm"]))]
        for lib in libs
    ]
    return harness.markdown(["library", "first forward+backward s, empty cache", "in a later process s"], lines)


def main(argv: list[str] | None = None) -> list[harness.Row]:
    p = harness.parser(__doc__)
    p.add_argument("--kind", default="lif")
    p.add_argument("--child", default=None, help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    if args.child is not None:
        child(args.child, args.kind, args.device)
        return []
    from adapters import ADAPTERS, selected

    names = [n for n in selected(args.libs, args.device) if args.kind in ADAPTERS[n]]
    rows = [row for name in names for row in measure(name, args.kind, args)]
    print("\n" + table(rows))
    return rows


if __name__ == "__main__":
    main()
