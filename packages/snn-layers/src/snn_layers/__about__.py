"""Version of snn-layers."""

__version__ = "0.1.0"
