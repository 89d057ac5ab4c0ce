"""Whole blocks against slayer's, bit for bit."""

import pytest
import torch

from snn_base import reset_net
from snn_lava_bridge import (
    BlockContainer,
    ConvSynapse,
    CubaLIFNode,
    DenseSynapse,
    FlattenBlock,
    LavaExportError,
    PoolSynapse,
    export_netx,
    integer_weights,
    simulate,
)

CASES = [
    "conv_shift0", "conv_shift1", "dense_axonal_delay", "dense_persistent_stepwise", "dense_shift0", "dense_shift1",
    "pool_shift0", "pool_shift1",
]  # fmt: skip


def make(g, case, arithmetic, backend="auto"):
    p, weight = g.settings[case], g.raw(f"{case}/weight_float")
    neuron = CubaLIFNode(
        p["neuron"]["current_decay"],
        p["neuron"]["voltage_decay"],
        p.get("threshold", p["neuron"]["threshold"]),
        arithmetic=arithmetic,
        backend=backend,
    )
    if p["kind"] == "dense":
        synapse = DenseSynapse(weight.flatten(1))
    elif p["kind"] == "conv":
        synapse = ConvSynapse(weight[..., 0], p["stride"], p["padding"])
    else:
        synapse = PoolSynapse(p["kernel_size"], weight=float(weight.flatten()[0]))
    delay = g.raw(f"{case}/delay_param") if f"{case}/delay_param" in g else None
    return BlockContainer(synapse, neuron, delay=delay, delay_shift=p["delay_shift"], step_mode="m")


@pytest.mark.parametrize("arithmetic", ["slayer", "chip"])
@pytest.mark.parametrize("case", CASES)
def test_blocks_are_slayers(case, arithmetic, golden):
    g = golden("block_cuba")
    block = make(g, case, arithmetic)
    x, expected = g.seq(f"{case}/input"), g.seq(f"{case}/output")
    assert bool(expected.any())
    integers = g.raw(f"{case}/weight_int").long()
    assert torch.equal(integer_weights(block.synapse.weight, 64).reshape(integers.shape), integers)
    assert torch.equal(block(x), expected)
    reset_net(block)
    block.step_mode = "s"
    assert torch.equal(torch.stack([block(step) for step in x]), expected)


@pytest.mark.parametrize("case", CASES)
def test_blocks_run_on_the_chip_as_in_slayer(case, golden, tmp_path):
    g = golden("block_cuba")
    block = make(g, case, "chip")
    x, expected = g.seq(f"{case}/input"), g.seq(f"{case}/output")
    if not g.settings[case]["delay_shift"]:
        with pytest.raises(LavaExportError, match="delay_shift"):
            export_netx(block, tmp_path / "block.net", tuple(x.shape[2:]))
        return
    export_netx(block, tmp_path / "block.net", tuple(x.shape[2:]))
    assert torch.equal(simulate(tmp_path / "block.net", x), expected)


def test_flatten_is_slayers(golden):
    g = golden("block_cuba")
    assert torch.equal(FlattenBlock()(g.seq("flatten/input")), g.seq("flatten/output"))
    with pytest.raises(ValueError, match="FlattenBlock needs"):
        FlattenBlock()(torch.ones(2, 3, 4))
