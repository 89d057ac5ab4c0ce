"""Time and memory of one STDP update over a window of T steps, beside SpikingJelly's STDPLearner where installed."""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from snn_learning import STDPLearner

CASES = {
    "linear-b32": (32, lambda: nn.Linear(784, 400, bias=False), (784,), (400,)),
    "linear-b1": (1, lambda: nn.Linear(784, 400, bias=False), (784,), (400,)),
    "conv-b32": (32, lambda: nn.Conv2d(16, 32, 3, padding=1, bias=False), (16, 28, 28), (32, 28, 28)),
}
T, RATE, TAU, LR = 100, 0.1, 20.0, 1e-4
FUNCTIONS: dict[str, Callable[[Tensor], Tensor] | None] = {"one": None, "weight": lambda w: w}


def data(case: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    batch, make, pre, post = CASES[case]
    return make(), (torch.rand(T, batch, *pre) < RATE).float(), (torch.rand(T, batch, *post) < RATE).float()


def ours(case: str, dependence: str) -> Callable[[], tuple[float, Tensor]]:
    module, s_pre, s_post = data(case)
    f = FUNCTIONS[dependence]
    learner = STDPLearner(TAU, TAU, f, f, batch_reduction="sum", step_mode="m")
    start = module.weight.detach().clone()

    def run() -> tuple[float, Tensor]:
        learner.reset()
        with torch.no_grad():
            module.weight.copy_(start)
        begin = time.perf_counter()
        learner.stdp(s_pre, s_post, module, LR)
        return time.perf_counter() - begin, module.weight.detach() - start

    return run


def spikingjelly(case: str, dependence: str) -> Callable[[], tuple[float, Tensor]]:
    from spikingjelly.activation_based.learning import STDPLearner as Peer

    module, s_pre, s_post = data(case)
    f = FUNCTIONS[dependence] or torch.ones_like
    node = nn.Identity()
    learner = Peer("m", module, node, TAU, TAU, f, f)

    def run() -> tuple[float, Tensor]:
        learner.reset()
        learner.in_spike_monitor.records.append(s_pre)
        learner.out_spike_monitor.records.append(s_post)
        begin = time.perf_counter()
        dw = learner.step(on_grad=False)
        with torch.no_grad():
            dw = dw * LR
        return time.perf_counter() - begin, dw

    return run


def compare(case: str, dependence: str, repeats: int, peer_repeats: int) -> dict[str, object]:
    runs = {"ours": ours(case, dependence)}
    try:
        runs["spikingjelly"] = spikingjelly(case, dependence)
    except ImportError:
        print("spikingjelly is not installed: only ours is timed", file=sys.stderr)
    runs["ours"]()  # first-call costs of the libraries below
    times: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, Tensor] = {}
    for i in range(repeats):
        for name, run in runs.items():
            if name == "ours" or i < peer_repeats:
                seconds, results[name] = run()
                times[name].append(seconds)
    row: dict[str, object] = {"case": case, "f": dependence, "T": T}
    row |= {f"{name}_ms": 1e3 * statistics.median(values) for name, values in times.items()}
    if "spikingjelly" in runs:
        row["ratio"] = row["spikingjelly_ms"] / row["ours_ms"]  # type: ignore[operator]
        row["max_difference"] = (results["ours"] - results["spikingjelly"]).abs().max().item()
        row["max_change"] = results["spikingjelly"].abs().max().item()
    return row


def memory(case: str) -> dict[str, object]:
    """Return how much one update raises the peak of resident memory, in a process of its own."""
    run = ours(case, "one")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch, _, pre, post = CASES[case]
    return {
        "case": case,
        "update_peak_mib": (peak - before) / 1024,
        "product_all_pairs_mib": 4 * batch * pre[0] * post[0] / 2**20,
        "spikes_mib": 4 * T * batch * (torch.Size(pre).numel() + torch.Size(post).numel()) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--functions", nargs="*", default=["one"], choices=list(FUNCTIONS), help="weight dependence")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peer-repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    parser.add_argument("--json", type=Path, help="append results to this file")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(json.dumps(memory(args.memory_of)))
        return
    rows = []
    for case in args.cases:
        if args.memory:
            out = subprocess.run([sys.executable, __file__, "--memory-of", case], check=True, capture_output=True)
            rows.append(json.loads(out.stdout))
            print(json.dumps(rows[-1]), flush=True)
            continue
        for f in args.functions:
            peer_repeats = 1 if case.startswith("conv") else args.peer_repeats
            rows.append(compare(case, f, args.repeats, peer_repeats))
            print(json.dumps(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2) + "\n")
    keys = list(rows[0])
    print("\n| " + " | ".join(keys) + " |\n|" + " --- |" * len(keys))
    for row in rows:
        print("| " + " | ".join(f"{row[k]:.4g}" if isinstance(row[k], float) else str(row[k]) for k in keys) + " |")


if __name__ == "__main__":
    main()
