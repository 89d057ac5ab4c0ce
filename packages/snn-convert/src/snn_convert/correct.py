"""Corrections of the spiking network on its own inputs, layer by layer."""

from typing import Any

import torch
from torch import Tensor, fx

from snn_base import reset_net
from snn_convert.neuron import ConvertedNeuron


@torch.no_grad()
def correct(
    network: fx.GraphModule,
    spiking: fx.GraphModule,
    x: Tensor,
    steps: int,
    *,
    bias: bool = True,
    membrane: bool = False,
    rounds: int = 2,
) -> None:
    """Let each neuron's mean output follow the activation it stands for, given what the layers before it really send.

    Bias correction adds to the current of each channel the mean difference of activation and spiking output; membrane
    calibration adds ``T`` times that difference to the initial membrane. Layers are corrected in order of execution, so
    that each sees the corrected ones before it.

    Args:
        network: the captured network.
        spiking: its unrolled twin; its neurons are changed in place.
        x: calibration inputs ``[N, ...]``.
        steps: time steps T.
        bias, membrane: which corrections.
        rounds: repetitions per layer, since a corrected current changes the error it was made for.

    Li et al., "A Free Lunch From ANN: Towards Efficient, Accurate Spiking Neural Networks Calibration", ICML 2021,
    arXiv:2106.06984.
    """
    names = [name for name, module in spiking.named_children() if isinstance(module, ConvertedNeuron)]
    wanted = _Means(network, set(names))
    wanted.run(x)
    reset_net(spiking)
    _Corrector(spiking, wanted.means, steps, bias, membrane, rounds).run(x, steps)
    reset_net(spiking)


def channel_mean(a: Tensor) -> Tensor:
    """Mean over all dims but the channel, ``[N, C, ...] -> [C, 1, ...]``."""
    dims = [d for d in range(a.dim()) if d != 1]
    return a.mean(dims, keepdim=True).squeeze(0)


class _Means(fx.Interpreter):
    def __init__(self, network: fx.GraphModule, names: set[str]) -> None:
        super().__init__(network)
        self.names, self.means = names, dict[str, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name in self.names:
            self.means[n.name] = channel_mean(value)
        return value


class _Corrector(fx.Interpreter):
    def __init__(
        self, spiking: fx.GraphModule, means: dict[str, Tensor], steps: int, bias: bool, membrane: bool, rounds: int
    ) -> None:
        super().__init__(spiking)
        self.means, self.steps, self.bias, self.membrane, self.rounds = means, steps, bias, membrane, rounds

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        neuron = self.submodules[target]
        if not isinstance(neuron, ConvertedNeuron):
            return super().call_module(target, args, kwargs)
        for _ in range(self.rounds):
            reset_net(neuron)
            error = self.means[target] - channel_mean(neuron(*args))
            if self.bias:
                neuron.offset = neuron.offset + error
            if self.membrane:
                start = neuron.initial + self.steps * error / neuron.threshold
                neuron.set_initial(start.clamp(-1.0, 2.0))
        reset_net(neuron)
        return neuron(*args)
