"""Errors of the fused backends."""


class BackendError(RuntimeError):
    """The backend asked for cannot run this node on this input."""


class NotFusableError(BackendError):
    """The step holds an operation that no fused kernel can take.

    ``reason`` names it; ``remedy`` says how the step can be written instead, where there is a way.
    """

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; " + (f"{self.remedy}, or use backend='torch'" if self.remedy else "use backend='torch'")
