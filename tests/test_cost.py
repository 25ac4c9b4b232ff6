"""Observing, extracting and writing cost what was promised at most; ratios of times that were taken side by side."""

from pathlib import Path

import pytest

from tests.bench.image import bytes_moved, extraction_ratio, many_entries, memory_directory
from tests.bench.observer import LOADS, Load, apache_ratio, peak_memory, ratio

PAIRS = 15
"""At most; on a busy machine it takes more of them until one was not disturbed."""


@pytest.mark.parametrize("load", LOADS, ids=lambda load: load.title)
def test_time(load: Load) -> None:
    assert ratio(load, PAIRS, load.at_most) <= load.at_most


def test_time_of_a_service() -> None:
    assert apache_ratio(PAIRS, 1.5) <= 1.5


def test_memory_grows_with_paths_and_not_with_events() -> None:
    assert peak_memory(1_000_000, 1_000) < 80_000_000


def test_time_of_an_extraction() -> None:
    assert extraction_ratio(PAIRS, 2) <= 2


def test_time_and_memory_of_many_entries() -> None:
    with memory_directory() as place:
        seconds, peak = many_entries(place)
    assert seconds <= 12
    assert peak <= 400 * 10**6


def test_writing_grows_with_the_result_and_not_with_the_source(tmp_path: Path) -> None:
    moved, size = bytes_moved(tmp_path)
    assert moved < 6 * size
