"""Ways to convert: how thresholds are found, which neurons take the place of activations, what is corrected."""

from collections.abc import Callable
from dataclasses import dataclass, field

from snn_base import MemoryModule
from snn_convert.neuron import (
    BurstNeurons,
    CumulativeMaximum,
    GradedNeurons,
    NeuronFactory,
    hard_reset_if_neuron,
    if_neuron,
    signed_neuron,
)
from snn_convert.observers import (
    BalancingObserver,
    BatchPercentileObserver,
    EMAObserver,
    MaxObserver,
    MSEObserver,
    Observer,
)
from snn_convert.unroll import Operation, spike_maximum


@dataclass(frozen=True)
class Recipe:
    """How to convert a network.

    Attributes:
        observer: makes the observer of one activation, which finds its threshold.
        neuron: makes the neuron of one activation.
        initial: membrane at the start in units of the threshold.
        spikes_per_step: k spikes in every step are the largest output that the observer found.
        bias_correction: correct currents layer by layer on the spiking network's own inputs.
        membrane_calibration: correct initial membranes in the same way.
        correction_samples: calibration inputs used by the corrections.
        correction_rounds: repetitions of the corrections in each layer.
        passes: how often the calibration data are shown to the observers.
        maximum: makes the pooling of spikes of one maximum pooling.
    """

    observer: Callable[[], Observer] = field(default=lambda: MSEObserver(per_channel=True))
    neuron: NeuronFactory = if_neuron
    initial: float = 0.5
    spikes_per_step: int = 1
    bias_correction: bool = False
    membrane_calibration: bool = False
    correction_samples: int = 128
    correction_rounds: int = 2
    passes: int = 1
    maximum: Callable[[Operation], MemoryModule] = CumulativeMaximum


def rate_coding(
    mode: str | float = "max",
    *,
    momentum: float | None = 0.1,
    channel_wise: bool = False,
    half_threshold: bool = False,
    hard_reset: bool = False,
) -> Recipe:
    """Convert as SpikingJelly's rate coding does: a moving average over batches, membranes that start at 0.

    ``s_b = max(a)``, a percentile of it, or a share of it; ``theta <- (1 - momentum) theta + momentum s_b``. Unlike
    there, maximum pooling is that of the accumulated spikes.

    Args:
        mode: ``"max"``; a percentile such as ``"99.9%"``; or a float in (0, 1], a share of the maximum.
        momentum: in (0, 1], which makes thresholds depend on the order of batches; ``None`` for their plain mean.
        channel_wise: a threshold for each channel.
        half_threshold: membranes start at half the threshold.
        hard_reset: membranes are reset to 0.

    Raises:
        ValueError: another mode.

    Rueckauer et al., "Conversion of Continuous-Valued Deep Networks to Efficient Event-Driven Networks for Image
    Classification", Frontiers in Neuroscience 2017.
    """
    p, scale = _mode(mode)
    return Recipe(
        observer=lambda: EMAObserver(momentum, channel_wise, p=p, scale=scale),
        neuron=hard_reset_if_neuron if hard_reset else if_neuron,
        initial=0.5 if half_threshold else 0.0,
    )


def _mode(mode: str | float) -> tuple[float, float]:
    """Percentile and scale."""
    try:
        if isinstance(mode, str) and mode.lower() == "max":
            return 1.0, 1.0
        if isinstance(mode, str) and mode.endswith("%") and 0.0 < float(mode[:-1]) <= 100.0:
            return float(mode[:-1]) / 100, 1.0
        if not isinstance(mode, str) and 0.0 < mode <= 1.0:
            return 1.0, float(mode)
    except ValueError:
        pass  # no number before the sign
    raise ValueError(f"rate_coding: mode must be 'max', a percentile such as '99.9%' or in (0, 1], got {mode!r}")


def braincog(
    p: float = 0.9995, *, channelnorm: bool = False, gamma: int = 1, soft_mode: bool = True, lipool: bool = True
) -> Recipe:
    """Convert as BrainCog's ``Convertor`` does: percentiles, burst neurons, membranes that start at 0.

    ``theta`` is the largest over batches of the activation that a share ``p`` stays below (channel-wise after Kim et
    al., arXiv:1903.06530); neurons emit ``clip(floor(v), 0, gamma)`` spikes a step (Li and Zeng, arXiv:2204.13271).
    Unlike there, activations are not clipped at ``gamma`` before the statistics are taken.

    Args:
        p: the share.
        channelnorm: a threshold for each channel.
        gamma: most spikes in one step.
        soft_mode: subtract the threshold for each spike; otherwise reset to 0.
        lipool: maximum pooling by lateral inhibition, which is the increment of the accumulated maximum; otherwise
            the spikes of the most active neuron pass (Rueckauer et al., arXiv:1612.04052).
    """
    return Recipe(
        observer=lambda: BatchPercentileObserver(p, channelnorm),
        neuron=BurstNeurons(gamma, hard_reset=not soft_mode),
        initial=0.0,
        maximum=CumulativeMaximum if lipool else spike_maximum,
    )


def local_threshold_balancing(rate: float = 1.0, *, passes: int = 1) -> Recipe:
    """Thresholds of channels balanced on inference alone (Bu et al., CVPR 2025, arXiv:2409.03368).

    ``theta <- theta + 2 rate E[max(a - theta, 0)]`` after each batch, layers seeing activations already clipped by the
    thresholds before them; membranes start at half the threshold. Unlike in the paper, neurons stay before a maximum
    pooling, which is that of the accumulated spikes.

    Args:
        rate: step size.
        passes: how often the calibration data are shown; more of them cut off less and resolve less.
    """
    return Recipe(observer=lambda: BalancingObserver(rate), passes=passes)


RECIPES: dict[str, Recipe] = {
    # The best with binary spikes.
    "binary": Recipe(bias_correction=True),
    "signed": Recipe(neuron=signed_neuron),
    "graded": Recipe(neuron=GradedNeurons(2), spikes_per_step=2),
    # As the two libraries that this grew out of convert.
    "rate_coding": rate_coding(),
    "rate_coding_max": Recipe(observer=MaxObserver, initial=0.0),
    "rate_coding_hard_reset": rate_coding(hard_reset=True),
    "braincog": braincog(channelnorm=True, gamma=5),
    "local_threshold_balancing": local_threshold_balancing(),
    # Networks trained with the QCFS activation bring their thresholds along; other activations are calibrated.
    "qcfs": Recipe(),
}


def find_recipe(recipe: str | Recipe) -> Recipe:
    """The recipe itself or that of the name.

    Raises:
        ValueError: there is no recipe of that name.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if recipe not in RECIPES:
        raise ValueError(f"recipe must be a Recipe or one of {', '.join(RECIPES)}, got {recipe!r}")
    return RECIPES[recipe]
