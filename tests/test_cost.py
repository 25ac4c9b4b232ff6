"""Observing costs what was promised at most; ratios of times that were taken side by side."""

import pytest

from tests.bench.observer import LOADS, Load, apache_ratio, peak_memory, ratio

PAIRS = 5


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.title)
def test_time(load: Load) -> None:
    assert ratio(load, PAIRS) <= load.at_most


def test_time_of_a_service() -> None:
    assert apache_ratio(PAIRS) <= 1.5


def test_memory_grows_with_paths_and_not_with_events() -> None:
    assert peak_memory(1_000_000, 1_000) < 80_000_000
