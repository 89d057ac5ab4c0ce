"""The quickstart's later chapters: conversion, local learning and export, each on the digits in a few seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from digits import Digits
from torch import Tensor, nn

from snn_base import plot, reset_net
from snn_base.progress import progress
from snn_convert import convert
from snn_lava_bridge import CubaLIFNode, FlattenBlock, choose_scales, dense_block, export_netx, simulate, verify
from snn_learning.networks import DiehlCookNetwork, RetinaEncoder, assign_labels, classify
from snn_neurons.surrogates import ATan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Chapter = tuple[list[str], dict[str, "Figure"]]
MOST = 1500  # training images per chapter; larger sets are for the examples of their own


def fit(
    net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], data: Digits, epochs: int, lr: float, name: str
) -> None:
    """Train with Adam; ``loss`` takes images and labels."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    net.train()
    for _ in progress(range(epochs), desc=name):
        for rows in torch.randperm(len(data.x_train[:MOST])).split(64):
            optimizer.zero_grad()
            loss(data.x_train[rows], data.y_train[rows]).backward()
            optimizer.step()
    net.eval()


def share(guess: Tensor, labels: Tensor) -> float:
    """Percentage of right answers."""
    return 100 * float((guess == labels).float().mean())


def conversion(data: Digits, classes: int, epochs: int) -> Chapter:
    """Train an ordinary ReLU network, convert it, and see how many steps it takes to be as accurate."""
    ann = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (data.x_train.shape[-2] // 2) * (data.x_train.shape[-1] // 2), 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
    fit(ann, lambda x, y: F.cross_entropy(ann(x), y), data, epochs, 5e-3, "ordinary network")
    spiking = convert(ann, list(data.x_train[:512].split(128)), timesteps=16)
    with torch.no_grad():
        reference = share(ann(data.x_test[:MOST]).argmax(1), data.y_test[:MOST])
        curve = {
            steps: share(spiking.run(data.x_test[:MOST], steps).argmax(1), data.y_test[:MOST])
            for steps in (1, 2, 4, 8, 16, 32)
        }
    lines = [f"ordinary network   {reference:.2f} %", f"converted, 16 steps {curve[16]:.2f} %"]
    fractions = {steps: value / 100 for steps, value in curve.items()}
    return lines, {"conversion": plot.accuracy_over_time({"converted": fractions}, reference=reference / 100)}


@torch.no_grad()
def local_learning(data: Digits, classes: int, epochs: int, seed: int) -> Chapter:
    """Learn the digits by STDP without labels, which only name the neurons afterwards."""
    images, labels = data.x_train[:MOST].squeeze(1), data.y_train[:MOST]
    height, width = images.shape[-2:]
    net = DiehlCookNetwork(
        height * width,
        100,
        anneal_samples=epochs * len(images),
        generator=torch.Generator().manual_seed(seed),
    )
    small = min(height, width) < 16
    encoder = RetinaEncoder(20, sigma=0.0 if small else 0.8, contrast=3.0 if small else 4.0, seed=seed)
    net.train()
    for _ in progress(range(epochs), desc="STDP"):
        for rows in torch.randperm(len(images)).split(32):
            net.learn(encoder(images[rows]))
    net.eval()

    def respond(x: Tensor) -> Tensor:
        return torch.cat([net.respond(encoder(part)).sum(0) for part in x.split(250)])

    assignment = assign_labels(respond(images), labels, classes=classes)
    guess = classify(respond(data.x_test[:MOST].squeeze(1)), assignment)
    lines = [f"STDP, no labels    {share(guess, data.y_test[:MOST]):.2f} %"]
    return lines, {"stdp_weights": plot.filters(net.weight, shape=(height, width))}


def latency_spikes(images: Tensor, shown: int = 8, silent: int = 3) -> Tensor:
    """Spikes ``[T, N, 1, H, W]``: at step t the pixels brighter than level t, then silence for the layers' latency."""
    levels = (torch.arange(shown) + 0.5) / shown
    spikes = (images.unsqueeze(0) > levels.view(-1, 1, 1, 1, 1)).float()
    return torch.cat([spikes, spikes.new_zeros(silent, *spikes.shape[1:])])


def deployment(data: Digits, classes: int, epochs: int, file: Path) -> Chapter:
    """Train with the chip's own neuron and weights, write its file, and compare the two spike by spike."""
    shape = tuple(data.x_train.shape[1:])

    def neuron() -> CubaLIFNode:
        return CubaLIFNode(0.5, 0.125, 0.5, requires_grad=True, surrogate_function=ATan(), step_mode="m")

    def make(*, quantize: bool) -> nn.Sequential:
        return nn.Sequential(
            FlattenBlock(),
            dense_block(shape[1] * shape[2], 64, neuron(), quantize=quantize, step_mode="m"),
            dense_block(64, 5 * classes, neuron(), quantize=quantize, step_mode="m"),
        )

    def votes(net: nn.Module, images: Tensor) -> Tensor:
        reset_net(net)
        spikes: Tensor = net(latency_spikes(images))
        reset_net(net)
        return spikes

    def count(spikes: Tensor) -> Tensor:
        return spikes.sum(0).unflatten(1, (classes, 5)).sum(2)

    float_net, net = make(quantize=False), make(quantize=True)
    fit(float_net, lambda x, y: F.cross_entropy(count(votes(float_net, x)) / 3, y), data, epochs, 5e-3, "chip's neuron")
    net.load_state_dict(float_net.state_dict())
    choose_scales(net, max_saturated=0.001)
    fit(
        net, lambda x, y: F.cross_entropy(count(votes(net, x)) / 3, y), data, max(1, epochs // 3), 1e-3, "8-bit weights"
    )
    export_netx(net, file, shape)
    test, answers = data.x_test[:MOST], data.y_test[:MOST]
    spikes = latency_spikes(test)
    report, simulated = verify(net, file, spikes), simulate(file, spikes)
    with torch.no_grad():
        exact = report.ok and torch.equal(simulated, votes(net, test))
    if not exact:
        raise SystemExit(f"error: {file.name} does not compute what was trained\n{report}")
    lines = [
        f"Loihi file         {share(count(simulated).argmax(1), answers):.2f} %, equal to the module spike by spike"
    ]
    return lines, {"loihi_output": plot.raster(simulated[:, 0])}
