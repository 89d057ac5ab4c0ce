"""Version of snn-learning."""

__version__ = "0.1.0"
