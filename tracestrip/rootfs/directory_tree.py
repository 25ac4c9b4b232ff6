"""A tree over directories: an engine's own layers, or a root file system on the host.

Read lazily, name by name, with overlayfs's rules (Documentation/filesystems/overlayfs.rst): the topmost layer wins,
directories merge, a 0:0 character device is a whiteout, and an opaque directory hides those below it.
"""

import errno
import os
import stat
from pathlib import Path

from tracestrip.errors import ImageError
from tracestrip.image.image import LayerDirectory
from tracestrip.rootfs.tree import Content, Entry, Kind, Tree, join, parent

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFIFO: Kind.FIFO,
}
_OVERLAY_PREFIXES = (b"trusted.overlay.", b"user.overlay.")
_OPAQUE = {prefix + b"opaque" for prefix in _OVERLAY_PREFIXES}
_ELSEWHERE = {prefix + name for prefix in _OVERLAY_PREFIXES for name in (b"redirect", b"metacopy")}
_NOTHING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""No file can be there: path_resolution(7)."""
_UNREADABLE = (*_NOTHING, errno.EACCES, errno.EPERM, errno.EINVAL, errno.ESRCH)
"""As some directories of /proc are, also for root."""
_HOST_OWN = (b"security.selinux", b"security.ima", b"security.evm")
"""Attributes that belong to the host's policy and not to the image."""


class DirectoryTree(Tree):
    """The merged view of overlayfs directories."""

    def __init__(self, layers: tuple[LayerDirectory, ...]) -> None:
        """*layers*: the lowest first."""
        topmost_first = [os.fsencode(layer.path) for layer in reversed(layers)]
        self._nodes: dict[bytes, tuple[Entry | None, tuple[bytes, ...]]] = {b"/": _merge(b"/", topmost_first)}

    def entry(self, path: bytes) -> Entry | None:
        return self._node(path)[0]

    def names(self, path: bytes) -> list[bytes]:
        found: set[bytes] = set()
        for directory in self._node(path)[1]:
            try:
                found.update(os.listdir(directory))
            except OSError as error:
                if error.errno not in _UNREADABLE:
                    raise ImageError(f"{os.fsdecode(directory)}: cannot be read: {error.strerror}") from error
        return sorted(name for name in found if self.entry(join(path, name)) is not None)

    def _node(self, path: bytes) -> tuple[Entry | None, tuple[bytes, ...]]:
        """The entry, and the host directories that are merged at it, topmost first."""
        missing = []
        while path not in self._nodes:
            name = path.rpartition(b"/")[2]
            if path[:1] != b"/" or path[:2] == b"//" or name in (b"", b".", b"..") or b"\0" in name:
                return None, ()  # no name at all; it could lead out of the layer
            missing.append(path)
            path = parent(path)
        node = self._nodes[path]
        for path in reversed(missing):
            # Only below a real directory of the layer: a symlink there would lead out of it.
            node = _merge(path, [join(directory, path.rpartition(b"/")[2]) for directory in node[1]])
            self._nodes[path] = node
        return node


def _merge(path: bytes, hosts: list[bytes]) -> tuple[Entry | None, tuple[bytes, ...]]:
    entry: Entry | None = None
    directories: list[bytes] = []
    for host in hosts:
        try:
            status = os.lstat(host)
        except OSError as error:
            if error.errno in _NOTHING:
                continue
            raise ImageError(f"{os.fsdecode(host)}: cannot be read: {error.strerror}: run as root") from error
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None or (kind is Kind.CHARACTER and status.st_rdev == 0):
            break  # a whiteout; or a socket, which an image cannot hold
        if kind is not Kind.DIRECTORY and directories:
            break
        xattrs = _attributes(host)
        if any(name in _ELSEWHERE for name, _ in xattrs):
            raise ImageError(f"{os.fsdecode(host)}: the engine keeps it redirected: save the image, use docker-archive:FILE")
        try:
            entry = entry or _entry(path, kind, host, status, xattrs)
        except OSError:
            break  # a link of /proc that may not be read, or a file that went away
        if kind is not Kind.DIRECTORY:
            break
        directories.append(host)
        if any(name in _OPAQUE and value == b"y" for name, value in xattrs):
            break
    return entry, tuple(directories)


def _entry(path: bytes, kind: Kind, host: bytes, status: os.stat_result, xattrs: list[tuple[bytes, bytes]]) -> Entry:
    regular = kind is Kind.FILE
    is_device = kind in (Kind.CHARACTER, Kind.BLOCK)
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if regular else 0,
        mtime=status.st_mtime_ns,
        target=os.readlink(host) if kind is Kind.SYMLINK else b"",
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0),
        xattrs=tuple(pair for pair in xattrs if not pair[0].startswith(_OVERLAY_PREFIXES) and pair[0] not in _HOST_OWN),
        inode=(status.st_dev, status.st_ino) if kind is not Kind.DIRECTORY and status.st_nlink > 1 else None,
        content=Content(Path(os.fsdecode(host)), 0) if regular else None,
    )


def _attributes(host: bytes) -> list[tuple[bytes, bytes]]:
    try:
        names = sorted(os.listxattr(host, follow_symlinks=False))
        return [(os.fsencode(name), os.getxattr(host, name, follow_symlinks=False)) for name in names]
    except OSError:
        return []  # the file system has none, or the file went away
