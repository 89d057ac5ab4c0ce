"""Draw the measured layers: milliseconds per library, and the memory limit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import harness

Row = dict[str, Any]


def draw(rows: list[Row], path: Path, kind: str = "lif") -> None:
    """One panel per tensor shape and phase of a neuron kind, in one column; logarithmic time."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    rows = [r for r in rows if r.get("bench") == "layer" and r["kind"] == kind and "median_s" in r]
    cases = list(dict.fromkeys((r["T"], tuple(r["shape"]), r["dtype"]) for r in rows))
    if not cases:
        return
    figure, axes = plt.subplots(2 * len(cases), figsize=(5.2, 3.0 * len(cases)), squeeze=False, layout="constrained")
    for line, (T, shape, dtype) in zip(axes.reshape(-1, 2), cases, strict=True):
        for axis, phase in zip(line, ("fwd", "fwd+bwd"), strict=True):
            here = {r["lib"]: r["median_s"] * 1e3 for r in rows
                    if (r["T"], tuple(r["shape"]), r["dtype"], r["phase"]) == (T, shape, dtype, phase)}  # fmt: skip
            limit = "clone, the limit" if phase == "fwd" else "two clones, the limit"
            here = {limit if name == "clone" else name: ms for name, ms in here.items()}
            libs = sorted(here, key=here.__getitem__, reverse=True)
            colors = ["C3" if n == limit else "C0" if n.startswith("snn_neurons") else "0.7" for n in libs]
            axis.barh(libs, [here[n] for n in libs], color=colors)
            for position, name in enumerate(libs):
                axis.text(here[name], position, f" {harness.milliseconds(here[name] / 1e3)}", va="center", fontsize=8)
            axis.set_xscale("log")
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.margins(x=0.2)
            axis.tick_params(labelsize=8)
            title = "forward" if phase == "fwd" else "forward + backward"
            axis.set_title(f"{kind.upper()}, {title}, [{T}, {', '.join(map(str, shape))}] {dtype}, ms", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    draw([json.loads(line) for line in source.read_text().splitlines()], target)
