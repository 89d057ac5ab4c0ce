"""Train on event data: events become frames in time bins, recordings of unequal length are padded and masked.

With ``--tonic-data FOLDER`` and the package tonic installed, the DVS gestures in that folder are used. Otherwise the
example makes recordings of edges that move in one of four directions, each of its own length.
"""

import argparse
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_base import reset_net
from snn_layers import AvgPool2d, Conv2d, Flatten, Linear, SpikingSequential
from snn_neurons import LeakyIntegrator, LIFNode

SIZE, BIN_US = 16, 10_000
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))


class Recording(NamedTuple):
    """Events of one recording, int64 ``[E]`` each: time in microseconds, place, polarity; and its class."""

    t: Tensor
    x: Tensor
    y: Tensor
    p: Tensor
    label: int


def moving_edge(label: int, generator: torch.Generator) -> Recording:
    """An edge that crosses the sensor: events of either polarity at its front and back, and noise."""
    dx, dy = DIRECTIONS[label]
    speed = 0.8 + 0.8 * float(torch.rand((), generator=generator))  # pixels per bin
    width = 3 + int(torch.randint(3, (), generator=generator))
    steps = int((SIZE + width) / speed) + 1
    found = []
    for step in range(steps):
        for place, polarity in ((step * speed, 1), (step * speed - width, 0)):
            line = int(place)
            if not 0 <= line < SIZE:
                continue
            line = line if dx + dy > 0 else SIZE - 1 - line
            along = torch.nonzero(torch.rand(SIZE, generator=generator) < 0.7).flatten()
            across = torch.full_like(along, line)
            t = step * BIN_US + torch.randint(BIN_US, along.shape, generator=generator)
            x, y = (across, along) if dx else (along, across)
            found.append(torch.stack([t, x, y, torch.full_like(along, polarity)]))
    noise = torch.stack(
        [torch.randint(high, (3 * steps,), generator=generator) for high in (steps * BIN_US, SIZE, SIZE, 2)]
    )
    events = torch.cat([*found, noise], 1)
    t, x, y, p = events[:, events[0].argsort()]
    return Recording(t, x, y, p, label)


def frames(recording: Recording, size: int) -> Tensor:
    """Counts of events per time bin, polarity and pixel, ``[T, 2, size, size]``; T follows the recording's length."""
    steps = int(recording.t.max()) // BIN_US + 1 if len(recording.t) else 1
    shape = (steps, 2, size, size)
    place = ((recording.t // BIN_US * 2 + recording.p) * size + recording.y) * size + recording.x
    return torch.bincount(place, minlength=steps * 2 * size * size).view(shape).float().clamp(max=3)


def batch(parts: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded frames ``[T, N, 2, H, W]``, the mask ``[T, N]`` of real steps, labels ``[N]``."""
    x_seq = nn.utils.rnn.pad_sequence([x for x, _ in parts])
    lengths = torch.tensor([len(x) for x, _ in parts])
    mask = torch.arange(len(x_seq)).unsqueeze(1) < lengths
    return x_seq, mask, torch.tensor([label for _, label in parts])


def tonic_recordings(folder: Path, *, train: bool, limit: int | None) -> list[tuple[Tensor, int]]:
    """DVS gestures on disk, reduced to `SIZE` pixels; nothing is downloaded where they are there already."""
    try:
        import tonic
    except ImportError as error:
        raise SystemExit(f"--tonic-data needs the package tonic ({error}): pip install tonic") from error
    data = tonic.datasets.DVSGesture(save_to=str(folder), train=train)
    found = []
    for index in range(len(data) if limit is None else min(limit, len(data))):
        events, label = data[index]
        columns = {k: torch.from_numpy(events[k].astype("int64")) for k in ("t", "x", "y", "p")}
        scale = 128 // SIZE
        # A gesture takes seconds: bins ten times as long.
        t, x, y = columns["t"] // 10, columns["x"] // scale, columns["y"] // scale
        recording = Recording(t, x, y, columns["p"], int(label))
        found.append((frames(recording, SIZE), recording.label))
    return found


def make_net(classes: int) -> SpikingSequential:
    return SpikingSequential(
        Conv2d(2, 12, 5, padding=2),
        LIFNode(tau=2.0, v_threshold=0.15, detach_reset=True),
        AvgPool2d(2),
        Conv2d(12, 16, 3, padding=1),
        LIFNode(tau=4.0, v_threshold=0.05, detach_reset=True),
        AvgPool2d(2),
        Flatten(),
        Linear(16 * (SIZE // 4) ** 2, classes),
        LeakyIntegrator(tau=10.0),
        step_mode="m",
    )


def scores(net: nn.Module, x_seq: Tensor, mask: Tensor) -> Tensor:
    """Mean output over the real steps of each recording, ``[N, classes]``."""
    reset_net(net)
    weight = mask.unsqueeze(-1).float()
    y_seq: Tensor = net(x_seq)
    return (y_seq * weight).sum(0) / weight.sum(0)


@torch.no_grad()
def accuracy(net: nn.Module, data: list[tuple[Tensor, int]]) -> float:
    right = 0
    for start in range(0, len(data), 64):
        x_seq, mask, labels = batch(data[start : start + 64])
        right += int((scores(net, x_seq, mask).argmax(1) == labels).sum())
    return 100 * right / len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", default=bool(os.environ.get("SNN_EXAMPLE_QUICK")))
    parser.add_argument("--tonic-data", type=Path, help="folder of a data set of tonic")
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.tonic_data:
        limit = 64 if args.quick else None
        train, test = (tonic_recordings(args.tonic_data, train=part, limit=limit) for part in (True, False))
    else:
        generator = torch.Generator().manual_seed(0)
        count = 320 if args.quick else 1600
        made = [moving_edge(i % 4, generator) for i in range(count)]
        data = [(frames(recording, SIZE), recording.label) for recording in made]
        train, test = data[: count * 3 // 4], data[count * 3 // 4 :]
    lengths = [len(x) for x, _ in train]
    print(f"{len(train)} recordings for training, {len(test)} for test, {min(lengths)} to {max(lengths)} bins long")
    net = make_net(1 + max(label for _, label in train))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for epoch in range(4 if args.quick else 8):
        start, total = time.perf_counter(), 0.0
        for chosen in torch.randperm(len(train)).split(32):
            x_seq, mask, labels = batch([train[i] for i in chosen.tolist()])
            loss = F.cross_entropy(5 * scores(net, x_seq, mask), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
        shown = f"loss {total / len(train):.3f}, test accuracy {accuracy(net, test):.1f} %"
        print(f"epoch {epoch + 1}: {shown}, {time.perf_counter() - start:.1f} s")

    # Padding does not matter: a recording alone gives what it gives in a batch with longer ones.
    net.eval()
    with torch.no_grad():
        together = scores(net, *batch(test[:8])[:2])
        alone = torch.cat([scores(net, *batch([part])[:2]) for part in test[:8]])
    print(f"largest difference between alone and padded: {float((together - alone).abs().max()):.1e}")


if __name__ == "__main__":
    main()
