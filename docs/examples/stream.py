"""Feed a spiking network one frame at a time, as a camera would, without ever holding a sequence.

Each of several streams is reset by a mask when its episode ends, the state is saved and restored in a fresh network
that continues with the same spikes, and the time per step is printed. ``--figure FILE`` draws one stream.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from snn_base import load_memory_state, memory_state, reset_net
from snn_layers import AvgPool2d, Conv2d, Flatten, Linear, SpikingSequential
from snn_neurons import LeakyIntegrator, LIFNode

STREAMS, SIZE = 4, 16


def make_net() -> SpikingSequential:
    torch.manual_seed(0)
    return SpikingSequential(
        Conv2d(1, 8, 3, padding=1),
        LIFNode(tau=4.0, v_threshold=0.2),
        AvgPool2d(2),
        Flatten(),
        Linear(8 * (SIZE // 2) ** 2, 32),
        LIFNode(tau=4.0, v_threshold=0.2),
        Linear(32, 5),
        LeakyIntegrator(tau=10.0),
        step_mode="s",
    ).eval()


def camera(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames ``[N, 1, H, W]`` without end, and a mask ``[N]`` of the streams whose episode begins with this frame."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        frame = (torch.rand(STREAMS, 1, SIZE, SIZE, generator=generator) < 0.2).float()
        yield frame, torch.rand(STREAMS, generator=generator) < 0.02


@torch.inference_mode()
def draw(path: Path, shown: int = 250) -> None:
    """Readout of the first stream over some frames; a dashed line where an episode begins."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    net, outputs, starts = make_net(), [], []
    for step, (frame, begins) in enumerate(islice(camera(1), shown)):
        reset_net(net, begins)
        outputs.append(net(frame)[0])
        starts += [step] if begins[0] else []
    figure, axis = pyplot.subplots(figsize=(5.2, 3.0), layout="constrained")
    axis.plot(torch.stack(outputs).numpy(), linewidth=1)
    for step in starts:
        axis.axvline(step, color="gray", linestyle="--", linewidth=1)
    axis.set_xlabel("frame")
    axis.set_ylabel("readout of each class")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("SNN_EXAMPLE_QUICK")))
    parser.add_argument("--steps", type=int, help="frames to take; 0 for no end")
    parser.add_argument("--figure", type=Path, help="where to draw one stream; needs matplotlib")
    args = parser.parse_args()
    steps = args.steps if args.steps is not None else (300 if args.quick else 5000)

    net, times, resets = make_net(), [], 0
    frames = camera(1)
    with torch.inference_mode():
        # --8<-- [start:loop]
        for step, (frame, begins) in enumerate(frames if steps == 0 else islice(frames, steps)):
            start = time.perf_counter()
            reset_net(net, begins)  # the streams whose episode begins forget, the others go on
            output = net(frame)
            # --8<-- [end:loop]
            times = [*times[-999:], 1e3 * (time.perf_counter() - start)]
            resets += int(begins.sum())
            if step % 1000 == 999:
                print(f"frame {step + 1}: {statistics.median(times):.3f} ms, classes {output.argmax(1).tolist()}")
    held = sum(m.numel() for part in memory_state(net).values() for m in part.values() if isinstance(m, Tensor))
    print(f"{steps} frames of {STREAMS} streams, {resets} resets, {held} numbers of state whatever the length")
    late = sorted(times)[int(0.99 * len(times))]
    print(f"latency per step: median {statistics.median(times):.3f} ms, 99th percentile {late:.3f} ms")

    # Another process would read the file in the same way.
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        # --8<-- [start:state]
        path = Path(folder, "state.pt")
        torch.save(memory_state(net), path)
        other = make_net()
        load_memory_state(other, torch.load(path))
        # --8<-- [end:state]
        same = all(torch.equal(net(frame), other(frame)) for frame, _ in islice(frames, 50))
    print("a restored network continues", "with the same outputs" if same else "OTHERWISE")
    if not same:
        raise SystemExit("the restored state is not the saved one")
    if args.figure:
        draw(args.figure)


if __name__ == "__main__":
    main()
