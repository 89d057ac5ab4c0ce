"""Surrogate gradients: the exact spike forward, a stated derivative backward."""

from snn_neurons.surrogates.base import ScaledSurrogate, Surrogate
from snn_neurons.surrogates.graded import FloorClip, RoundClip
from snn_neurons.surrogates.piecewise import LeakyReLU, PiecewiseQuadratic, Rectangle, StraightThrough, Triangle
from snn_neurons.surrogates.smooth import (
    ArcTan,
    ATan,
    Erf,
    FastSigmoid,
    Gaussian,
    MultiGaussian,
    PiecewiseExp,
    QPseudoSpike,
    Sigmoid,
    Slayer,
    SuperSpike,
)

__all__ = [
    "ATan",
    "ArcTan",
    "Erf",
    "FastSigmoid",
    "FloorClip",
    "Gaussian",
    "LeakyReLU",
    "MultiGaussian",
    "PiecewiseExp",
    "PiecewiseQuadratic",
    "QPseudoSpike",
    "Rectangle",
    "RoundClip",
    "ScaledSurrogate",
    "Sigmoid",
    "Slayer",
    "StraightThrough",
    "SuperSpike",
    "Surrogate",
    "Triangle",
]
