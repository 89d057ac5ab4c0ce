"""What plasticity needs to know of a synapse module: its weight, its mask, its geometry."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from snn_learning.functional.geometry import ConvGeometry, Geometry, LinearGeometry, conv_padding

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Synapse:
    """A weight and how it joins two layers.

    Args:
        weight: the parameter.
        mask: ``None``, or zero where there is no connection.
        geometry: linear or convolutional.
        dims: number of dims of one presynaptic step without batch: 1 for linear, 1 + spatial dims for convolutions.
        padding: reversed padding and mode where the convolution pads its input other than evenly with zeros.
    """

    weight: nn.Parameter
    mask: Tensor | None
    geometry: Geometry
    dims: int
    padding: tuple[list[int], str] | None = None

    def padded(self, pre: Tensor) -> Tensor:
        """Return presynaptic activity ``[T, N, ...]`` with the padding that the geometry leaves out."""
        return pre if self.padding is None else conv_padding(pre, *self.padding)


def find_synapse(module: nn.Module) -> nn.Module:
    """Return the one module with a plastic weight in ``module``: itself, or what a wrapper holds.

    Raises:
        TypeError: there is none, or more than one.
    """
    if _is_synapse(module):
        return module
    found = [m for m in module.modules() if _is_synapse(m)]
    if len(found) != 1:
        inside = "none" if not found else ", ".join(type(m).__name__ for m in found)
        raise TypeError(
            f"synapse must be or wrap exactly one nn.Linear, nn.Conv1d/2d/3d or masked linear module, "
            f"got {type(module).__name__} with {inside}"
        )
    return found[0]


def describe_synapse(module: nn.Module) -> Synapse:
    """Return weight, mask and geometry of a synapse module.

    Raises:
        TypeError: no supported synapse, or a weight that is not an initialised parameter.
    """
    module = find_synapse(module)
    weight = module.weight
    if not isinstance(weight, nn.Parameter) or isinstance(weight, UninitializedParameter):
        raise TypeError(
            f"the weight of {type(module).__name__} must be an initialised nn.Parameter, got {type(weight).__name__}; "
            "remove parametrisations, and run lazy modules once, before learning locally"
        )
    mask = getattr(module, "mask", None)
    mask = mask if isinstance(mask, Tensor) and mask.shape == weight.shape else None
    if not isinstance(module, _CONVOLUTIONS):
        return Synapse(weight, mask, LinearGeometry(), 1)
    stride, dilation = tuple(module.stride), tuple(module.dilation)
    padding, extra = module.padding, None
    if isinstance(padding, str) or module.padding_mode != "zeros":
        extra = (list(module._reversed_padding_repeated_twice), module.padding_mode)
        padding = (0,) * len(stride)
    geometry = ConvGeometry(tuple(weight.shape), stride, tuple(int(p) for p in padding), dilation, module.groups)
    return Synapse(weight, mask, geometry, 1 + len(stride), extra)


def _is_synapse(module: nn.Module) -> bool:
    if isinstance(module, (nn.Linear, *_CONVOLUTIONS)):
        return True
    weight = getattr(module, "weight", None)
    return (
        isinstance(weight, nn.Parameter) and weight.dim() == 2 and "mask" in dict(module.named_buffers(recurse=False))
    )
