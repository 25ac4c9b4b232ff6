"""Against strace: whatever it shows as used with success is in the observation."""

import subprocess
from pathlib import Path

from tests.observing import observed
from tracestrip.observer.client import Sandbox
from tracestrip.observer.wire import Job


def test_strace_sees_nothing_more(sandbox: Sandbox, host_job: Job, tmp_path: Path) -> None:
    """Every path that strace shows as used with success is in the observation: a shell, and Python with imports."""
    script = "import json, sqlite3, ssl; open('/etc/passwd').read()"
    arguments = ["/bin/sh", "-c", f'/usr/bin/python3 -c "{script}"; ls -l /usr/lib >/dev/null; git --version']
    log = tmp_path / "strace.log"
    subprocess.run(
        ["strace", "-f", "-z", "-e", "trace=%file", "-s", "4096", "-o", log, "--", *arguments],
        check=True, cwd="/", capture_output=True, env=dict(pair.split("=", 1) for pair in host_job.environment),
    )  # fmt: skip
    seen = {use.path for use in observed(sandbox, *arguments).uses}
    missed = set()
    for line in log.read_bytes().splitlines():
        call, quote, rest = line.partition(b'"')
        path = rest.partition(b'"')[0]
        if quote and b"AT_FDCWD" in call + b"AT_FDCWD" and path.startswith(b"/"):
            missed |= {path} - seen
    assert not {path for path in missed if not path.startswith((b"/proc/", b"/sys/", b"/tmp/"))}
