"""One multi-step layer of each library as a function of its input; a missing combination is absent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

sys.modules.setdefault("samna", None)  # type: ignore[arg-type]  # sinabs would import it, and it runs pip when imported

Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Layer:
    """`forward` of a fresh sequence; `params` to differentiate; `time_first`: [T, N, ...] and not [N, T, ...]."""

    forward: Forward
    params: list[torch.nn.Parameter] = field(default_factory=list)
    time_first: bool = True


Make = Callable[[str], Layer]  # device -> layer
ADAPTERS: dict[str, dict[str, Make]] = {}


def adapter(lib: str, *kinds: str) -> Callable[[Callable[[str, str], Layer]], Callable[[str, str], Layer]]:
    """Register `make(kind, device)` for the neuron kinds the library has."""

    def add(make: Callable[[str, str], Layer]) -> Callable[[str, str], Layer]:
        ADAPTERS[lib] = {kind: (lambda device, kind=kind: make(kind, device)) for kind in kinds}
        return make

    return add


def _ours(kind: str, device: str, backend: str) -> Layer:
    import snn_neurons as sn

    options = {"step_mode": "m", "backend": backend, "surrogate": sn.ATan(alpha=2.0)}
    make = {"if": sn.IFNode, "lif": sn.LIFNode, "plif": sn.ParametricLIFNode, "alif": sn.AdaptiveLIFNode}[kind]
    node = make(**options).to(device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        node.reset()
        y: torch.Tensor = node(x)
        return y

    return Layer(forward, list(node.parameters()))


def _add_ours(backend: str) -> None:
    @adapter(f"snn_neurons[{backend}]", "if", "lif", "plif", "alif")
    def make(kind: str, device: str) -> Layer:
        return _ours(kind, device, backend)


for _backend in ("native", "torch", "triton"):
    _add_ours(_backend)


@adapter("snn_neurons[user]", "lif")
def user(kind: str, device: str) -> Layer:
    """A neuron as a user would write it, equal to the LIF."""
    from typing import NamedTuple

    import snn_neurons as sn

    class State(NamedTuple):
        v: torch.Tensor

    class MyLIF(sn.SpikingNode):
        def step(self, x, state, p):  # type: ignore[no-untyped-def]
            h = state.v + (x - state.v) / 2.0
            s = self.fire(h - 1.0, p)
            return s, state._replace(v=h * (1.0 - s))

    node = MyLIF(step_mode="m", surrogate=sn.ATan(alpha=2.0)).to(device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        node.reset()
        y: torch.Tensor = node(x)
        return y

    return Layer(forward)


def _spikingjelly(kind: str, device: str) -> torch.nn.Module:
    from spikingjelly.activation_based import neuron, surrogate

    common = {"surrogate_function": surrogate.ATan(2.0), "step_mode": "m"}
    if kind == "if":
        return neuron.IFNode(**common).to(device)
    if kind == "plif":
        return neuron.ParametricLIFNode(init_tau=2.0, **common).to(device)
    return neuron.LIFNode(tau=2.0, **common).to(device)


@adapter("spikingjelly", "if", "lif", "plif")
def spikingjelly(kind: str, device: str) -> Layer:
    node = _spikingjelly(kind, device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        node.reset()
        return node(x)

    return Layer(forward, list(node.parameters()))


@adapter("spikingjelly+compile", "if", "lif", "plif")
def spikingjelly_compile(kind: str, device: str) -> Layer:
    node = _spikingjelly(kind, device)
    compiled = torch.compile(node)

    def forward(x: torch.Tensor) -> torch.Tensor:
        node.reset()
        return compiled(x)

    return Layer(forward, list(node.parameters()))


@adapter("snntorch", "if", "lif", "plif")
def snntorch(kind: str, device: str) -> Layer:
    import snntorch as snn

    beta = 1.0 if kind == "if" else 0.5
    node = snn.Leaky(beta=beta, learn_beta=kind == "plif", reset_mechanism="zero").to(device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        mem, out = node.reset_mem(), []
        for step in x.unbind(0):  # x[t] would make the backward quadratic in T
            spike, mem = node(step, mem)
            out.append(spike)
        return torch.stack(out)

    return Layer(forward, [p for p in node.parameters() if kind == "plif" and p.requires_grad])


@adapter("norse", "if", "lif", "alif")
def norse(kind: str, device: str) -> Layer:
    import norse.torch as nt
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, lif_box_feed_forward_step
    from norse.torch.module.snn import SNN

    if kind == "if":
        layer = nt.IAF()
    elif kind == "alif":
        layer = nt.LSNN()
    else:
        parameters = nt.LIFBoxParameters(tau_mem_inv=torch.as_tensor(500.0, device=device))
        layer = SNN(lif_box_feed_forward_step, lambda x: LIFBoxFeedForwardState(v=torch.zeros_like(x[0])), parameters)
    layer = layer.to(device)
    return Layer(lambda x: layer(x)[0])


@adapter("sinabs", "if", "lif", "plif", "alif")
def sinabs(kind: str, device: str) -> Layer:
    import sinabs.layers as sl
    from sinabs.activation import SingleSpike

    tau = 1.4427  # steps: exp(-1/tau) = 1/2
    if kind == "if":
        layer = sl.IAF(spike_fn=SingleSpike)
    elif kind == "alif":
        layer = sl.ALIF(tau_mem=tau, tau_adapt=10.0, spike_fn=SingleSpike)
    else:
        layer = sl.LIF(tau_mem=tau, spike_fn=SingleSpike, train_alphas=kind == "plif")
    layer = layer.to(device)

    def forward(x: torch.Tensor) -> torch.Tensor:
        layer.reset_states()
        return layer(x)

    return Layer(forward, [p for p in layer.parameters() if kind == "plif" and p.requires_grad], time_first=False)


def selected(names: str, device: str) -> list[str]:
    """The adapters named in a comma list, or all that suit the device."""
    if names:
        unknown = [n for n in names.split(",") if n not in ADAPTERS]
        if unknown:
            raise SystemExit(f"--libs: no adapter named {', '.join(unknown)}; there are {', '.join(ADAPTERS)}")
        return names.split(",")
    skip = {"snn_neurons[triton]"} if device == "cpu" else {"snn_neurons[native]"}
    return [n for n in ADAPTERS if n not in skip]
