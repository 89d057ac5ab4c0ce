"""The layers that a batch norm can be folded into."""

from torch import nn

CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    nn.Linear,
)
_DIMS = {
    1: (nn.Linear, nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d),
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d),
}


def dims_of(module: nn.Module) -> int | None:
    """Return the number of spatial dims a layer works on (1 for a linear one), or ``None`` if it takes any."""
    return next((n for n, classes in _DIMS.items() if isinstance(module, classes)), None)
