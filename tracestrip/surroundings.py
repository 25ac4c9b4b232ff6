"""What surrounds the target in the sandbox: what the image's config says, and what the user asks for beside it."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tracestrip.errors import EnvironmentLack, ImageError, UsageError
from tracestrip.exercise.plan import check_argument
from tracestrip.image.config import DEFAULT_PATH
from tracestrip.image.image import Image
from tracestrip.mount_options import check_bind, check_tmpfs
from tracestrip.observer import capabilities
from tracestrip.observer.job import DEFAULT_SHM_SIZE, Bind, Job, Tmpfs
from tracestrip.observer.wire import raw
from tracestrip.rootfs.accounts import find_account
from tracestrip.rootfs.submounts import submounts
from tracestrip.rootfs.tree import Tree

LONGEST_HOSTNAME = 64  # sethostname(2)
LEAST_MEMORY = 6 << 20  # as docker run
_MOST_BYTES = 1 << 50
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT
NETWORKS = ("sandbox", "none", "host")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The user's part; each default is what `docker run` does, but for the network."""

    environment: tuple[str, ...] = ()
    """NAME=VALUE."""
    user: str | None = None
    workdir: str | None = None
    hostname: str | None = None
    network: str = "sandbox"
    """One of NETWORKS."""
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    shm_size: int = DEFAULT_SHM_SIZE
    capabilities: int = capabilities.DEFAULT
    confined: bool = True
    memory: int | None = None
    """Bytes."""
    pids: int | None = None

    def check(self) -> None:
        """Raises UsageError for what can never work, EnvironmentLack for what this machine cannot give."""
        if self.workdir is not None and not self.workdir.startswith("/"):
            raise UsageError(f"--workdir {self.workdir}: write an absolute path of the image")
        if self.hostname is not None and len(os.fsencode(self.hostname)) > LONGEST_HOSTNAME:
            raise UsageError(f"--hostname {self.hostname}: write at most {LONGEST_HOSTNAME} bytes")
        if self.memory is not None and self.memory < LEAST_MEMORY:
            raise UsageError(f"--memory {self.memory}: allow at least {LEAST_MEMORY >> 20}M")
        if max(self.memory or 0, self.shm_size) > _MOST_BYTES:
            raise UsageError(f"--memory and --shm-size: write at most {_MOST_BYTES >> 50}P")
        if self.pids is not None and self.pids > _MOST_PIDS:
            raise UsageError(f"--pids-limit {self.pids}: write at most {_MOST_PIDS}")
        if self.shm_size <= 0 or (self.pids is not None and self.pids <= 0):
            raise UsageError("--shm-size and --pids-limit: write a number above 0")
        if self.network not in NETWORKS:
            raise UsageError(f"--network {self.network}: write one of {', '.join(NETWORKS)}")
        for option, text in (("--user", self.user), ("--workdir", self.workdir), ("--hostname", self.hostname)):
            check_argument(text or "", option)
        for pair in self.environment:
            check_argument(pair, "--env")
            if not pair.partition("=")[0] or "=" not in pair:
                raise UsageError(f"--env {pair}: write NAME=VALUE")
        for bind in self.binds:
            check_argument(bind.source, "--mount")
            check_argument(bind.target, "--mount")
            check_bind(bind)
        for tmpfs in self.tmpfs:
            check_argument(tmpfs.target, "--tmpfs")
            check_tmpfs(tmpfs)
        if self.capabilities & ~capabilities.mask(capabilities.NAMES):
            raise UsageError(f"the capabilities {self.capabilities:#x} are not all known: observe with a newer tracestrip")
        lacking = self.capabilities & ~capabilities.available()
        missing = [name for name in capabilities.NAMES if capabilities.has(lacking, name)]
        if missing:
            raise EnvironmentLack(f"this machine's root lacks the capability {missing[0]}: leave it out of --cap-add")

    def mount_points(self) -> tuple[bytes, ...]:
        """Where the user mounts something over the image."""
        return tuple(map(raw, (*(bind.target for bind in self.binds), *(tmpfs.target for tmpfs in self.tmpfs))))


def sandbox_job(asked: Surroundings, image: Image, tree: Tree, roots: tuple[Path, ...], scratch: Path) -> Job:
    """The sandbox for *image*. *roots*: directories that, stacked, are its root, the topmost first. *scratch*: an empty one.

    Raises TargetError for a user whom the image does not know, ImageError for a config that asks for the impossible.
    """
    config = image.config
    account = find_account(tree, config.user if asked.user is None else asked.user)
    hostname = asked.hostname or (os.uname().nodename if asked.network == "host" else _made_up_hostname(image))
    given = dict(pair.partition("=")[::2] for pair in (*config.environment, *asked.environment) if pair[:1] != "=")
    return Job(
        layers=tuple(map(str, roots)),
        submounts=submounts(roots[0]) if image.digest is None else (),
        scratch=str(scratch),
        hostname=hostname,
        environment=_environment(given, hostname, account.home),
        uid=account.uid,
        gid=account.gid,
        groups=account.groups,
        workdir=_inside(image, "working directory", asked.workdir or config.workdir, "set another with --workdir"),
        volumes=tuple(_volume(image, volume) for volume in config.volumes),
        network=asked.network,
        binds=asked.binds,
        tmpfs=asked.tmpfs,
        shm_size=asked.shm_size,
        capabilities=asked.capabilities,
        confined=asked.confined,
        memory=asked.memory,
        pids=asked.pids,
    )


def _made_up_hostname(image: Image) -> str:
    """Of the form that an engine gives, but the same in each run."""
    return hashlib.sha256((image.digest or image.name).encode()).hexdigest()[:12]


def _environment(given: Mapping[str, str], hostname: str, home: str) -> tuple[str, ...]:
    """In Docker's order: PATH, HOSTNAME, the image's and the user's own, HOME where nobody set it."""
    path = DEFAULT_PATH.partition("=")[2]
    variables = {"PATH": path, "HOSTNAME": hostname} | dict(given)
    if not variables.get("HOME"):
        variables["HOME"] = home or "/"
    return tuple(f"{name}={value}" for name, value in variables.items())


def _volume(image: Image, volume: str) -> str:
    path = _inside(image, "volume", volume, "build it without")
    if path == "/":
        raise ImageError(f"{image.name}: its volume {volume} is the whole image: build it without")
    return path


def _inside(image: Image, noun: str, path: str, remedy: str) -> str:
    """*path*, normalised. Not below /proc, whose links to descriptors could lead out of the image (CVE-2024-21626).

    Where symlinks lead is looked up in the sandbox.
    """
    normal = os.path.normpath("/" + path.lstrip("/"))
    if normal.split("/")[1] == "proc":
        raise ImageError(f"{image.name}: the {noun} {normal} is no place in an image: {remedy}")
    return normal
