"""The package says what it is."""

import re

import snn_convert


def test_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", snn_convert.__version__)
