"""Version of snn-base."""

__version__ = "0.1.0"
