"""The list of neurons that the tests go through."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snn_neurons
from snn_neurons import StepNode

# Neurons run by a traced step, with the arguments that make each of their memories and parameters matter.
NEURONS: dict[str, tuple[str, dict[str, Any]]] = {
    "IF": ("IFNode", {}),
    "LIF": ("LIFNode", {"tau": 1.8}),
    "LIF-raw-input": ("LIFNode", {"tau": 1.8, "decay_input": False}),
    "PLIF": ("ParametricLIFNode", {"tau": 1.7}),
    "PLIF-raw-input": ("ParametricLIFNode", {"tau": 1.7, "decay_input": False}),
    "KLIF": ("KLIFNode", {"k": 1.3}),
    "LIAF": ("LIAFNode", {"act": torch.tanh}),
    "LIAF-above-threshold": ("LIAFNode", {"threshold_related": True}),
    "QIF": ("QIFNode", {"a0": 0.7}),
    "EIF": ("EIFNode", {"delta_T": 0.8}),
    "Izhikevich": ("IzhikevichNode", {"tau_w": 3.0, "a": 0.4, "b": 0.3}),
    "AdEx": ("AdExNode", {"tau_w": 3.0, "a": 0.4, "b": 0.3}),
    "ALIF": ("AdaptiveLIFNode", {"rho": 0.8, "beta": 0.9}),
    "CLIF": ("ComplementaryLIFNode", {}),
    "CUBA": ("CubaLIFNode", {"current_decay": 0.4, "voltage_decay": 0.3}),
    "Synaptic": ("SynapticLIFNode", {"tau_syn": 3.0}),
    "Alpha": ("AlphaLIFNode", {"tau_syn": 1.6}),
    "GLIF": ("GatedLIFNode", {"alpha": 0.3, "beta": 0.4, "gamma": 0.6}),
    "I-LIF": ("IntegerLIFNode", {"levels": 3}),
    "Ternary": ("TernaryLIFNode", {}),
    "Burst": ("BurstNode", {"gamma": 2}),
    "SignedIF": ("SignedIFNode", {}),
    "ResonateAndFire": ("ResonateAndFireNode", {"tau": 6.0, "omega": 0.9}),
    "Integrator": ("LeakyIntegrator", {"tau": 1.8}),
    "Integrator-raw-input": ("LeakyIntegrator", {"tau": 1.8, "decay_input": False}),
    "SLTT": ("SLTTLIFNode", {}),
    "OTTT": ("OTTTLIFNode", {}),
}
WITHOUT_RESET = {"LeakyIntegrator"}
OWN_RESET = {"GatedLIFNode"}


def _build(name: str, *, learn: bool = False, shape: tuple[int, ...] | None = None, **options: Any) -> StepNode:
    kind, arguments = NEURONS[name]
    if kind in WITHOUT_RESET:
        options = {k: v for k, v in options.items() if k in ("step_mode", "backend", "store_v_seq")}
    if kind in OWN_RESET:
        options.pop("v_reset", None)
    cls = getattr(snn_neurons, kind)
    node: StepNode = cls(**arguments, **options)
    if learn:
        names = [n for n in node.param_names if getattr(node, n) is not None]
        node = cls(**arguments, **options, learnable=names)
        if shape is not None:
            generator = torch.Generator().manual_seed(3)
            for n in names:
                value: Tensor = getattr(node, n).detach()
                setattr(node, n, nn.Parameter(value + 0.1 * torch.rand(shape, generator=generator)))
    return node


@pytest.fixture
def build() -> Callable[..., StepNode]:
    """``build(name, learn=..., shape=..., **options)``: a neuron of the list; ``learn`` makes all parameters learnable,
    with values that vary over ``shape``."""
    return _build


@pytest.fixture(params=list(NEURONS))
def neuron(request: pytest.FixtureRequest) -> str:
    """Each neuron of the list in turn."""
    return request.param
