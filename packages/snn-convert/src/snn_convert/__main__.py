"""Command line: ``python -m snn_convert check|convert|curve``.

A model is a program that `torch.export.save` wrote, exported in eval mode and for any batch size; data are an ``.npz``
file with an array ``x`` and, for accuracies, ``y``.
"""

import argparse
import sys
import zipfile
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from snn_convert.conversion import convert
from snn_convert.curve import accuracy_curve
from snn_convert.recipes import RECIPES
from snn_convert.report import conversion_report
from snn_convert.storage import load, save
from snn_convert.support import UnsupportedOpsError, check


def main(arguments: list[str] | None = None) -> int:
    """Run a command; 0 on success, 1 where a model cannot be converted, 2 on a mistake in what was given."""
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m snn_convert", description="Trained networks to spiking ones.")
    commands = parser.add_subparsers(required=True, metavar="check|convert|curve")
    program: dict[str, Any] = {"type": Path, "metavar": "PROGRAM", "help": "what torch.export.save wrote"}
    data: dict[str, Any] = {
        "type": Path,
        "required": True,
        "metavar": "NPZ",
        "help": "array x [N, ...] and, for accuracies, y [N]",
    }
    batch: dict[str, Any] = {"type": int, "default": 128, "help": "samples at once (default 128)"}

    one = commands.add_parser("check", help="list what cannot be converted")
    one.add_argument("program", **program)
    one.add_argument("--data", **data)
    one.set_defaults(run=_check)

    two = commands.add_parser("convert", help="convert, report and save")
    two.add_argument("program", **program)
    two.add_argument("--data", **data)
    two.add_argument("--output", type=Path, required=True, help="file to write, by custom .safetensors")
    two.add_argument("--timesteps", type=int, default=8, help="steps T to be accurate at (default 8)")
    two.add_argument("--recipe", default="binary", choices=list(RECIPES), help="default: binary")
    two.add_argument("--report", type=Path, metavar="JSON", help="write the report")
    two.add_argument("--plot", type=Path, metavar="IMAGE", help="draw each layer's error")
    two.add_argument("--batch", **batch)
    two.set_defaults(run=_convert)

    three = commands.add_parser("curve", help="accuracy of a saved spiking network over time steps")
    three.add_argument("network", type=Path, metavar="NETWORK", help="what convert wrote")
    three.add_argument("--data", **data)
    three.add_argument("--steps", default="1,2,4,8,16,32", help="numbers of time steps (default 1,2,4,8,16,32)")
    three.add_argument("--plot", type=Path, metavar="IMAGE", help="draw the curve")
    three.add_argument("--batch", **batch)
    three.set_defaults(run=_curve)
    return parser


def _check(args: argparse.Namespace) -> int:
    report = check(_program(args.program), _data(args.data)["x"][:2])
    print(report)
    return 0 if report.supported else 1


def _convert(args: argparse.Namespace) -> int:
    model, x = _program(args.program), _data(args.data)["x"]
    try:
        snn = convert(model, x.split(args.batch), timesteps=args.timesteps, recipe=args.recipe)
    except UnsupportedOpsError as error:
        print(error.report)
        return 1
    save(snn, args.output)
    found = conversion_report(model, snn, x[: args.batch])
    print(found)
    if args.report:
        found.to_json(args.report)
    if args.plot:
        _figure(found.plot(), args.plot)
    return 0


def _curve(args: argparse.Namespace) -> int:
    try:
        steps = [int(part) for part in args.steps.split(",")]
    except ValueError:
        raise ValueError(f"--steps must be numbers with commas between them, got {args.steps!r}") from None
    snn, data = load(args.network), _data(args.data)
    if "y" not in data:
        raise ValueError(f"{args.data} has no array y, the labels")
    curve = accuracy_curve(snn, list(zip(data["x"].split(args.batch), data["y"].split(args.batch), strict=True)), steps)
    print(curve)
    if args.plot:
        _figure(curve.plot(), args.plot)
    return 0


def _program(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        return torch.export.load(path)
    except Exception as error:  # whatever a foreign file makes the reader stumble over
        raise ValueError(f"{path} is no program of torch.export: {error}") from error


def _data(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            found = {name: torch.from_numpy(file[name]) for name in ("x", "y") if name in file}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise ValueError(f"{path} is no .npz file: {error}") from error
    if "x" not in found:
        raise ValueError(f"{path} has no array x")
    if not found["x"].is_floating_point():
        raise ValueError(f"x in {path} must be of floating point, as the model takes it, got {found['x'].dtype}")
    return found


def _figure(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    raise SystemExit(main())
