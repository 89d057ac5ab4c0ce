"""Exported files and objects against a real lava-dl, in the interpreter that SNN_LAVA_PYTHON names."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from snn_lava_bridge import (
    CubaLIFNode,
    FlattenBlock,
    conv_block,
    dense_block,
    export_netx,
    pool_block,
    recurrent_block,
    run_netx,
    simulate,
    verify,
)

PYTHON = os.environ.get("SNN_LAVA_PYTHON")
pytestmark = pytest.mark.skipif(not PYTHON, reason="SNN_LAVA_PYTHON names no interpreter with lava-dl and lava")


@pytest.mark.parametrize("name", ["mlp", "conv", "mlp_recurrent", "mlp_bias", "conv_pool_lowered"])
def test_files_of_lava_dl_run_as_recorded(name, golden, data_dir):
    g = golden(f"net_{name.removesuffix('_lowered')}")
    x, y = g.seq("x")[:, :1], g.seq("y_netx")[:, :1]
    assert torch.equal(run_netx(data_dir / f"net_{name}.net", x), y)


def nets():
    def node(channels, bias):
        return CubaLIFNode(
            torch.rand(channels) if bias else 0.4, 0.1, 0.7, arithmetic="chip",
            bias=torch.randn(channels) * 0.1 if bias else None,
        )  # fmt: skip

    for seed in range(2):
        torch.manual_seed(seed)
        bias = seed == 1
        yield (
            (1, 7, 6),
            nn.Sequential(
                conv_block(1, 4, 3, node(4, False), padding=1, stride=(2, 1)),
                pool_block(2, CubaLIFNode(1.0, 0.2, 0.9, arithmetic="chip"), stride=1),
                FlattenBlock(),
                dense_block(4 * 3 * 5, 8, node(8, bias), delay=torch.rand(8) * 5),
                recurrent_block(8, 5, node(5, bias)),
            ),
        )


def test_exported_networks_run_in_netx_as_simulated(tmp_path):
    for k, (shape, net) in enumerate(nets()):
        for module in net.modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter):
                nn.init.normal_(module.weight, std=0.5)
        export_netx(net, tmp_path / f"{k}.net", shape)
        x = (torch.rand(30, 1, *shape) < 0.5).to(torch.uint8)
        assert bool(simulate(tmp_path / f"{k}.net", x).any())
        report = verify(net, tmp_path / f"{k}.net", x, python=PYTHON)
        assert report.netx
        assert report.ok, str(report)


SCRIPT = """
import torch
from torch import nn
from snn_lava_bridge import *
from snn_lava_bridge import lava_objects

torch.manual_seed(0)
def node(th=1.0):
    return CubaLIFNode(0.25, 0.1, th, step_mode="m")

net = nn.Sequential(
    conv_block(1, 4, 3, node(), padding=1, step_mode="m"), pool_block(2, node(1.5), step_mode="m"), FlattenBlock(),
    dense_block(4 * 4 * 4, 6, node(), delay=torch.tensor([0.0, 1, 2, 3, 4, 5]), step_mode="m"),
)
for module in net.modules():
    if isinstance(getattr(module, "weight", None), nn.Parameter):
        nn.init.normal_(module.weight, std=0.5)
x = (torch.rand(25, 2, 1, 8, 8) < 0.4).float()
lava = to_lava_blocks(net)
out = NXT_to_TNX(lava(TNX_to_NXT(x)))
mine = net(x)
assert mine.any() and torch.equal(out, mine), int((out != mine).sum())

fc, n = nn.Linear(5, 4, bias=False), node(0.5)
nn.init.normal_(fc.weight)
z = (torch.rand(12, 2, 5) < 0.5).float()
assert torch.allclose(linear_to_lava_synapse_dense(fc)(TNX_to_NXT(z)), TNX_to_NXT(fc(z)), atol=1e-5)
current = torch.round(fc(z) * 64) / 64
block = to_lava_block_dense(fc, n)
assert torch.equal(lava_neuron_forward(block.neuron, current), n(current))
conv = nn.Conv2d(2, 4, 3, stride=2, groups=2, bias=False)
image = torch.rand(3, 2, 2, 9, 8)
y = conv(image.flatten(0, 1)).unflatten(0, (3, 2))
assert torch.allclose(NXT_to_TNX(conv2d_to_lava_synapse_conv(conv)(TNX_to_NXT(image))), y, atol=1e-5)
pool = nn.AvgPool2d(2)
y = pool(image[..., :8, :].flatten(0, 1)).unflatten(0, (3, 2))
assert torch.allclose(NXT_to_TNX(avgpool2d_to_lava_synapse_pool(pool)(TNX_to_NXT(image[..., :8, :]))), y, atol=1e-5)
for wrong in (nn.AvgPool2d(3, 1), nn.AvgPool2d(2, padding=1)):
    try:
        avgpool2d_to_lava_synapse_pool(wrong)
    except ValueError as error:
        assert "mixes channels" in str(error)
    else:
        raise AssertionError("wrong pool accepted")
print("objects agree")
"""


def test_objects_of_lava_dl_compute_what_the_modules_do():
    paths = os.pathsep.join(p for p in sys.path if p.endswith("src"))
    done = subprocess.run(
        [PYTHON, "-c", textwrap.dedent(SCRIPT)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, check=False,
    )  # fmt: skip
    assert "objects agree" in done.stdout, done.stderr[-2000:]
