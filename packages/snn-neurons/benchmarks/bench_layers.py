"""Time one multi-step layer: forward without gradient, and forward with backward, of several libraries in one process.

The same rounds time the memory limit: `x.clone()` for the forward, two clones held at once for forward with backward.

    python bench_layers.py --kinds lif --T 16,128 --shapes 32x4096,32x128
    python bench_layers.py --device cuda --dtypes float32,bfloat16 --shapes 32x131072
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable

import harness
import torch
from adapters import ADAPTERS, Layer, selected

KINDS = ("if", "lif", "plif", "alif")


def hold_two(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.clone(), x.clone()


def calls(layer: Layer, x: torch.Tensor, grad: torch.Tensor) -> tuple[harness.Call, harness.Call, torch.Tensor]:
    """Forward without gradient, forward with backward, and the leaf the latter differentiates."""
    if not layer.time_first:
        x, grad = x.transpose(0, 1).contiguous(), grad.transpose(0, 1).contiguous()
    leaf = x.clone().requires_grad_()
    wanted = [leaf, *layer.params]

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return layer.forward(x)

    def both() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(layer.forward(leaf), wanted, grad)

    return forward, both, leaf


def seconds(call: Callable[[], object]) -> float:
    t = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - t


def graphed(call: harness.Call) -> harness.Call:
    """The call replayed as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        keep = call()
    return lambda: (graph.replay(), keep)


def case(kind: str, T: int, shape: tuple[int, ...], dtype: torch.dtype, args: argparse.Namespace) -> list[harness.Row]:
    """All libraries on one tensor."""
    head = {"bench": "layer", "kind": kind, "T": T, "shape": list(shape), "dtype": str(dtype).removeprefix("torch.")}
    torch.manual_seed(0)
    x = (torch.randn(T, *shape) * 0.8 + 0.4).to(args.device, dtype)
    grad = torch.randn_like(x)
    runs: dict[str, dict[str, harness.Call]] = {"fwd": {"clone": x.clone}, "fwd+bwd": {"clone": lambda: hold_two(x)}}
    facts: dict[str, harness.Row] = {"clone": {}}
    for name in selected(args.libs, args.device):
        if kind not in ADAPTERS[name]:
            continue
        try:
            layer = ADAPTERS[name][kind](args.device)
            forward, both, leaf = calls(layer, x, grad)
            row = {"first_fwd_s": seconds(forward), "first_fwd_bwd_s": seconds(both)}
            with torch.no_grad():
                row["rate"] = layer.forward(leaf.detach()).float().mean().item()
            saved, keeps_x = harness.saved_bytes(lambda layer=layer, leaf=leaf: layer.forward(leaf), leaf)
            row |= {"saved_bytes_per_element": saved / x.numel(), "saves_x": keeps_x}
            row |= {
                "peak_fwd_bytes": harness.peak_bytes(forward, args.device),
                "peak_fwd_bwd_bytes": harness.peak_bytes(both, args.device),
            }
            if args.graphs and args.device == "cuda":
                forward, both = graphed(forward), graphed(both)
        except Exception as error:  # a peer's failure is part of the result
            harness.failure(name, head, error, args.out)
            continue
        facts[name], runs["fwd"][name], runs["fwd+bwd"][name] = row, forward, both
    rows = []
    for phase, todo in runs.items():
        times = harness.interleave(todo, device=args.device, seconds=args.seconds, rounds=args.rounds)
        for name, values in times.items():
            ratio = {"over_clone": harness.timing(values)["median_s"] / harness.timing(times["clone"])["median_s"]}
            row = {**head, "lib": name, "phase": phase, **harness.timing(values), **ratio, **facts[name]}
            rows.append(harness.record({**row, "graphs": args.graphs, **harness.machine(args.device)}, args.out))
    gc.collect()
    return rows


def table(rows: list[harness.Row]) -> str:
    """One line per library and case, with the ratio to the limit."""
    groups: dict[tuple[object, ...], dict[str, harness.Row]] = {}
    for r in rows:
        key = (r["kind"], r["T"], "x".join(map(str, r["shape"])), r["dtype"], r["lib"])
        groups.setdefault(key, {})[r["phase"]] = r
    lines = []
    for (kind, T, shape, dtype, lib), phases in groups.items():
        f, b = phases["fwd"], phases["fwd+bwd"]
        saved, peak = f.get("saved_bytes_per_element"), f.get("peak_fwd_bwd_bytes")
        forward = [harness.milliseconds(f["median_s"]), f"{f['over_clone']:.2f}"]
        both = [harness.milliseconds(b["median_s"]), f"{b['over_clone']:.2f}"]
        memory = ["-" if saved is None else f"{saved:.2f}", "-" if peak is None else f"{peak / 2**20:.1f}"]
        lines.append([kind, f"[{T}, {shape}]", dtype, lib, *forward, *both, *memory])
    header = ["neuron", "shape", "dtype", "library", "forward ms", "/ clone", "forward+backward ms", "/ two clones",
              "saved bytes/element besides x", "peak MiB"]  # fmt: skip
    return harness.markdown(header, lines)


def main(argv: list[str] | None = None) -> list[harness.Row]:
    p = harness.parser(__doc__)
    p.add_argument("--kinds", default="lif", help="comma list of " + ", ".join(KINDS))
    p.add_argument("--T", default="4,16,128")
    p.add_argument("--shapes", default="32x4096,32x128")
    p.add_argument("--dtypes", default="float32")
    p.add_argument("--graphs", action="store_true", help="replay as CUDA graphs")
    args = p.parse_args(argv)
    harness.start(args)
    rows = []
    for kind in args.kinds.split(","):
        for dtype in args.dtypes.split(","):
            for T in map(int, args.T.split(",")):
                for shape in args.shapes.split(","):
                    rows += case(kind, T, tuple(map(int, shape.split("x"))), getattr(torch, dtype), args)
    print("\n" + table(rows))
    return rows


if __name__ == "__main__":
    harness.fix_allocator()
    main()
