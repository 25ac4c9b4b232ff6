"""Runs a command and says how much memory it took.

A process that was started by a large one has that one's memory in its own ru_maxrss (getrusage(2) counts what was mapped
before exec), so a small process starts the command and measures.
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

_LAUNCHER = """
import os, sys
report = int(sys.argv[1])
_, status, usage = os.wait4(os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ), 0)
os.write(report, f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss * 1024}".encode())
"""


def measured(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bytes, bytes, int]:
    """Exit code, stdout and stderr of *command*, an absolute path with arguments; and peak bytes of its largest process."""
    reading, writing = os.pipe()
    with open(reading) as report:
        finished = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(writing), *command],
            stdin=subprocess.DEVNULL, capture_output=True, env=environment, pass_fds=[writing], check=True,
        )  # fmt: skip
        os.close(writing)
        code, peak = map(int, report.read().split())
    return code, finished.stdout, finished.stderr, peak
