"""Version of snn-convert."""

__version__ = "0.1.0"
