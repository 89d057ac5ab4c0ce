"""Networks that learn by local rules alone, with the encoder before and the readout behind them."""

from snn_learning.networks.diehl_cook import DiehlCookNetwork
from snn_learning.networks.encoding import RetinaEncoder, image_intensities
from snn_learning.networks.readout import Assignment, assign_labels, classify

__all__ = ["Assignment", "DiehlCookNetwork", "RetinaEncoder", "assign_labels", "classify", "image_intensities"]
