"""A neuron needs torch, snn-base and snn-neurons, and nothing else of this family."""

from __future__ import annotations

from importlib.metadata import distributions


def test_nothing_else_of_ours_is_installed() -> None:
    installed = {distribution.metadata["Name"] for distribution in distributions()}
    assert "torch" in installed
    assert {name for name in installed if name.startswith("snn")} == {"snn-base", "snn-neurons"}
