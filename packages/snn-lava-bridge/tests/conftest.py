"""Vectors of the real lava-dl and networks built from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snn_lava_bridge import (
    BlockContainer,
    ConvSynapse,
    CubaLIFNode,
    DenseSynapse,
    FlattenBlock,
    PoolSynapse,
    RecurrentBlock,
)

DATA = Path(__file__).with_name("data")


class Golden:
    """One ``.npz`` with its ``.json``: arrays as tensors, time moved to the front."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self.settings: dict[str, Any] = json.loads((DATA / f"{stem}.json").read_text())
        self.arrays = np.load(DATA / f"{stem}.npz")

    def __contains__(self, name: str) -> bool:
        return name in self.arrays.files

    def raw(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def seq(self, name: str) -> Tensor:
        return self.raw(name).movedim(-1, 0)


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    cache: dict[str, Golden] = {}

    def load(stem: str) -> Golden:
        if stem not in cache:
            cache[stem] = Golden(stem)
        return cache[stem]

    return load


@pytest.fixture(scope="session")
def data_dir() -> Path:
    return DATA


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _neuron(layer: dict[str, Any], g: Golden, arithmetic: str) -> CubaLIFNode:
    k, p = layer["index"], layer["neuron"]
    bias = f"bias{k}_int"
    return CubaLIFNode(
        g.raw(f"current_decay{k}").squeeze() if f"current_decay{k}" in g else torch.tensor(p["iDecay"]) / 4096,
        g.raw(f"voltage_decay{k}").squeeze() if f"voltage_decay{k}" in g else torch.tensor(p["vDecay"]) / 4096,
        p["threshold"],
        scale=p["scale"],
        bias=g.raw(bias).float() / p["scale"] if bias in g else None,
        arithmetic=arithmetic,  # type: ignore[arg-type]
        step_mode="m",
    )


@pytest.fixture(scope="session")
def golden_net(golden: Callable[[str], Golden]) -> Callable[[str, str], nn.Sequential]:
    """``golden_net(name, arithmetic)``: a network of blocks with the float weights that lava-dl exported."""

    def build(name: str, arithmetic: str = "chip") -> nn.Sequential:
        g = golden(f"net_{name}")
        modules: list[nn.Module] = []
        for layer in g.settings["layers"]:
            kind, k = layer["kind"], layer["index"]
            if kind == "Input":
                continue
            if kind == "Flatten":
                modules.append(FlattenBlock())
                continue
            neuron, geometry = _neuron(layer, g, arithmetic), layer["geometry"]
            delay = g.raw(f"delay{k}") if f"delay{k}" in g else None
            options = {n: tuple(geometry[n]) for n in ("stride", "padding", "dilation")}
            if kind == "Pool":
                synapse = PoolSynapse(tuple(geometry["kernel_size"]), **options)
                modules.append(BlockContainer(synapse, neuron, step_mode="m"))
                continue
            weight = g.raw(f"w{k}_float") if f"w{k}_float" in g else g.raw(f"w{k}_in_float")
            if kind == "Conv":
                conv = ConvSynapse(weight[..., 0], groups=geometry["groups"], **options)
                modules.append(BlockContainer(conv, neuron, delay=delay, step_mode="m"))
            elif kind == "Recurrent":
                recurrent = DenseSynapse(g.raw(f"w{k}_rec_float").flatten(1))
                modules.append(RecurrentBlock(DenseSynapse(weight.flatten(1)), recurrent, neuron, step_mode="m"))
            else:
                modules.append(BlockContainer(DenseSynapse(weight.flatten(1)), neuron, delay=delay, step_mode="m"))
        return nn.Sequential(*modules)

    return build
