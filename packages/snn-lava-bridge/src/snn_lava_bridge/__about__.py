"""Version of snn-lava-bridge."""

__version__ = "0.1.0"
