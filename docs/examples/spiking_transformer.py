"""Train a small spiking transformer on the handwritten digits of scikit-learn.

    python docs/examples/spiking_transformer.py [--epochs 40] [--seed 0]

Overlapping patches of 4 x 4 pixels are tokens; attention multiplies spikes and needs no softmax.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.nn.functional as F
from digits import load_digits
from torch import Tensor, nn

from snn_base import reset_net
from snn_base.progress import progress
from snn_layers import BatchNorm1d, Linear, SpikingAttentionBlock
from snn_neurons import LIFNode


def neuron() -> nn.Module:
    return LIFNode(v_threshold=0.5, step_mode="m")


class SpikingTransformer(nn.Module):
    """Tokens ``[T, N, tokens, values]`` to class scores ``[N, 10]``."""

    def __init__(self, values: int, tokens: int, dim: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.embed = Linear(values, dim, bias=False, step_mode="m")
        self.bn = BatchNorm1d(dim, step_mode="m")
        self.position = nn.Parameter(0.02 * torch.randn(tokens, dim))
        self.neuron = neuron()
        self.blocks = nn.Sequential(
            *(SpikingAttentionBlock(dim, neuron, heads, scale=0.25, mlp_ratio=2, step_mode="m") for _ in range(depth))
        )
        self.head = Linear(dim, 10, step_mode="m")

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.embed(x).transpose(-1, -2)).transpose(-1, -2) + self.position
        return self.head(self.blocks(self.neuron(x)).mean(2)).mean(0)


def tokens(images: Tensor, steps: int) -> Tensor:
    """Images ``[N, 1, H, W]`` as patches of 4 x 4 pixels, two apart: ``[steps, N, tokens, 16]``."""
    patches = F.unfold(images, 4, padding=1, stride=2).transpose(1, 2)
    return patches.expand(steps, *patches.shape)


def shifted(images: Tensor) -> Tensor:
    """Images ``[N, 1, H, W]``, each moved by up to one pixel at random."""
    n, _, height, width = images.shape
    down, right = torch.randint(3, (2, n, 1, 1))
    rows, columns = down + torch.arange(height).view(-1, 1), right + torch.arange(width)
    return F.pad(images, (1, 1, 1, 1))[torch.arange(n).view(-1, 1, 1), 0, rows, columns].unsqueeze(1)


def main() -> None:
    quick = "SNN_EXAMPLE_QUICK" in os.environ
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6 if quick else 40)
    parser.add_argument("--steps", type=int, default=4, help="time steps T")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data = load_digits()
    net = SpikingTransformer(16, tokens(data.x_test[:1], 1).shape[2])
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
    batches = -(-len(data.x_train) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=args.epochs * batches)
    for epoch in range(args.epochs):
        net.train()
        for index in progress(torch.randperm(len(data.x_train)).split(64), desc=f"epoch {epoch + 1}"):
            reset_net(net)
            scores = net(tokens(shifted(data.x_train[index]), args.steps))
            loss = F.cross_entropy(scores, data.y_train[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            reset_net(net)
            right = net(tokens(data.x_test, args.steps)).argmax(1) == data.y_test
        if (epoch + 1) % 5 == 0 or epoch + 1 == args.epochs:
            print(f"epoch {epoch + 1:2d}  loss {loss.item():.4f}  test accuracy {100 * right.float().mean():.2f} %")


if __name__ == "__main__":
    main()
