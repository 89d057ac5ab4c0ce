"""Online gradient rules: OTTT, SLTT and e-prop, with memory that does not grow with time."""

from snn_learning.online.eprop import EProp, FeedbackLinear
from snn_learning.online.traced import OTTTSynapse, ottt
from snn_learning.online.train import OnlineResult, membrane_decay, online_backward

__all__ = ["EProp", "FeedbackLinear", "OTTTSynapse", "OnlineResult", "membrane_decay", "online_backward", "ottt"]
