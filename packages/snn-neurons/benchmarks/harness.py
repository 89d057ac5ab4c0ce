"""What the benchmark scripts share: allocator, interleaved timing, memory, tables and the figure."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

# Large tensors stay on the heap: otherwise every call pays for fresh zeroed pages, which cost more than the arithmetic.
ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}

Call = Callable[[], object]
Row = dict[str, Any]


def fix_allocator() -> None:
    """Start this script again with the allocator's thresholds fixed, unless they are set: glibc reads them at start."""
    if platform.system() == "Linux" and any(os.environ.get(k) is None for k in ALLOCATOR):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**ALLOCATOR, **os.environ})


def warm_heap(size: int = 2 << 30) -> None:
    """Touch the heap once: later tensors then reuse its pages, whatever the order of sizes. Needs `fix_allocator`."""
    block = torch.empty(size, dtype=torch.uint8)
    block[:: os.sysconf("SC_PAGESIZE")] = 1
    del block


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options every script has."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    p.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    p.add_argument("--libs", default="", help="comma list of adapters; default: all that can be imported")
    p.add_argument("--seconds", type=float, default=2.0, help="time per adapter and case")
    p.add_argument("--rounds", type=int, default=7, help="least number of interleaved rounds")
    p.add_argument("--out", type=Path, default=None, help="append JSON lines to this file")
    return p


def start(args: argparse.Namespace) -> None:
    """Threads, seed, and a clear refusal without a GPU."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.device == "cpu" and all(k in os.environ for k in ALLOCATOR):
        warm_heap()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "--device cuda: torch.cuda.is_available() is False; run on a machine with a GPU or with --device cpu"
        )


def machine(device: str) -> Row:
    """What the figures were measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else _cpu_name()
    return {
        "device": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "allocator_fixed": all(k in os.environ for k in ALLOCATOR),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _once_cpu(call: Call, repeat: int) -> float:
    t = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - t) / repeat


def _once_cuda(call: Call, repeat: int) -> float:
    a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    a.record()
    for _ in range(repeat):
        call()
    b.record()
    b.synchronize()
    return a.elapsed_time(b) / 1e3 / repeat


def interleave(calls: Mapping[str, Call], *, device: str, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Seconds per call, round robin over `calls`, so that ratios hold on a noisy machine.

    A round repeats short calls until about five milliseconds have passed, after one that is not timed, so that neither
    the clock, nor the launch of a GPU kernel, nor the caches that another library left behind show.
    """
    once = _once_cuda if device == "cuda" else _once_cpu
    repeat = {}
    for name, call in calls.items():
        call()
        call()
        repeat[name] = max(1, min(500, int(5e-3 / max(once(call, 1), 1e-7))))
    times: dict[str, list[float]] = {name: [] for name in calls}
    gc.collect()
    gc.disable()
    end, n = time.perf_counter() + seconds * len(calls), 0
    try:
        while n < rounds or (time.perf_counter() < end and n < 200):
            for name, call in calls.items():
                if repeat[name] > 1:
                    call()
                times[name].append(once(call, repeat[name]))
            n += 1
    finally:
        gc.enable()
    return times


def timing(values: Sequence[float]) -> Row:
    return {"median_s": statistics.median(values), "min_s": min(values), "rounds": len(values)}


def saved_bytes(forward: Callable[[], torch.Tensor], x: torch.Tensor) -> tuple[int, bool]:
    """Bytes autograd keeps for backward besides x itself, and whether x is among what it keeps."""
    own, kept, storages = x.untyped_storage().data_ptr(), False, {}

    def pack(t: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        storage = t.untyped_storage()
        if storage.data_ptr() == own:
            kept = True
        elif storage.nbytes():
            storages[storage.data_ptr()] = (storage.nbytes(), t)  # t stays alive, so that no address is used twice
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = forward()
    total = sum(n for n, _ in storages.values())
    del y
    return total, kept


def peak_bytes(call: Call, device: str) -> int:
    """Highest sum of tensor bytes allocated during the call, above the level before it."""
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as prof:
        call()
    assert prof.profiler is not None
    assert prof.profiler.kineto_results is not None
    events = [e for e in prof.profiler.kineto_results.events() if e.name() == "[memory]"]
    level = peak = 0
    for e in sorted(events, key=lambda e: e.start_ns()):
        level += e.nbytes()
        peak = max(peak, level)
    return peak


def record(row: Row, out: Path | None) -> Row:
    """Print the row and append it to `out`."""
    line = json.dumps(row)
    print(line, flush=True)
    if out is not None:
        with out.open("a") as f:
            f.write(line + "\n")
    return row


def failure(name: str, case: Row, error: BaseException, out: Path | None) -> None:
    """A peer that cannot do a case is reported, not hidden."""
    record({"lib": name, **case, "error": f"{type(error).__name__}: {error}"[:300]}, out)


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    ms = seconds * 1e3
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 100 else f"{ms:.0f}"
