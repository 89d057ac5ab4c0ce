"""Train a spiking net on several processes, with checkpoints from which any number of processes can go on.

    torchrun --nproc-per-node 2 docs/examples/train_distributed.py [--engine ddp|fsdp] [--steps 40]

Runs with NCCL where each process has a GPU and with gloo otherwise; without torchrun it is one process. Every process
takes its part of the same global batches, so the losses are those of one process. A run that was killed continues from
its last checkpoint, to the weights that an undisturbed run has.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from digits import load_digits
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from snn_base import reset_net
from snn_layers import Flatten, Linear
from snn_neurons import LIFNode


def make_net(inputs: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        Flatten(step_mode="m"),
        Linear(inputs, 256, step_mode="m"),
        LIFNode(v_threshold=0.25, step_mode="m"),
        Linear(256, 256, step_mode="m"),
        LIFNode(v_threshold=0.25, step_mode="m"),
        Linear(256, classes, step_mode="m"),
    )


# --8<-- [start:distribute]
def distribute(net: nn.Sequential, engine: str, device: torch.device) -> nn.Module:
    """Wrap or shard the net. Memories are neither parameters nor buffers: each process keeps those of its samples."""
    if not dist.is_initialized():
        return net
    if engine == "ddp":
        return DistributedDataParallel(net)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in net:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net


# --8<-- [end:distribute]


def batch_of(step: int, samples: int, batch: int, rank: int, world: int) -> Tensor:
    """Indices of this process in the global batch of a step; the same for any number of processes together."""
    order = torch.randperm(samples, generator=torch.Generator().manual_seed(step))[:batch]
    return order.chunk(world)[rank]


def save(folder: Path, step: int, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write a checkpoint under a new name, then point to it, so that a kill leaves the old one whole."""
    weights, moments = get_state_dict(net, optimizer)
    dcp.save(
        {"net": weights, "optimizer": moments}, checkpoint_id=folder / f"step-{step}", no_dist=not dist.is_initialized()
    )
    if not dist.is_initialized() or dist.get_rank() == 0:
        (folder / "latest.tmp").write_text(str(step))
        (folder / "latest.tmp").replace(folder / "latest")


def resume(folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the last checkpoint, whatever the number of processes that wrote it; returns its step, or 0."""
    if not (folder / "latest").exists():
        return 0
    step = int((folder / "latest").read_text())
    weights, moments = get_state_dict(net, optimizer)
    state = {"net": weights, "optimizer": moments}
    dcp.load(state, checkpoint_id=folder / f"step-{step}", no_dist=not dist.is_initialized())
    set_state_dict(net, optimizer, model_state_dict=state["net"], optim_state_dict=state["optimizer"])
    return step


def main() -> None:
    quick = "SNN_EXAMPLE_QUICK" in os.environ
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="an .npz file or a folder of IDX files; default: the digits of scikit-learn")
    parser.add_argument("--engine", choices=("ddp", "fsdp"), default="ddp")
    parser.add_argument("--steps", type=int, default=10 if quick else 60)
    parser.add_argument("--batch", type=int, default=64, help="samples of all processes together")
    parser.add_argument("--time", type=int, default=4, help="time steps T")
    parser.add_argument("--checkpoints", type=Path, help="folder of checkpoints; none are written without it")
    parser.add_argument("--every", type=int, default=5, help="steps between checkpoints")
    parser.add_argument("--die-at", type=int, help="end the process without warning before this step, to try resuming")
    args = parser.parse_args()

    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    local = int(os.environ.get("LOCAL_RANK", 0))
    gpu = torch.cuda.is_available() and torch.cuda.device_count() > local
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if world > 1:
        dist.init_process_group("nccl" if gpu else "gloo")
    if args.batch % world:
        sys.exit(f"--batch {args.batch} must be a multiple of the {world} processes")

    data = load_digits(args.data)
    classes = int(data.y_train.max()) + 1
    torch.manual_seed(0)
    net = make_net(data.x_train[0].numel(), classes).to(device)
    model = distribute(net, args.engine, device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    start = 0
    if args.checkpoints is not None:
        args.checkpoints.mkdir(parents=True, exist_ok=True)
        start = resume(args.checkpoints, model, optimizer)

    for step in range(start, args.steps):
        if step == args.die_at:
            os._exit(17)
        index = batch_of(step, len(data.x_train), args.batch, rank, world)
        x, y = data.x_train[index].to(device), data.y_train[index].to(device)
        reset_net(net)
        loss = F.cross_entropy(model(x.expand(args.time, *x.shape)).mean(0), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shown = loss.detach()
        if world > 1:
            dist.all_reduce(shown)
            shown /= world
        if rank == 0:
            print(f"step {step} loss {shown.item():.8f}", flush=True)
        if args.checkpoints is not None and (step + 1) % args.every == 0:
            save(args.checkpoints, step + 1, model, optimizer)
    if world > 1:
        dist.barrier()
        os._exit(0)  # all is written; gloo's threads sometimes hang while the interpreter shuts down


if __name__ == "__main__":
    main()
