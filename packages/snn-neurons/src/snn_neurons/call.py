"""What every backend is given."""

from typing import NamedTuple

from torch import Tensor

from snn_neurons.layout import Param
from snn_neurons.program import Program


class Call(NamedTuple):
    """A program to run, forward or backward, over T rows of M neurons.

    ``x`` is ``[T, ...]`` and each of ``states`` is one row. Here and in all that a backend writes, the neurons of a row
    lie next to one another in memory, and rows are ``stride(0)`` apart.
    """

    program: Program
    x: Tensor
    neurons: int
    states: list[Tensor]
    params: list[Param]
    every: int  # steps between two checkpoints
