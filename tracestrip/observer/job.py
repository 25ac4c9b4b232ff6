"""What the pipeline tells an observer: the sandbox that it is to make."""

from dataclasses import asdict, dataclass
from typing import Any

from tracestrip.observer import capabilities

DEFAULT_SHM_SIZE = 64 << 20


@dataclass(frozen=True, slots=True)
class Bind:
    """A file or directory of the host that is seen inside: `--mount type=bind`."""

    source: str
    """Absolute path on the host."""
    target: str
    """Absolute path inside; made when it is missing."""
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty file system in memory: tmpfs(5)."""

    target: str
    """Absolute path inside; made when it is missing."""
    flags: int
    """MS_* of mount(2)."""
    options: str = ""
    """As mount(2) takes them for a tmpfs: size=…,mode=…"""


@dataclass(frozen=True, slots=True)
class Job:
    """A sandbox, with Docker's defaults. Paths of the host are absolute."""

    layers: tuple[str, ...]
    """Directories of the image's layers, the topmost first; they become the overlay's lower directories."""
    submounts: tuple[tuple[str, str], ...]
    """Further file systems: (mount point inside, directory on the host), parents before children."""
    scratch: str
    """An empty directory on the host, for this sandbox alone: what the run writes, and the names of its control groups."""
    hostname: str
    environment: tuple[str, ...]
    """NAME=VALUE, as in an image's config."""
    uid: int
    gid: int
    groups: tuple[int, ...]
    workdir: str
    """Absolute path inside; made when it is missing."""
    volumes: tuple[str, ...] = ()
    """Directories inside that become mounts of their own; made when they are missing."""
    network: str = "sandbox"
    """sandbox or none: a private one with a loopback interface only; host: the host's."""
    binds: tuple[Bind, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    shm_size: int = DEFAULT_SHM_SIZE
    """Bytes of /dev/shm."""
    capabilities: int = capabilities.DEFAULT
    """Bit mask."""
    confined: bool = True
    """Whether Docker's seccomp rules are in force."""
    memory: int | None = None
    """Bytes that all processes inside may have together; twice that with swap."""
    pids: int | None = None
    """How many processes and threads there may be inside."""
    observed: bool = True
    """Whether the files that commands use are recorded."""

    def variable(self, name: str) -> str:
        """Of the environment; empty where it is not set."""
        return dict(pair.partition("=")[::2] for pair in self.environment).get(name, "")

    def to_message(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Job":
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in message.items()}
        fields["submounts"] = tuple((inside, outside) for inside, outside in message["submounts"])
        fields["binds"] = tuple(Bind(**bind) for bind in message["binds"])
        fields["tmpfs"] = tuple(Tmpfs(**tmpfs) for tmpfs in message["tmpfs"])
        return cls(**fields)
