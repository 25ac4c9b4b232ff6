"""A tar member's header as an entry of the tree: exact, and refused where it says what cannot be."""

import re
import tarfile

from tracestrip.rootfs.tree import Content, Entry, Kind

_XATTR = "SCHILY.xattr."
_OVERLAY_OWN = ("SCHILY.xattr.trusted.overlay.", "SCHILY.xattr.user.overlay.")
"""Overlayfs's notes to itself: it hides them in a container, and would obey them here."""
_NO_ID = 2**32 - 1  # (uid_t) -1, which says "do not change"; chown(2)
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # NAME_MAX, and PATH_MAX without the final NUL; limits.h
_MAJORS, _MINORS = 1 << 12, 1 << 20  # dev_t, include/linux/kdev_t.h
_LAST_SECOND = 2**63 - 1  # time_t
_PAX_NUMBERS = {
    "uid": re.compile(r"[0-9]+"),
    "gid": re.compile(r"[0-9]+"),
    "size": re.compile(r"[0-9]+"),
    "mtime": re.compile(r"-?[0-9]+(?:\.[0-9]*)?"),
}
_PAX_NAMES = ("path", "linkpath")
_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.FIFOTYPE: Kind.FIFO,
}


def components(name: str) -> list[bytes]:
    """The names on the way of *name*, an absolute one too. Raises ValueError where it leads out, or no kernel takes it."""
    names = [part for part in raw(name).split(b"/") if part not in (b"", b".")]
    if b".." in names:
        raise ValueError(f"{name!r} leads out of the image")
    for part in names:
        check_name(part)
    return names


def check_name(name: bytes) -> None:
    """Raises ValueError for a name that no file can have."""
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"the name {name[:32]!r}… has {len(name)} bytes, {_LONGEST_NAME} is the most")
    if b"\0" in name:
        raise ValueError(f"the name {name!r} has a NUL")


def check_path(path: bytes) -> None:
    """Raises ValueError for a path that no process can name."""
    if len(path) > _LONGEST_PATH:
        raise ValueError(f"the path {path[:32]!r}… has {len(path)} bytes, {_LONGEST_PATH} is the most")


def check_header(member: tarfile.TarInfo) -> None:
    """Raises ValueError for numbers and names that tarfile would make something else of: 0 of a wrong number."""
    for key, value in member.pax_headers.items():
        pattern = _PAX_NUMBERS.get(key)
        if (pattern and not pattern.fullmatch(value)) or (key in _PAX_NAMES and not value):
            raise ValueError(f"{member.name!r} has the {key} {value!r}")
    if not (0 <= member.uid < _NO_ID and 0 <= member.gid < _NO_ID):
        raise ValueError(f"{member.name!r} has the impossible owner {member.uid}:{member.gid}")


def entry_of(member: tarfile.TarInfo, path: bytes, inode: int, content: Content | None) -> Entry:
    """The entry *path* that the header describes. *content* counts for a regular file. Raises ValueError."""
    kind = _KINDS.get(member.type)
    if kind is None:
        raise ValueError(f"{member.name!r} is of the unknown type {member.type!r}")
    is_file = kind is Kind.FILE
    return Entry(
        path,
        kind,
        member.mode & 0o7777,
        member.uid,
        member.gid,
        member.size if is_file else 0,
        _nanoseconds(member),
        _target(member) if kind is Kind.SYMLINK else b"",
        _device(member) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
        _xattrs(member) if member.pax_headers else (),
        inode if kind is not Kind.DIRECTORY else None,
        content if is_file else None,
    )


def implied_directory(path: bytes) -> Entry:
    """A directory that no header describes, only names below it."""
    return Entry(path, Kind.DIRECTORY, 0o755, 0, 0, 0, 0)


def raw(text: str) -> bytes:
    """The bytes of a name or value that tarfile decoded."""
    return text.encode("utf-8", "surrogateescape")


def _target(member: tarfile.TarInfo) -> bytes:
    target = raw(member.linkname)
    if not target or len(target) > _LONGEST_PATH or b"\0" in target:
        raise ValueError(f"{member.name!r} is a symlink to {target[:32]!r}, which none can have")
    return target


def _device(member: tarfile.TarInfo) -> tuple[int, int]:
    major, minor = member.devmajor, member.devminor
    if not (0 <= major < _MAJORS and 0 <= minor < _MINORS):
        raise ValueError(f"{member.name!r} is the impossible device {major}:{minor}")
    return major, minor


def _xattrs(member: tarfile.TarInfo) -> tuple[tuple[bytes, bytes], ...]:
    found = []
    for key, value in member.pax_headers.items():
        # An empty value says that there is none, pax(1p).
        if value and key.startswith(_XATTR) and not key.startswith(_OVERLAY_OWN):
            name = raw(key.removeprefix(_XATTR))
            if not name or len(name) > _LONGEST_NAME or b"\0" in name:
                raise ValueError(f"{member.name!r} has the extended attribute {name!r}")
            found.append((name, raw(value)))
    return tuple(sorted(found))


def _nanoseconds(member: tarfile.TarInfo) -> int:
    """Exact: tarfile makes a float of a PAX time."""
    seconds, _, fraction = (member.pax_headers.get("mtime") or str(int(member.mtime))).partition(".")
    if abs(int(seconds)) > _LAST_SECOND:
        raise ValueError(f"{member.name!r} has the impossible time {seconds}")
    sign = -1 if seconds.startswith("-") else 1
    return int(seconds) * 10**9 + sign * int(fraction[:9].ljust(9, "0"))
