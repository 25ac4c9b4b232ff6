"""SIGINT and SIGTERM that have to wait: what they would interrupt is not to be half done, nor denied once it is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)

_held = threading.local()


@contextmanager
def held() -> Iterator[set[signal.Signals | int]]:
    """They come after the block, at the earliest. Yields the signals that were blocked before, for `let_through`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    outer, _held.now = getattr(_held, "now", False), True
    try:
        yield before
    finally:
        _held.now = outer
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def hold() -> None:
    """From now on they wait for the end of the surrounding `held`, if any: a result is about to get its name."""
    if getattr(_held, "now", False):
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)


@contextmanager
def let_through(before: set[signal.Signals | int]) -> Iterator[None]:
    """A block, within `held`, that they may interrupt as *before*, until `hold` is called."""
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    try:
        yield
    finally:
        hold()


def ignore() -> None:
    """For good: everything is done, or is being cleaned up."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
