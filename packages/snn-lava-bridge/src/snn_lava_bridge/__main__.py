"""Command line: ``python -m snn_lava_bridge lint|inspect|simulate|verify FILE``."""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from snn_lava_bridge.errors import LavaFileError, LavaNotInstalledError
from snn_lava_bridge.lint import lint
from snn_lava_bridge.netx_layers import describe
from snn_lava_bridge.netx_read import read_netx
from snn_lava_bridge.simulate import simulate_layers
from snn_lava_bridge.verify import verify


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0 where all is well, 1 where something was found, 2 for a wrong call."""
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except (LavaFileError, LavaNotInstalledError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m snn_lava_bridge", description="Check and run netx .net files.")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, text: str, run: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("file", help="the .net file")
        sub.set_defaults(run=run)
        return sub

    def spikes(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--spikes", help="input spikes [T, N, ...], a .npy file; random ones by default")
        sub.add_argument("--steps", type=int, default=50, help="steps of random input")
        sub.add_argument("--rate", type=float, default=0.2, help="probability of a random spike")
        sub.add_argument("--seed", type=int, default=0)

    command("inspect", "print the layers", _inspect)
    spikes(command("lint", "report what the chip would not run as written, on the input too", _lint))
    sub = command("simulate", "run the integer simulation and count spikes", _simulate)
    spikes(sub)
    sub.add_argument("--out", help="write the output spikes [T, N, ...] to this .npy file")
    sub = command("verify", "compare the simulation with real netx", _verify)
    spikes(sub)
    sub.add_argument("--python", help="interpreter with lava-dl; SNN_LAVA_PYTHON by default")
    return parser


def _input(args: argparse.Namespace) -> Tensor:
    if args.spikes:
        spikes: Tensor = torch.from_numpy(np.load(args.spikes))
        return spikes
    shape = read_netx(args.file).input_shape
    generator = torch.Generator().manual_seed(args.seed)
    noise = torch.rand(args.steps, 1, *shape, generator=generator)
    return torch.lt(noise, float(args.rate)).to(torch.uint8)


def _inspect(args: argparse.Namespace) -> int:
    print(describe(read_netx(args.file)))
    return 0


def _lint(args: argparse.Namespace) -> int:
    findings = lint(args.file, spikes=_input(args))
    for finding in findings:
        print(finding)
    print(f"{sum(f.level == 'error' for f in findings)} errors, {sum(f.level == 'warning' for f in findings)} warnings")
    return int(any(f.level == "error" for f in findings))


def _simulate(args: argparse.Namespace) -> int:
    layers = simulate_layers(read_netx(args.file), _input(args))
    for layer in layers:
        rate = float(layer.spikes.double().mean()) if layer.spikes.numel() else 0.0
        print(
            f"{layer.name}: {int(layer.spikes.sum())} spikes, rate {rate:.4f} per step, peak current {layer.u_peak}, "
            f"peak voltage {layer.v_peak}, {layer.wraps} wraps, {layer.saturations} saturations"
        )
    if args.out:
        np.save(args.out, layers[-1].spikes.numpy())
    return 0


def _verify(args: argparse.Namespace) -> int:
    report = verify(None, args.file, _input(args), python=args.python)
    if report.netx:
        print(f"file = netx: {'yes' if report.ok else report.file_vs_netx}")
        return int(not report.ok)
    print(f"netx not run: {report.netx_reason}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
