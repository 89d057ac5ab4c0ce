"""The errors that this package raises beside `ValueError` and `TypeError`."""


class LavaFileError(ValueError):
    """A file that is not a complete netx network: damaged, truncated, foreign or inconsistent."""


class LavaExportError(ValueError):
    """A network that has no exact counterpart on the chip; the message names the layer and the value."""


class LavaNotInstalledError(ImportError):
    """lava-dl is needed for this function and cannot be imported."""
