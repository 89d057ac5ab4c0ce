"""Everyday use of all six packages, with the types that a user's editor shows."""

from pathlib import Path
from typing import assert_type

import torch
from own_parts import Leaky, TiredNode
from torch import Tensor, nn

import snn_base
import snn_convert
import snn_lava_bridge
import snn_layers
import snn_learning
import snn_neurons


def train(x_seq: Tensor, labels: Tensor) -> float:
    net = snn_layers.SpikingSequential(
        snn_layers.Linear(20, 50),
        snn_neurons.LIFNode(tau=2.0, surrogate=snn_neurons.ATan(alpha=2.0)),
        TiredNode(0.8),
        snn_layers.Dropout(0.1),
        snn_layers.Linear(50, 10),
        Leaky(0.9),
        step_mode="m",
    )
    optimizer = torch.optim.Adam(net.parameters())
    snn_base.reset_net(net, mask=torch.zeros(len(labels), dtype=torch.bool))
    loss = nn.functional.cross_entropy(net(x_seq).mean(0), labels)
    loss.backward()
    optimizer.step()
    snn_base.set_backend(net, "torch")
    for name, value in snn_base.named_memories(net):
        print(name.upper(), value)
    with snn_base.Recorder(net, outputs="1") as record:
        net(x_seq)
    assert_type(record["1"], Tensor)
    report = snn_neurons.explain_backend(snn_neurons.IFNode(step_mode="m"), x_seq)
    assert_type(report.backend, str)
    return loss.item()


def learn(spikes: Tensor) -> None:
    synapse, neuron = nn.Linear(20, 5, bias=False), snn_neurons.LIFNode()
    learner = snn_learning.Learner(snn_learning.PairSTDP(tau_plus=20.0), synapse, neuron)
    for x in spikes:
        neuron(synapse(x))
        learner.step()


def convert(model: nn.Module, images: Tensor) -> Tensor:
    if not snn_convert.check(model, images).supported:
        raise SystemExit("no")
    spiking = snn_convert.convert(model, [images], timesteps=8)
    assert_type(spiking, snn_convert.SpikingModel)
    checked = snn_convert.verify(model, spiking, images)
    assert_type(checked, snn_convert.Verification)
    return spiking.run(images, 8)


def deploy(net: nn.Sequential, file: Path, spikes: Tensor) -> bool:
    snn_lava_bridge.export_netx(net, file, (20,))
    simulated = snn_lava_bridge.simulate(file, spikes)
    assert_type(simulated, Tensor)
    return snn_lava_bridge.verify(net, file, spikes).ok


def misuse(net: nn.Module) -> None:
    """Each line is wrong; mypy says so, and complains of the comment where it should ever fall silent."""
    snn_base.reset_net("net")  # type: ignore[arg-type]
    snn_base.set_step_mode(net, 3)  # type: ignore[arg-type]
    snn_neurons.IFNode(1.0)  # type: ignore[call-arg]
    snn_neurons.LIFNode(tau="fast")  # type: ignore[arg-type]
    snn_layers.Dropout(0.5, step="m")  # type: ignore[call-arg]
    snn_learning.PairSTDP(20.0)  # type: ignore[call-arg]
    snn_convert.convert(net)  # type: ignore[call-arg]
    snn_lava_bridge.simulate(3, torch.zeros(1))  # type: ignore[arg-type]
