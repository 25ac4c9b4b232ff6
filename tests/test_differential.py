"""Against strace: whatever it shows as used with success, by real programs and services, is in the observation."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.observing import Compile
from tests.strace import names_used
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job
from tracestrip.observer.wire import Observation

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Service:
    command: str
    environment: tuple[str, ...]
    probe: str
    stop: signal.Signals


APACHE = (
    "APACHE_RUN_USER=www-data", "APACHE_RUN_GROUP=www-data", "APACHE_RUN_DIR=/var/run/apache2",
    "APACHE_PID_FILE=/var/run/apache2/apache2.pid", "APACHE_LOCK_DIR=/var/lock/apache2", "APACHE_LOG_DIR=/var/log/apache2",
)  # fmt: skip
SERVICES = {
    "httpd": Service("exec /usr/sbin/httpd -DFOREGROUND", APACHE, "curl -sf localhost/icons/a.gif >/dev/null", signal.SIGWINCH),
    "nginx": Service("exec nginx -g 'daemon off;'", (), "curl -sf localhost >/dev/null", signal.SIGQUIT),
}

Root = Callable[[str], Path]


@pytest.fixture(scope="session")
def root(archive: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Root:
    """The root directory of a fixture image."""
    made: dict[str, Path] = {}

    def extract(name: str) -> Path:
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            with subprocess.Popen(["tar", "-xO", "--wildcards", "-f", archive(name), "*.tar"], stdout=subprocess.PIPE) as layer:
                subprocess.run(["tar", "-x", "-C", made[name]], stdin=layer.stdout, check=True)
        return made[name]

    return extract


TRACED = """
set -e
ip link set lo up
if [ "$ROOT" != / ]; then
    mkdir -p "$ROOT/proc" "$ROOT/dev"
    mount --bind /dev "$ROOT/dev"
    mount --bind /proc "$ROOT/proc"
    mount -t tmpfs tmpfs "$ROOT/tmp"
fi
exec strace -ff -y -z -s 4096 -e trace=%file -o "$LOGS/log" chroot "$ROOT" env -i $VARIABLES /bin/sh -c "$COMMAND"
"""


def straced(
    root: Path, logs: Path, command: str, variables: tuple[str, ...], exercise: Callable[[int], None] = int
) -> set[bytes]:
    """Names that were used, as the command names them. *exercise* gets the pid of strace, and ends a service."""
    logs.mkdir()
    given = {"ROOT": str(root), "LOGS": str(logs), "COMMAND": command, "VARIABLES": " ".join(variables)}
    with (
        (logs / "output").open("w+b") as output,
        subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", TRACED],
            env=os.environ | given, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        ) as strace,
    ):  # fmt: skip
        try:
            exercise(strace.pid)
            assert strace.wait(60) == 0, (logs / "output").read_bytes()
        finally:
            strace.kill()
    written = [log.read_bytes() for log in logs.glob("log.*")]
    (first,) = (log for log in written if b'["chroot", ' in log.partition(b"\n")[0])
    written.remove(first)
    command_itself = first[first.index(b'execve("/bin/sh"') :]
    return names_used([command_itself, *written], os.fsencode(root))


def exercised(service: Service) -> Callable[[int], None]:
    def exercise(strace: int) -> None:
        probe = ["nsenter", "--net", "--target", str(strace), "sh", "-c", service.probe]
        deadline = time.monotonic() + 30
        while subprocess.run(probe, check=False).returncode and time.monotonic() < deadline:
            time.sleep(0.1)
        (target,) = Path(f"/proc/{strace}/task/{strace}/children").read_text().split()
        os.kill(int(target), service.stop)

    return exercise


def missed(observation: Observation, used: set[bytes], root: Path) -> set[bytes]:
    """Names in *used* that the image has and the observation has not. What an engine mounts over is left out."""
    seen = {use.path for use in observation.uses} | {use.resolved or b"" for use in observation.uses}
    ends = {path[at:] for path in seen for at in range(len(path)) if path[at : at + 1] == b"/"}
    return {
        name
        for name in used - seen
        if not name.startswith((b"/proc", b"/dev", b"/sys", b"/tmp"))
        and os.path.lexists(os.fsencode(root) + b"/" + name)
        and os.path.normpath(name) not in {os.path.normpath(path) for path in seen}
        and (name.startswith(b"/") or b"/" + os.path.normpath(name) not in ends)
    }


def observed_program(job: Job, command: str) -> Observation:
    with Sandbox(job) as sandbox:
        result = sandbox.run(["/bin/sh", "-c", command], 120)
        assert result.status == 0, result.output
        return sandbox.stop(15, 5)


@pytest.mark.parametrize("name", sorted(script.name for script in SCRIPTS.iterdir()))
def test_programs(name: str, host_job: Job, root: Root, tmp_path: Path) -> None:
    image = root("programs")
    command = (SCRIPTS / name).read_text()
    observation = observed_program(replace(host_job, layers=(str(image),)), command)
    used = straced(image, tmp_path / "logs", command, host_job.environment)
    assert len(used) > 5
    assert not missed(observation, used, image)


@pytest.mark.parametrize("name", SERVICES)
def test_services(name: str, host_job: Job, root: Root, tmp_path: Path) -> None:
    image, service = root(name), SERVICES[name]
    job = replace(host_job, layers=(str(image),), environment=host_job.environment + service.environment)
    with Sandbox(job) as sandbox:
        sandbox.launch(["/bin/sh", "-c", service.command])
        deadline = time.monotonic() + 30
        while not sandbox.listening_ports() and time.monotonic() < deadline:
            sandbox.poll(0.05)
        assert sandbox.run_beside(["sh", "-c", service.probe], 10).status == 0
        observation = sandbox.stop(service.stop, 5)
    used = straced(image, tmp_path / "logs", service.command, job.environment, exercised(service))
    assert len(used) > 25
    assert not missed(observation, used, image)


def test_a_32_bit_program(host_job: Job, compiled: Compile, tmp_path: Path) -> None:
    """It has a loader and libraries of its own, and loads name services and character sets by name."""
    command = str(compiled("names", "-m32"))
    observation = observed_program(host_job, command)
    used = straced(Path("/"), tmp_path / "logs", command, host_job.environment)
    assert any(b"/lib32/" in name or b"i386" in name for name in used)
    assert not missed(observation, used, Path("/"))
