"""What observing costs, as ratios of times that were taken one right after the other: python -m tests.bench.observer

Machines differ and are noisy; each ratio is the lowest of several pairs, which is the one that noise disturbed least.
"""

import math
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
STRACE = ("strace", "-f", "--seccomp-bpf", "-e", "trace=%file,getdents64", "-o", "/dev/null")


@dataclass(frozen=True)
class Load:
    """Something to observe, and what its time is compared with."""

    title: str
    program: str
    arguments: tuple[str, ...]
    at_most: float
    against_strace: bool = False
    processes: int = 1


LOADS = (
    Load("100,000 opens, of strace's time", "opens", ("100000",), 0.25, against_strace=True),
    # 0.26 to 0.33, always 1.5 s: strace's own time for this is 4.6 s on one day and 5.5 s on another.
    Load("two processes, 50,000 opens each, of strace's time", "opens", ("50000",), 0.35, against_strace=True, processes=2),
    Load("100,000 listings of a directory, of strace's time", "listings", ("100000",), 0.3, against_strace=True),
    Load("two threads that compute, of the untraced time", "compute", ("300000000",), 1.1),
    Load("220,000 other calls, of the untraced time", "calls", ("220000",), 1.2),
)

APACHE = (
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "APACHE_RUN_USER=www-data", "APACHE_RUN_GROUP=www-data",
    "APACHE_LOG_DIR=/var/log/apache2", "APACHE_RUN_DIR=/run/apache2", "APACHE_PID_FILE=/run/apache2/apache2.pid",
    "APACHE_LOCK_DIR=/run/lock/apache2",
)  # fmt: skip


def ratio(load: Load, pairs: int, enough: float = 0) -> float:
    """Observed time by the other one, the lowest of *pairs*; of fewer, when one is as low as *enough*."""
    with tempfile.TemporaryDirectory() as directory, sandbox() as running:
        command = [str(compiled(load.program, Path(directory))), *load.arguments]
        if load.processes > 1:
            command = ["/bin/sh", "-c", " & ".join([" ".join(command)] * load.processes) + "; wait"]
        other = [*STRACE, *command] if load.against_strace else command
        return lowest((pair(running, command, other) for _ in range(pairs)), enough)


def lowest(ratios: Iterator[float], enough: float) -> float:
    """The lowest; of those up to the first that is as low as *enough*."""
    least = math.inf
    for value in ratios:
        least = min(least, value)
        if least <= enough:
            break
    return least


def apache_ratio(pairs: int, enough: float = 0) -> float:
    """Apache's start, a request and its stop, of the untraced time in a chroot; *pairs* as above."""
    with fixture("httpd") as root:
        return lowest((observed_apache(root) / untraced_apache(root) for _ in range(pairs)), enough)


def observed_apache(root: Path) -> float:
    """Seconds."""
    with sandbox(str(root), APACHE) as running:
        start = time.monotonic()
        running.launch(["/usr/sbin/httpd", "-DFOREGROUND"])
        request(running.init)
        running.stop(signal.SIGTERM, 10)
        return time.monotonic() - start


def untraced_apache(root: Path) -> float:
    """Seconds, in a network and a mount namespace of its own too."""
    setup = f"ip link set lo up; mount --bind /dev {root}/dev; read go"
    chroot = f"{setup}; exec chroot {root} env {' '.join(APACHE)} httpd -DFOREGROUND"
    with subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", chroot], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as httpd:
        assert httpd.stdin is not None
        time.sleep(0.2)
        start = time.monotonic()
        httpd.stdin.write(b"\n")
        httpd.stdin.flush()
        request(httpd.pid)
        httpd.terminate()
        httpd.wait()
        return time.monotonic() - start


def request(process: int) -> None:
    """One request that succeeds, in the network of *process*."""
    curl = ["nsenter", f"--net=/proc/{process}/ns/net", "curl", "-sf", "-o", "/dev/null", "127.0.0.1"]
    while subprocess.run(curl, check=False).returncode:
        time.sleep(0.01)


def peak_memory(events: int, names: int) -> int:
    """Bytes that the observer takes at most, while *events* calls name files by *names* different names."""
    with tempfile.TemporaryDirectory() as directory, sandbox() as running:
        assert running.run([str(compiled("opens", Path(directory))), str(events // 2), str(names)], 600).status == 0
        status = Path(f"/proc/{running.observer}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def pair(running: Sandbox, command: list[str], other: list[str]) -> float:
    """One ratio: *command* in the sandbox by *other* outside."""
    start = time.monotonic()
    assert running.run(command, 600).status == 0
    middle = time.monotonic()
    subprocess.run(other, check=True, stderr=subprocess.DEVNULL)
    return (middle - start) / (time.monotonic() - middle)


def compiled(name: str, directory: Path) -> Path:
    """The program of tests/programs."""
    subprocess.run(["gcc", "-O1", "-D_GNU_SOURCE", "-o", directory / name, PROGRAMS / f"{name}.c", "-pthread"], check=True)
    return directory / name


def fixture_archive(name: str) -> Path:
    """The docker-archive of a fixture image."""
    build = Path(__file__).resolve().parents[2] / "fixtures" / "build"
    return Path(subprocess.run([build, name], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


@contextmanager
def fixture(name: str) -> Iterator[Path]:
    """The root directory of a fixture image."""
    archive = fixture_archive(name)
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        with subprocess.Popen(["tar", "-xO", "--wildcards", "-f", archive, "*.tar"], stdout=subprocess.PIPE) as layer:
            subprocess.run(["tar", "-x", "-C", root], stdin=layer.stdout, check=True)
        yield Path(root)


@contextmanager
def sandbox(root: str = "/", environment: tuple[str, ...] = ("PATH=/usr/bin:/bin",)) -> Iterator[Sandbox]:
    """Over *root*."""
    with tempfile.TemporaryDirectory() as scratch:
        job = Job((root,), (), scratch, "sandbox", environment, 0, 0, (), "/")
        with Sandbox(job) as running:
            yield running


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for load in LOADS:
        print(f"{ratio(load, pairs):6.2f}  at most {load.at_most:4.2f}  {load.title}", flush=True)
    print(f"{apache_ratio(pairs):6.2f}  at most 1.50  Apache's start, a request and stop, of the untraced time", flush=True)
    print(f"{peak_memory(1000000, 1000) / 1e6:6.1f}  at most 80    MB of the observer for 1,000,000 events on 1,000 paths")


if __name__ == "__main__":
    main()
