"""Whole nets through torch.compile, torch.export and ONNX, and fed frame by frame."""

import copy
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from snn_base import functional_call, load_memory_state, memory_state, multi_step_forward, reset_net, set_step_mode
from snn_layers import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d
from snn_neurons import AdaptiveLIFNode, LIFNode


@pytest.fixture
def net():
    return make_net()


def make_net():
    torch.manual_seed(0)
    layers = [
        Conv2d(1, 4, 3, padding=1, step_mode="m"),
        BatchNorm2d(4, step_mode="m"),
        LIFNode(step_mode="m"),
        MaxPool2d(2, step_mode="m"),
        Flatten(step_mode="m"),
        Linear(36, 10, step_mode="m"),
        AdaptiveLIFNode(v_reset=None, step_mode="m"),
    ]
    net = nn.Sequential(*layers).eval()
    with torch.no_grad():
        net[5].weight.mul_(6)
        net[5].bias.fill_(0.6)
    return net


def frames(steps, batch):
    return torch.rand(steps, batch, 1, 6, 6, generator=torch.Generator().manual_seed(steps)) * 4


def test_one_compilation_serves_all_lengths_and_batches(net):
    torch._dynamo.reset()
    net.train()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=counter)
    twin = copy.deepcopy(net)
    # torch itself compiles convolutions of less than 16 samples (here steps x batch) anew
    for steps, batch in [(4, 5), (8, 3), (16, 2), (100, 4)]:
        x = frames(steps, batch)
        reset_net(net)
        reset_net(twin)
        y, expected = compiled(x), twin(x)
        torch.testing.assert_close(y, expected)
        y.sum().backward()
        expected.sum().backward()
        for a, b in zip(net.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    assert counter.frame_count == 1


def export(net, x):
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The tensor attribute.* assigned during export")
        return torch.export.export(net, (x,), dynamic_shapes=({0: free, 1: free},), strict=False)


LOADER = """
import sys, torch, snn_neurons
program = torch.export.load(sys.argv[1]).module()
for x, y in torch.load(sys.argv[2]):
    torch.testing.assert_close(program(x), y)
print("equal")
"""


def test_an_exported_net_runs_in_another_process_for_any_length_and_batch(net, tmp_path):
    cases = []
    for steps, batch in [(4, 2), (7, 3), (1, 5)]:
        with torch.no_grad():
            cases.append((frames(steps, batch), functional_call(net, None, frames(steps, batch))[0]))
    assert all(y.sum() > 0 for _, y in cases[:2])
    program = export(net, cases[0][0])
    torch.export.save(program, tmp_path / "net.pt2")
    torch.save(cases, tmp_path / "cases.pt")
    command = [sys.executable, "-c", LOADER, tmp_path / "net.pt2", tmp_path / "cases.pt"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


class Unrolled(nn.Module):
    """A net of single steps over a sequence of fixed length, in plain operations."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        set_step_mode(net, "s")

    def forward(self, x_seq):
        return multi_step_forward(x_seq, self.net)


@pytest.mark.filterwarnings("ignore")
def test_onnx_runtime_gives_the_same_spikes(net, tmp_path):
    pytest.importorskip("onnxscript", reason="the ONNX exporter needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime", reason="running ONNX needs onnxruntime")
    x = frames(5, 2)
    with torch.no_grad():
        y, _ = functional_call(net, None, x)
    reset_net(net)
    program = torch.onnx.export(Unrolled(net), (x,), dynamo=True, verbose=False)
    program.save(tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert y.sum() > 0
    assert torch.equal(torch.from_numpy(got), y)


STREAM = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_toolchain as t
from snn_base import load_memory_state, set_step_mode
net = t.make_net()
set_step_mode(net, "s")
load_memory_state(net, torch.load(sys.argv[2]))
with torch.no_grad():
    out = [net(x) for x in t.frames(12, 2)[6:]]
torch.save(torch.stack(out), sys.argv[3])
"""


def test_a_stream_goes_on_in_another_process_from_its_saved_state(net, tmp_path):
    x = frames(12, 2)
    with torch.no_grad():
        expected, _ = functional_call(net, None, x)
        set_step_mode(net, "s")
        for frame in x[:6]:
            net(frame)
    torch.save(memory_state(net), tmp_path / "state.pt")
    weights = tmp_path / "out.pt"
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", STREAM, here, tmp_path / "state.pt", weights],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(torch.load(weights), expected[6:])


def test_samples_of_a_stream_are_reset_one_by_one(net):
    set_step_mode(net, "s")
    x = frames(6, 3)
    with torch.no_grad():
        for frame in x[:3]:
            net(frame)
        reset_net(net, torch.tensor([False, True, False]))
        later = torch.stack([net(frame) for frame in x[3:]])
        reset_net(net)
        fresh = torch.stack([net(frame) for frame in x[3:]])
        reset_net(net)
        whole = torch.stack([net(frame) for frame in x])
    torch.testing.assert_close(later[:, 1], fresh[:, 1])
    torch.testing.assert_close(later[:, 0], whole[3:, 0])
    assert not torch.equal(later[:, 1], whole[3:, 1])


def test_a_stream_keeps_nothing_but_its_state(net):
    set_step_mode(net, "s")
    sizes = []
    with torch.no_grad():
        for frame in frames(40, 2):
            net(frame)
            held = [t for m in memory_state(net).values() for t in m.values() if isinstance(t, torch.Tensor)]
            sizes.append(sum(t.untyped_storage().nbytes() for t in held))
    assert sizes[-1] == sizes[1]
    load_memory_state(net, memory_state(net))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_membranes_in_float32(net, dtype):
    x = frames(6, 2)
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        y = net(x)
    assert net[2].v.dtype == net[6].v.dtype == torch.float32
    reset_net(net)
    with torch.no_grad():
        half = net.to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    assert net[2].v.dtype == torch.float32
    assert y.shape == half.shape


def test_tensor_parallel_layers_before_a_neuron():
    worker = Path(__file__).parent / "workers" / "tensor_parallel.py"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(worker)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300, check=False)
    assert sorted(re.findall(r"rank \d equal", done.stdout)) == ["rank 0 equal", "rank 1 equal"], done.stderr[-3000:]
