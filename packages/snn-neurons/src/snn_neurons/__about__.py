"""Version of snn-neurons."""

__version__ = "0.1.0"
