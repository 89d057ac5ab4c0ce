"""Images as spikes: blurred receptive fields, equal energy, Bernoulli spikes from a saved generator."""

import math

import torch
from torch import Tensor, nn


def image_intensities(images: Tensor, *, sigma: float = 0.8, contrast: float = 4.0) -> Tensor:
    """Return spike probabilities of one step: images through Gaussian receptive fields, brought to equal energy.

    ::

        b = gaussian_sigma * image;    p = min(contrast * b / |b|_2, 1)

    The blur makes images that differ by a small shift similar; equal energy lets a thin digit compete with a bold one.

    Args:
        images: ``[N, H, W]``, of any scale; integers are taken as they are. Images of zeros stay zero.
        sigma: width of the receptive fields in pixels; 0 for none.
        contrast: Euclidean norm of the probabilities of an image, before the limit at 1.

    Returns:
        ``[N, H * W]``, at least float32.

    Raises:
        ValueError: not ``[N, H, W]``, values that are negative or not finite, ``sigma < 0`` or ``contrast <= 0``.
    """
    if images.dim() != 3:
        raise ValueError(f"images must be [N, H, W], got {tuple(images.shape)}")
    if not sigma >= 0.0:
        raise ValueError(f"sigma must be a width >= 0 in pixels, got {sigma}")
    if not 0.0 < contrast < math.inf:
        raise ValueError(f"contrast must be positive, got {contrast}")
    x = images if images.dtype == torch.float64 else images.float()
    if not bool(torch.isfinite(x).all()) or bool((x < 0).any()):
        raise ValueError("images must hold finite values >= 0")
    if sigma > 0.0:
        x = _blur(x, sigma)
    x = x.flatten(1)
    energy = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    shape: Tensor = x / energy.clamp_min(torch.finfo(x.dtype).tiny)  # first, for contrast / tiny may be infinite
    return (contrast * shape).clamp(max=1.0)


class RetinaEncoder(nn.Module):
    """Encodes images as Bernoulli spikes of `image_intensities`, the same at every step.

    ::

        s[t] ~ Bernoulli(p(image)),    t = 1 ... T

    The state of the generator is part of ``state_dict``, so a resumed run draws the spikes of an uninterrupted one.

    Args:
        steps: ``T``, the length of a presentation.
        sigma, contrast: see `image_intensities`.
        seed: of the generator.

    Shapes: images ``[N, H, W]`` on the CPU or any device -> spikes ``[T, N, H * W]`` there; drawn on the CPU.

    Raises:
        ValueError: ``steps`` below 1, or see `image_intensities`.
    """

    def __init__(self, steps: int = 20, *, sigma: float = 0.8, contrast: float = 4.0, seed: int = 0) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        image_intensities(torch.zeros(1, 1, 1), sigma=sigma, contrast=contrast)
        self.steps, self.sigma, self.contrast = steps, sigma, contrast
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, images: Tensor) -> Tensor:
        p = image_intensities(images, sigma=self.sigma, contrast=self.contrast)
        noise = torch.rand(self.steps, *p.shape, generator=self.generator, dtype=p.dtype).to(p.device)
        return (noise < p).to(p.dtype)

    def get_extra_state(self) -> Tensor:
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())

    def extra_repr(self) -> str:
        return f"steps={self.steps}, sigma={self.sigma}, contrast={self.contrast}"


def _blur(x: Tensor, sigma: float) -> Tensor:
    reach = max(1, math.ceil(4.0 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = kernel / kernel.sum()
    x = nn.functional.conv2d(x.unsqueeze(1), kernel.view(1, 1, 1, -1), padding=(0, reach))
    return nn.functional.conv2d(x, kernel.view(1, 1, -1, 1), padding=(reach, 0)).squeeze(1)
