"""The mounts that a process sees: proc_pid_mountinfo(5).

A target with a mount namespace of its own can bind a directory to another place; the image has the file at its first place
only: `origin`.
"""

import os
import re
from typing import NamedTuple


class Mount(NamedTuple):
    """One line of a mountinfo."""

    identity: int
    device: bytes
    """major:minor of its file system."""
    root: bytes
    """The directory of the file system that is mounted."""
    point: bytes
    kind: bytes
    """Type of the file system."""
    options: bytes
    """Those of the file system, not of the mount."""


def origin(name: bytes, descriptor: int, pid: int, init: int) -> bytes:
    """*name*, which process *pid* has for the file behind *descriptor*, as process *init* sees it.

    It is *name* itself where *init* has no such file system, or where the mount can't be told. Raises OSError.
    """
    identity = _mount_of(descriptor)
    seen = next((mount for mount in mounts(pid) if mount.identity == identity), None)
    rest = seen and _below(name, seen.point)
    if seen is None or rest is None:
        return name
    inner = _join(seen.root, rest)
    at_home = [mount for mount in mounts(init) if mount.device == seen.device and _below(inner, mount.root) is not None]
    if not at_home:
        return name
    home = max(at_home, key=lambda mount: len(mount.root))
    return _join(home.point, _below(inner, home.root) or b"")


def _mount_of(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        fields = dict(line.split(b":", 1) for line in file.read().splitlines())
    return int(fields[b"mnt_id"])


def mounts(pid: int | str) -> list[Mount]:
    """Those of process *pid*, or of "self". Raises OSError when it is gone."""
    with open(f"/proc/{pid}/mountinfo", "rb") as file:
        rows = [line.split() for line in file]
    return [
        Mount(int(row[0]), row[2], _unescaped(row[3]), _unescaped(row[4]), row[row.index(b"-", 6) + 1], row[-1])
        for row in rows
    ]


def _unescaped(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes((int(match[1], 8),)), field)


def _below(path: bytes, directory: bytes) -> bytes | None:
    """What remains of *path* below *directory*; None where it isn't there."""
    if directory in (path, b"/"):
        return path[len(directory) :].lstrip(b"/")
    return path[len(directory) + 1 :] if path.startswith(directory + b"/") else None


def _join(directory: bytes, rest: bytes) -> bytes:
    return os.path.join(directory, rest) if rest else directory
