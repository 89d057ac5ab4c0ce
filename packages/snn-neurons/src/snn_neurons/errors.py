"""Errors of the fused backends."""


class BackendError(RuntimeError):
    """The backend asked for cannot run this node on this input."""


class NotFusableError(BackendError):
    """The step holds an operation that no fused kernel can take."""
