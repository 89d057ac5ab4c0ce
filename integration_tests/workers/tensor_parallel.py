"""Run under torchrun on two processes: a sharded linear layer before a neuron, against the whole net."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from snn_base import functional_call, reset_net
from snn_neurons import LIFNode


def make() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), LIFNode(step_mode="m"), nn.Linear(8, 4))


dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (dist.get_world_size(),))
x = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(1)) * 3
whole = make()
expected, _ = functional_call(whole, None, x)
expected.square().sum().backward()
for local in (True, False):
    net = make()
    plan = {"0": ColwiseParallel(use_local_output=local), "2": RowwiseParallel()}
    parallelize_module(net, mesh, plan)
    reset_net(net)
    y = net(x)
    y.square().sum().backward()
    torch.testing.assert_close(y, expected)
    v = net[1].v
    assert (v.to_local() if isinstance(v, DTensor) else v).shape == (3, 4), "the memory holds this process's neurons"
    assert isinstance(v, DTensor) != local
    torch.testing.assert_close(net[0].weight.grad.full_tensor(), whole[0].weight.grad)
print(f"rank {dist.get_rank()} equal", flush=True)
dist.barrier()
os._exit(0)  # gloo's threads sometimes abort while the interpreter shuts down
