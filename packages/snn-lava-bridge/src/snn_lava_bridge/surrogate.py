"""slayer's spike derivative: the density of a neuron with exponential escape noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_neurons.surrogates.base import Surrogate


@dataclass(frozen=True)
class SlayerPdf(Surrogate):
    """Heaviside step with ``ds/du = sigma / (2 tau) exp(-|u| / tau)``.

    ``tau = 100 tau_grad v_threshold``, ``sigma = 0.1 scale_grad``; ``u`` is the voltage above the threshold in weight
    units. (S. B. Shrestha, G. Orchard: SLAYER: Spike Layer Error Reassignment in Time, NeurIPS 2018.)
    """

    v_threshold: float | Tensor = 1.0
    tau_grad: float = 1.0
    scale_grad: float = 1.0

    @property
    def tau(self) -> float | Tensor:
        """Width in weight units."""
        return 100.0 * self.tau_grad * self.v_threshold

    @property
    def sigma(self) -> float:
        """Area of the derivative."""
        return 0.1 * self.scale_grad

    def derivative(self, u: Tensor) -> Tensor:
        return self.sigma / (2 * self.tau) * torch.exp(-u.abs() / self.tau)

    def graded(self, u: Tensor) -> Tensor:
        """A function whose derivative is that of a graded spike, ``sigma exp(min(u, 0) / tau)``."""
        return self.sigma * (self.tau * torch.exp(u.clamp(max=0.0) / self.tau) + u.clamp(min=0.0))
