"""Loss curves of one net trained in float32, under bfloat16 autocast, and wholly in bfloat16.

python integration_tests/benchmarks/bench_precision.py [--epochs 6] [--out precision.json]
"""

import argparse
import json
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from common import load_digits, make_net, score

from snn_base import reset_net


def train(kind: str, epochs: int, steps: int) -> dict[str, object]:
    data = load_digits()
    net = make_net()
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    net.to(dtype)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for epoch in range(epochs):
        net.train()
        total = 0.0
        order = torch.randperm(len(data.x_train), generator=torch.Generator().manual_seed(epoch))
        for index in order.split(64):
            reset_net(net)
            with torch.autocast("cpu", torch.bfloat16) if kind == "autocast" else nullcontext():
                y = score(net, data.x_train[index].to(dtype), steps)
            loss = F.cross_entropy(y, data.y_train[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(index)
        losses.append(total / len(data.x_train))
    net.eval()
    with torch.no_grad():
        reset_net(net)
        guess = score(net, data.x_test.to(dtype), steps).argmax(1)
    return {"kind": kind, "losses": losses, "test_accuracy": (guess == data.y_test).float().mean().item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows = [train(kind, args.epochs, args.steps) for kind in ("float32", "autocast", "bfloat16")]
    print("| training | " + " | ".join(f"epoch {e + 1}" for e in range(args.epochs)) + " | test accuracy |")
    print("|---" * (args.epochs + 2) + "|")
    for row in rows:
        losses = " | ".join(f"{loss:.4f}" for loss in row["losses"])  # type: ignore[attr-defined]
        print(f"| {row['kind']} | {losses} | {100 * row['test_accuracy']:.2f} % |")  # type: ignore[operator]
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
