"""A neuron model of its own, written against snn-neurons alone."""

from downstream_neuron.fatigue import FatigueNode

__all__ = ["FatigueNode"]
