"""Draw the measured layers: milliseconds per library, with the memory limit as a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def draw(rows: list[Row], path: Path, kind: str = "lif") -> None:
    """One panel per tensor shape and phase of a neuron kind; logarithmic time."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    rows = [r for r in rows if r.get("bench") == "layer" and r["kind"] == kind and "median_s" in r]
    cases = list(dict.fromkeys((r["T"], tuple(r["shape"]), r["dtype"]) for r in rows))
    if not cases:
        return
    figure, axes = plt.subplots(
        len(cases), 2, figsize=(10, 0.6 + 1.9 * len(cases)), squeeze=False, layout="constrained"
    )
    for line, (T, shape, dtype) in zip(axes, cases, strict=True):
        for axis, phase in zip(line, ("fwd", "fwd+bwd"), strict=True):
            here = {r["lib"]: r["median_s"] * 1e3 for r in rows
                    if (r["T"], tuple(r["shape"]), r["dtype"], r["phase"]) == (T, shape, dtype, phase)}  # fmt: skip
            limit = here.pop("clone", None)
            libs = sorted(here, key=here.__getitem__, reverse=True)
            axis.barh(
                libs, [here[n] for n in libs], color=["C0" if n.startswith("snn_neurons") else "0.7" for n in libs]
            )
            for position, name in enumerate(libs):
                axis.text(here[name], position, f" {here[name]:.3g}", va="center", fontsize=7)
            if limit is not None:
                axis.axvline(limit, color="C3", linewidth=1, label="clone" if phase == "fwd" else "two clones")
                axis.legend(fontsize=7, loc="lower right")
            axis.set_xscale("log")
            axis.margins(x=0.15)
            axis.tick_params(labelsize=7)
            title = "forward" if phase == "fwd" else "forward + backward"
            axis.set_title(f"{kind.upper()}, {title}, [{T}, {', '.join(map(str, shape))}] {dtype}, ms", fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    draw([json.loads(line) for line in source.read_text().splitlines()], target)
