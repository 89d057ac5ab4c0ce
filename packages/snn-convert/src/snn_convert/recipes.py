"""Ways to convert: how thresholds are found, which neurons take the place of activations, what is corrected."""

from collections.abc import Callable
from dataclasses import dataclass, field

from snn_convert.neuron import (
    BurstNeurons,
    GradedNeurons,
    NeuronFactory,
    hard_reset_if_neuron,
    if_neuron,
    signed_neuron,
)
from snn_convert.observers import EMAObserver, MaxObserver, MSEObserver, Observer, PercentileObserver


@dataclass(frozen=True)
class Recipe:
    """How to convert a network.

    Attributes:
        observer: makes the observer of one activation, which finds its threshold.
        neuron: makes the neuron of one activation.
        initial: membrane at the start in units of the threshold.
        spikes_per_step: most spikes that the neuron can emit in one step.
        bias_correction: correct currents layer by layer on the spiking network's own inputs.
        membrane_calibration: correct initial membranes in the same way.
        correction_samples: calibration inputs used by the corrections.
    """

    observer: Callable[[], Observer] = field(default=lambda: MSEObserver(per_channel=True))
    neuron: NeuronFactory = if_neuron
    initial: float = 0.5
    spikes_per_step: int = 1
    bias_correction: bool = False
    membrane_calibration: bool = False
    correction_samples: int = 128


def percentile(p: float = 0.999, *, per_channel: bool = False) -> Callable[[], Observer]:
    """Maker of `PercentileObserver`."""
    return lambda: PercentileObserver(p, per_channel)


RECIPES: dict[str, Recipe] = {
    # The best with binary spikes.
    "binary": Recipe(bias_correction=True),
    "signed": Recipe(neuron=signed_neuron),
    "graded": Recipe(neuron=GradedNeurons(2), spikes_per_step=2),
    # As the two libraries that this grew out of convert.
    "rate_coding": Recipe(observer=lambda: EMAObserver(0.1), initial=0.0),
    "rate_coding_max": Recipe(observer=MaxObserver, initial=0.0),
    "rate_coding_hard_reset": Recipe(observer=lambda: EMAObserver(0.1), neuron=hard_reset_if_neuron, initial=0.0),
    "braincog": Recipe(
        observer=percentile(0.9995, per_channel=True), neuron=BurstNeurons(5), initial=0.0, spikes_per_step=5
    ),
    # Networks trained with the QCFS activation bring their thresholds along.
    "qcfs": Recipe(observer=lambda: MaxObserver(per_channel=False)),
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
