"""Write a neuron of your own as one step function, and see it run in the fused kernels that the built-in ones use.

The neuron tires: each spike raises its threshold for a while. The script says which backend runs it and why, compares
the backends, times them, and shows what a step that mixes neurons gets told. ``--figure FILE`` draws the neuron.
"""

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_base import Recorder, set_step_mode
from snn_neurons import LIFNode, SpikingNode, explain_backend


# --8<-- [start:neuron]
class TiredNode(SpikingNode):
    """LIF whose threshold is ``v_threshold + fatigue``; ``fatigue = rest * fatigue + effort * s`` after each step."""

    def __init__(self, decay: float = 0.8, rest: float = 0.95, effort: float = 0.3, **options: Any) -> None:
        super().__init__(**options)
        self.register_param("decay", decay)
        self.register_param("rest", rest)
        self.register_param("effort", effort)
        self.register_memory("fatigue", 0.0)  # the membrane "v" is there already

    def step(self, x: Tensor, state: Any, p: Any) -> tuple[Tensor, Any]:
        h = p.decay * state.v + x
        s = self.fire(h - p.v_threshold - state.fatigue, p)
        fatigue = p.rest * state.fatigue + p.effort * s
        return s, state._replace(v=self.reset_membrane(h, s, p), fatigue=fatigue)


# --8<-- [end:neuron]


class InhibitingNode(SpikingNode):
    """Neurons that see the mean of their layer: this step is not pointwise."""

    def charge(self, x: Tensor, state: Any, p: Any) -> Tensor:
        return state.v + x - x.mean()


def run(node: SpikingNode, x_seq: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes, and the gradient of their sum."""
    node.reset()
    leaf = x_seq.clone().requires_grad_()
    spikes = node(leaf)
    spikes.sum().backward()
    assert leaf.grad is not None
    return spikes.detach(), leaf.grad


def milliseconds(nodes: dict[str, SpikingNode], x_seq: Tensor, rounds: int) -> dict[str, float]:
    """Median time of a forward and backward pass; the nodes take turns."""
    times: dict[str, list[float]] = {name: [] for name in nodes}
    for _ in range(rounds):
        for name, node in nodes.items():
            start = time.perf_counter()
            run(node, x_seq)
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


@torch.no_grad()
def draw(path: Path) -> None:
    """The neuron under a constant input: membrane, spikes and the moving threshold."""
    import matplotlib

    matplotlib.use("Agg")
    from snn_base import plot

    x_seq = torch.full((120, 1), 0.35)
    tired = TiredNode(step_mode="s")
    with Recorder(tired, outputs="", memories=["v", "fatigue"]) as record:
        for x in x_seq:
            tired(x)
    figure = plot.membrane(record["v"], record[""], threshold=1.0 + record["fatigue"], neurons=[0])
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("SNN_EXAMPLE_QUICK")))
    parser.add_argument("--figure", type=Path, help="where to draw the neuron; needs matplotlib")
    args = parser.parse_args()
    torch.manual_seed(0)
    x_seq = torch.rand(64, 4 if args.quick else 32, 1024)

    report = explain_backend(TiredNode(step_mode="m"), x_seq)
    print(report)

    backends = [name for name in ("torch", "native", "triton") if name not in report.obstacles]
    nodes: dict[str, SpikingNode] = {f"TiredNode, {b}": TiredNode(step_mode="m", backend=b) for b in backends}
    results = {name: run(node, x_seq) for name, node in nodes.items()}
    spikes, gradient = next(iter(results.values()))
    for name, (theirs, slope) in results.items():
        print(f"{name}: {int((theirs != spikes).sum())} of {int(spikes.sum())} spikes differ,", end=" ")
        print(f"gradients by at most {(slope - gradient).abs().max():.1e}")
    single = TiredNode(step_mode="m")
    set_step_mode(single, "s")
    same = torch.equal(torch.stack([single(x) for x in x_seq]), spikes)
    print(f"one step at a time: {'the same spikes' if same else 'OTHER SPIKES'}")

    nodes |= {f"LIFNode, {b}": LIFNode(step_mode="m", backend=b) for b in backends}
    for name, ms in milliseconds(nodes, x_seq, 3 if args.quick else 15).items():
        print(f"{name:18} {ms:7.2f} ms forward and backward")

    print("a step that mixes neurons:", explain_backend(InhibitingNode(step_mode="m"), x_seq))
    if args.figure:
        draw(args.figure)
    if not same:
        raise SystemExit("single steps and the sequence disagree")


if __name__ == "__main__":
    main()
