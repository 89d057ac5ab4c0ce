"""Errors of memories that do not fit the input they meet."""


class MemoryStateError(RuntimeError):
    """A memory cannot be used as it is: the base of the errors below."""


class MemoryShapeError(MemoryStateError):
    """The input's batch size or spatial shape changed while a memory of the old shape was kept."""


class MemoryDtypeError(MemoryStateError):
    """The input's dtype does not belong to the dtype of a kept memory."""


class MemoryDeviceError(MemoryStateError):
    """The input is on another device than a kept memory."""
