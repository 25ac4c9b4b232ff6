"""What tests ask of an observation."""

import os
import time
from collections.abc import Callable
from pathlib import Path

from tracestrip.observer.client import Sandbox
from tracestrip.observer.wire import Observation

Compile = Callable[..., Path]


def observed(sandbox: Sandbox, *arguments: object, status: int = 0) -> Observation:
    number = sandbox.launch([str(argument) for argument in arguments])
    deadline = time.monotonic() + 60
    while sandbox.ended(number) is None and time.monotonic() < deadline:
        sandbox.poll(5)
    result = sandbox.ended(number)
    assert result is not None
    assert result.status == status, result.output
    while sandbox.alive:
        sandbox.poll(5)
    return sandbox.stop(15, 5)


def kinds(observation: Observation, path: Path | str | bytes) -> set[str]:
    wanted = path if isinstance(path, bytes) else os.fsencode(path)
    return {use.kind for use in observation.uses if use.path == wanted}


def resolved(observation: Observation) -> set[bytes | None]:
    return {use.resolved for use in observation.uses}
