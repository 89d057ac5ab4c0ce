"""The Open Neuromorphic case: Linear + LIF, batch 16, 500 steps, forward and backward separately timed.

python bench_open_neuromorphic.py --sizes 512,4096
python bench_open_neuromorphic.py --device cuda --sizes 512,4096,16384
"""

from __future__ import annotations

import argparse
import time

import harness
import torch
from adapters import ADAPTERS, selected


def case(size: int, args: argparse.Namespace) -> list[harness.Row]:
    """Random spikes through one dense layer and its neurons."""
    head = {"bench": "open_neuromorphic", "size": size, "T": args.steps, "batch": args.batch}
    torch.manual_seed(0)
    spikes = (torch.rand(args.steps, args.batch, size, device=args.device) < 0.1).float()
    dense = torch.nn.Linear(size, size, bias=False, device=args.device)
    grad = torch.randn_like(spikes)
    forwards: dict[str, harness.Call] = {}
    both: dict[str, harness.Call] = {}
    first: dict[str, float] = {}

    def add(name: str, layer: object) -> None:
        first_layer = getattr(layer, "time_first", True)
        run = getattr(layer, "forward", None)
        x = spikes if first_layer else spikes.transpose(0, 1).contiguous()
        g = grad if first_layer else grad.transpose(0, 1).contiguous()

        def apply() -> torch.Tensor:
            y: torch.Tensor = dense(x)
            return y if run is None else run(y)

        def backward() -> None:
            dense.weight.grad = None
            apply().backward(g)

        t = time.perf_counter()
        backward()
        first[name] = time.perf_counter() - t
        forwards[name], both[name] = torch.no_grad()(apply), backward

    add("dense alone", None)
    for name in selected(args.libs, args.device):
        if not args.libs and name.endswith("+compile"):
            continue  # it unrolls all steps, for many minutes
        try:
            add(name, ADAPTERS[name]["lif"](args.device))
        except Exception as error:  # a peer's failure is part of the result
            harness.failure(name, head, error, args.out)
    rows = []
    for phase, todo in (("fwd", forwards), ("fwd+bwd", both)):
        times = harness.interleave(todo, device=args.device, seconds=args.seconds, rounds=args.rounds)
        for name, values in times.items():
            extra = {
                "lib": name,
                "phase": phase,
                "first_s": first[name],
                **harness.timing(values),
                **harness.machine(args.device),
            }
            rows.append(harness.record({**head, **extra}, args.out))
    return rows


def table(rows: list[harness.Row]) -> str:
    groups: dict[tuple[int, str], dict[str, harness.Row]] = {}
    for r in rows:
        groups.setdefault((r["size"], r["lib"]), {})[r["phase"]] = r
    lines = [[size, lib, harness.milliseconds(p["fwd"]["median_s"]), harness.milliseconds(p["fwd+bwd"]["median_s"])]
             for (size, lib), p in groups.items()]  # fmt: skip
    return harness.markdown(["neurons", "library", "forward ms", "forward+backward ms"], lines)


def main(argv: list[str] | None = None) -> list[harness.Row]:
    p = harness.parser(__doc__)
    p.add_argument("--sizes", default="512")
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--batch", type=int, default=16)
    args = p.parse_args(argv)
    harness.start(args)
    rows = [row for size in args.sizes.split(",") for row in case(int(size), args)]
    print("\n" + table(rows))
    return rows


if __name__ == "__main__":
    harness.fix_allocator()
    main()
