"""Train a small spiking transformer on the handwritten digits of scikit-learn.

    python docs/examples/spiking_transformer.py [--epochs 40]

Patches of 2 x 2 pixels are tokens; attention multiplies spikes and needs no softmax.
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
    """Images ``[N, 1, H, W]`` as patches of 2 x 2, ``[steps, N, tokens, 4]``."""
    patches = F.unfold(images, 2, stride=2).transpose(1, 2)
    return patches.expand(steps, *patches.shape)


def main() -> None:
    quick = "SNN_EXAMPLE_QUICK" in os.environ
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=6 if quick else 40)
    parser.add_argument("--steps", type=int, default=4, help="time steps T")
    args = parser.parse_args()
    torch.manual_seed(0)
    data = load_digits()
    net = SpikingTransformer(4, data.x_train.shape[-1] * data.x_train.shape[-2] // 4)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.02)
    batches = -(-len(data.x_train) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=args.epochs * batches)
    for epoch in range(args.epochs):
        net.train()
        for index in progress(torch.randperm(len(data.x_train)).split(64), desc=f"epoch {epoch + 1}"):
            reset_net(net)
            loss = F.cross_entropy(net(tokens(data.x_train[index], args.steps)), data.y_train[index])
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
