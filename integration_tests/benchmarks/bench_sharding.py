"""Peak memory of a process that trains with DDP and with FSDP2, on two processes.

torchrun --nproc-per-node 2 integration_tests/benchmarks/bench_sharding.py --engine ddp|fsdp [--width 3000]
"""

import argparse
import os
import resource

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from snn_base import reset_net
from snn_layers import Linear
from snn_neurons import LIFNode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("ddp", "fsdp"), required=True)
    parser.add_argument("--width", type=int, default=3000)
    parser.add_argument("--layers", type=int, default=6)
    args = parser.parse_args()
    gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if gpu else "gloo")
    rank = dist.get_rank()
    device = torch.device("cuda", rank) if gpu else torch.device("cpu")
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(args.layers):
        layers += [Linear(args.width, args.width, step_mode="m"), LIFNode(v_threshold=0.3, step_mode="m")]
    net = nn.Sequential(*layers).to(device)
    model: nn.Module = net
    if args.engine == "ddp":
        model = DistributedDataParallel(net)
    else:
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for layer in net:
            if isinstance(layer, nn.Linear):
                fully_shard(layer, mesh=mesh)
        fully_shard(net, mesh=mesh)
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.rand(4, 8, args.width, device=device)
    for _ in range(3):
        reset_net(net)
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    peak = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{args.engine} rank {rank} peak {peak / 2**20:.0f} MiB", flush=True)
    dist.barrier()
    os._exit(0)  # gloo's threads sometimes hang while the interpreter shuts down


if __name__ == "__main__":
    main()
