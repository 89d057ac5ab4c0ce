"""Write ``stateless.pyi``: the signatures of the step-mode layers, read from the installed torch."""

import argparse
import ast
import inspect
import re
import textwrap
from pathlib import Path

from torch import nn

from snn_layers import stateless

TARGET = Path(stateless.__file__).with_suffix(".pyi")
HEADER = '''# ruff: noqa: F401, UP007, UP045
"""Signatures of the step-mode layers; written by scripts/make_stub.py."""

from typing import Any, Literal, Optional, Union

import torch
from snn_base import StepModule
from torch import Tensor, nn
from torch.nn.common_types import (
    {sizes},
)
from torch.nn.modules.normalization import _shape_t
from torch.types import _size

StepMode = Literal["s", "m"]
'''
IGNORE = dict.fromkeys(["Bilinear", *(f"MaxUnpool{n}d" for n in (1, 2, 3))], "  # type: ignore[misc]")


def class_stub(name: str) -> str:
    """Return the stub of the layer ``name``."""
    source = textwrap.dedent(inspect.getsource(getattr(nn, name).__init__))
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    arguments.defaults = [ast.Constant(...) for _ in arguments.defaults]
    step_mode = ast.arg("step_mode", ast.Name("StepMode"))
    if arguments.vararg is None or arguments.kwonlyargs:
        arguments.kwonlyargs.append(step_mode)
        arguments.kw_defaults = [ast.Constant(...) for _ in arguments.kwonlyargs]
    for argument in (*arguments.args[1:], arguments.vararg, arguments.kwarg):
        if argument is not None and argument.annotation is None:
            argument.annotation = ast.Name("Any")
    text = ast.unparse(arguments)
    return f"class {name}(nn.{name}, StepModule):{IGNORE.get(name, '')}\n    def __init__({text}) -> None: ...\n"


def stub() -> str:
    """Return the text of the whole stub."""
    classes = [class_stub(name) for name in stateless.__all__]
    sizes = ",\n    ".join(sorted(set(re.findall(r"_\w+_t\b", "".join(classes))) - {"_shape_t"}))
    names = ",\n    ".join(f'"{name}"' for name in stateless.__all__)
    return "\n".join([HEADER.format(sizes=sizes), f"__all__ = [\n    {names},\n]\n", *classes])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    TARGET.write_text(stub())
