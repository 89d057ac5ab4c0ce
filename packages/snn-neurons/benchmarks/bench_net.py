"""Time a training step of Conv-BatchNorm-LIF x3 on 28x28 images (T = 4, batch 64), against the same with ReLU.

python bench_net.py --seconds 10
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import pairwise

import harness
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.modules.setdefault("samna", None)  # type: ignore[arg-type]  # sinabs would import it, and it runs pip when imported

T, BATCH, WIDTHS = 4, 64, (1, 32, 64, 64)


class FoldedNet(nn.Module):
    """Time is folded into the batch for convolution, norm and pooling; `activation` gets [T, N, C, H, W]."""

    def __init__(
        self, activation: Callable[[], nn.Module], reset: Callable[[nn.Module], object] = lambda m: None
    ) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o in pairs)
        self.acts = nn.ModuleList(activation() for _ in pairs)
        self.fc = nn.Linear(WIDTHS[-1] * 49, 10)
        self.start = reset  # not "reset", which peers call on every module that has it

    def forward(self, image: Tensor) -> Tensor:
        self.start(self)
        x = image.expand(T, *image.shape).flatten(0, 1)
        for i, (conv, norm, act) in enumerate(zip(self.convs, self.norms, self.acts, strict=True)):
            x = norm(conv(x))
            x = act(x.unflatten(0, (T, -1))).flatten(0, 1)
            if i < 2:
                x = F.max_pool2d(x, 2)
        return self.fc(x.flatten(1)).unflatten(0, (T, -1)).mean(0)


class SteppedNet(nn.Module):
    """The whole network is run step by step; `cell(x, state) -> (spikes, state)`, `state=None` at first."""

    def __init__(self, cell: Callable[[], nn.Module], initial: Callable[[nn.Module], object] = lambda m: None) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1, bias=False) for i, o in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(o) for _, o in pairs)
        self.cells = nn.ModuleList(cell() for _ in pairs)
        self.fc = nn.Linear(WIDTHS[-1] * 49, 10)
        self.initial = initial

    def forward(self, image: Tensor) -> Tensor:
        states = [self.initial(c) for c in self.cells]
        out = torch.zeros(image.shape[0], 10, device=image.device)
        for _ in range(T):
            x = image
            for i, (conv, norm, cell) in enumerate(zip(self.convs, self.norms, self.cells, strict=True)):
                x, states[i] = cell(norm(conv(x)), states[i])
                if i < 2:
                    x = F.max_pool2d(x, 2)
            out = out + self.fc(x.flatten(1))
        return out / T


class BatchFirst(nn.Module):
    """A layer that wants [N, T, ...]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(0, 1).contiguous()).transpose(0, 1).contiguous()


def ours(backend: str) -> nn.Module:
    import snn_base
    import snn_neurons as sn

    return FoldedNet(
        lambda: sn.LIFNode(tau=2.0, surrogate=sn.ATan(alpha=2.0), step_mode="m", backend=backend), snn_base.reset_net
    )


def spikingjelly() -> nn.Module:
    from spikingjelly.activation_based import functional, neuron, surrogate

    return FoldedNet(
        lambda: neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan(2.0), step_mode="m"), functional.reset_net
    )


def snntorch() -> nn.Module:
    import snntorch as snn

    return SteppedNet(lambda: snn.Leaky(beta=0.5, reset_mechanism="zero"), lambda cell: cell.reset_mem())


def norse() -> nn.Module:
    import norse.torch as nt

    return SteppedNet(lambda: nt.LIFBoxCell(p=nt.LIFBoxParameters(tau_mem_inv=torch.as_tensor(500.0))))


def sinabs() -> nn.Module:
    import sinabs.layers as sl
    from sinabs import reset_states
    from sinabs.activation import SingleSpike

    return FoldedNet(lambda: BatchFirst(sl.LIF(tau_mem=1.4427, spike_fn=SingleSpike)), reset_states)


NETS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: FoldedNet(nn.ReLU),
    "snn_neurons[native]": lambda: ours("native"),
    "snn_neurons[torch]": lambda: ours("torch"),
    "snn_neurons[triton]": lambda: ours("triton"),
    "spikingjelly": spikingjelly,
    "spikingjelly+compile": lambda: torch.compile(spikingjelly()),
    "snntorch": snntorch,
    "norse": norse,
    "sinabs": sinabs,
}  # fmt: skip


def training_step(net: nn.Module, x: Tensor, y: Tensor) -> harness.Call:
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def table(rows: list[harness.Row]) -> str:
    relu = next((r["median_s"] for r in rows if r["lib"] == "relu"), None)
    lines = [[r["lib"], harness.milliseconds(r["median_s"]), "-" if relu is None else f"{r['median_s'] / relu:.2f}",
              f"{r['peak_bytes'] / 2**20:.0f}", f"{r['first_s']:.2f}"] for r in rows]  # fmt: skip
    return harness.markdown(["library", "training step ms", "/ ReLU", "peak MiB", "first step s"], lines)


def main(argv: list[str] | None = None) -> list[harness.Row]:
    args = harness.parser(__doc__).parse_args(argv)
    harness.start(args)
    head = {"bench": "net", "T": T, "batch": BATCH}
    x, y = torch.randn(BATCH, 1, 28, 28, device=args.device), torch.randint(10, (BATCH,), device=args.device)
    skip = {"snn_neurons[triton]"} if args.device == "cpu" else {"snn_neurons[native]"}
    names = args.libs.split(",") if args.libs else [n for n in NETS if n not in skip]
    steps: dict[str, harness.Call] = {}
    facts: dict[str, harness.Row] = {}
    for name in names:
        torch.manual_seed(0)
        try:
            step = training_step(NETS[name]().to(args.device), x, y)
            t = time.perf_counter()
            step()
            first = time.perf_counter() - t
            facts[name] = {"first_s": first, "peak_bytes": harness.peak_bytes(step, args.device)}
            steps[name] = step
        except Exception as error:  # a peer's failure is part of the result
            harness.failure(name, head, error, args.out)
    times = harness.interleave(steps, device=args.device, seconds=args.seconds, rounds=args.rounds)
    about = harness.machine(args.device)
    rows = [{**head, "lib": n, **harness.timing(v), **facts[n], **about} for n, v in times.items()]
    for row in rows:
        harness.record(row, args.out)
    print("\n" + table(rows))
    return rows


if __name__ == "__main__":
    harness.fix_allocator()
    main()
