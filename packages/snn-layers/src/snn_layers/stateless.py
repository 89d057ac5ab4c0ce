"""The usual stateless layers of ``torch.nn`` with a step mode; constructor and ``state_dict`` keys are torch's own.

Signatures for type checkers and editors are in ``stateless.pyi``, which ``scripts/make_stub.py`` writes.
"""

from torch import nn

from snn_layers.stepwise import stepwise

_ONE_TO_THREE = (
    *("Conv", "ConvTranspose", "BatchNorm", "InstanceNorm", "MaxPool", "AvgPool", "AdaptiveAvgPool"),
    *("AdaptiveMaxPool", "LPPool", "MaxUnpool", "ZeroPad", "ConstantPad", "ReflectionPad", "ReplicationPad"),
    "CircularPad",
)
_SINGLE = (
    *("Linear", "Bilinear", "Identity", "Embedding", "Flatten", "Unflatten", "Fold", "Unfold"),
    *("SyncBatchNorm", "GroupNorm", "LocalResponseNorm", "RMSNorm"),
    *("FractionalMaxPool2d", "FractionalMaxPool3d"),
    *("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle"),
)
__all__ = [f"{family}{n}d" for family in _ONE_TO_THREE for n in (1, 2, 3)] + list(_SINGLE)

for _name in __all__:
    globals()[_name] = stepwise(getattr(nn, _name))
del _name
