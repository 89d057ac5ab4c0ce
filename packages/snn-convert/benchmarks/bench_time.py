"""Time of conversion and of simulation of a ResNet-18 style network, beside SpikingJelly's, in interleaved rounds."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import networks
import torch
from torch import Tensor, nn

from snn_convert import SpikingModel, convert, rate_coding

Timed = Callable[[], float]


def timed(run: Callable[[], object]) -> Timed:
    def once() -> float:
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin

    return once


def interleaved(runs: dict[str, Timed], rounds: int) -> dict[str, float]:
    """Median seconds of each, after one round that doesn't count; the order turns from round to round."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for i in range(rounds + 1):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            seconds = runs[name]()
            if i:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def peer(model: nn.Module, calibration: list[Tensor]) -> nn.Module:
    from spikingjelly.activation_based import ann2snn
    from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe

    converted: nn.Module = ann2snn.Converter(RateCodingRecipe(calibration, mode="99.9%")).convert(model)
    return converted.eval()


@torch.no_grad()
def simulate(snn: SpikingModel, x: Tensor, steps: int) -> Tensor:
    return snn.run(x, steps)


@torch.no_grad()
def simulate_peer(snn: nn.Module, x: Tensor, steps: int) -> Tensor:
    from spikingjelly.activation_based import functional

    functional.reset_net(snn)
    out = snn(x)
    for _ in range(steps - 1):
        out = out + snn(x)
    return out / steps


@torch.no_grad()
def simulate_peer_at_once(snn: nn.Module, x: Tensor, steps: int) -> Tensor:
    from spikingjelly.activation_based import functional

    functional.reset_net(snn)
    out: Tensor = snn(x.unsqueeze(0).expand(steps, *x.shape).contiguous())
    return out.mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=32, help="channels of the first stage; 64 is ResNet-18's")
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["conversion", "simulation"])
    parser.add_argument("--json", type=Path, help="append results to this file")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = networks.resnet18(args.width)
    model(torch.randn(32, 3, 32, 32))  # running statistics of BatchNorm
    model.eval()
    calibration = list(torch.randn(args.images, 3, 32, 32).split(args.batch))
    steps, rows = args.timesteps, []
    try:
        import spikingjelly  # noqa: F401
    except ImportError:
        sys.exit("spikingjelly is not installed; there is nothing to compare with")
    if args.only != "simulation":
        percentile = rate_coding("99.9%")
        runs = {
            "ours, binary": timed(lambda: convert(model, calibration, timesteps=steps)),
            "ours, 99.9 %": timed(lambda: convert(model, calibration, timesteps=steps, recipe=percentile)),
            "SpikingJelly, 99.9 %": timed(lambda: peer(model, calibration)),
        }
        found = interleaved(runs, args.rounds)
        base = found["SpikingJelly, 99.9 %"]
        rows += [{"what": "conversion", "run": k, "s": v, "ratio": v / base} for k, v in found.items()]
    if args.only != "conversion":
        from spikingjelly.activation_based import functional

        ours, x = convert(model, calibration[:2], timesteps=steps), calibration[0]
        theirs, at_once = peer(model, calibration[:2]), peer(model, calibration[:2])
        functional.set_step_mode(at_once, "m")
        runs = {
            "ours": timed(lambda: simulate(ours, x, steps)),
            "SpikingJelly, step by step": timed(lambda: simulate_peer(theirs, x, steps)),
            "SpikingJelly, multi-step": timed(lambda: simulate_peer_at_once(at_once, x, steps)),
        }
        found = interleaved(runs, 3 * args.rounds)
        base = min(v for k, v in found.items() if k != "ours")
        per = 1e3 / (len(x) * steps)
        rows += [
            {"what": "simulation", "run": k, "ms per image and step": v * per, "ratio": v / base}
            for k, v in found.items()
        ]
    for row in rows:
        print(" | ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    if args.json:
        settings = {k: v for k, v in vars(args).items() if k not in ("json", "only")}
        with args.json.open("a") as file:
            file.writelines(json.dumps(settings | row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
