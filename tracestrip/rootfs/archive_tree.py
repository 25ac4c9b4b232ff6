"""A tree from layer archives, applied one after the other by the rules of the OCI image-spec (layer.md).

The result is what extraction by an engine would give: whiteouts hide what lower layers have, never names of their own
layer; a path through a symlink lands where the symlink leads, inside the root.
"""

import os
import tarfile
import zlib
from dataclasses import replace

from tracestrip.errors import ImageError
from tracestrip.image.image import LayerArchive
from tracestrip.rootfs.tree import Content, Entry, Kind, Tree, join, parent
from tracestrip.rootfs.walk import walk

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS_OWN = b".wh..wh."
_XATTR = "SCHILY.xattr."
_NO_ID = 2**32 - 1  # (uid_t) -1, which says "do not change"; chown(2)
_MOST_SYMLINKS = 40  # MAXSYMLINKS, path_resolution(7)
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


class ArchiveTree(Tree):
    """The merged view of layer archives."""

    def __init__(self, layers: tuple[LayerArchive, ...]) -> None:
        """*layers*: the lowest first. Raises ImageError when one is damaged or breaks the rules."""
        self._entries = {b"/": _implied_directory(b"/")}
        self._names: dict[bytes, set[bytes]] = {b"/": set()}
        self._own: set[bytes] = set()
        self._files = 0
        for layer in layers:
            self._own = {b"/"}
            try:
                self._apply(layer)
            except (tarfile.TarError, ValueError, OverflowError, EOFError, zlib.error, IndexError, OSError) as error:
                raise ImageError(f"{layer.file}: the layer {layer.diff_id} is damaged ({error}): save it again") from error

    def entry(self, path: bytes) -> Entry | None:
        return self._entries.get(path)

    def names(self, path: bytes) -> list[bytes]:
        return sorted(self._names.get(path, ()))

    def _apply(self, layer: LayerArchive) -> None:
        with layer.file.open("rb") as file:
            file.seek(layer.offset)
            window = _Window(file, layer.offset, layer.size)
            with tarfile.open(fileobj=window, mode="r:", errors="surrogateescape", encoding="utf-8") as archive:  # type: ignore[call-overload]
                while (member := archive.next()) is not None:
                    self._add(layer, member)
                    archive.members = []  # tarfile would keep every header
                # A header that it cannot read it takes for the end.
                window.seek(archive.offset)
                if window.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    raise tarfile.ReadError(f"no header at byte {archive.offset}")

    def _add(self, layer: LayerArchive, member: tarfile.TarInfo) -> None:
        names = _components(member.name, layer)
        if not names:
            if not member.isdir():
                raise ImageError(f"{layer.file}: its root is no directory ({member.name!r}): build the image again")
            self._entries[b"/"] = _entry(b"/", Kind.DIRECTORY, member)
            return
        name = names[-1]
        directory = self._directory(names[:-1], layer)
        if name == _OPAQUE:
            for below in list(self._names[directory]):
                self._remove_lower(join(directory, below))
        elif name.startswith(_AUFS_OWN):
            return
        elif name.startswith(_WHITEOUT):
            hidden = name.removeprefix(_WHITEOUT)
            if hidden in (b"", b".", b".."):
                raise ImageError(f"{layer.file}: the whiteout {member.name!r} names nothing: build the image again")
            self._remove_lower(join(directory, hidden))
        else:
            self._put(self._made(layer, member, join(directory, name)))

    def _made(self, layer: LayerArchive, member: tarfile.TarInfo, path: bytes) -> Entry:
        if not (0 <= member.uid < _NO_ID and 0 <= member.gid < _NO_ID):
            owner = f"{member.uid}:{member.gid}"
            raise ImageError(f"{layer.file}: {member.name!r} has the impossible owner {owner}: build the image again")
        if member.islnk():
            linked = _components(member.linkname, layer)
            found = walk(self, b"/" + b"/".join(linked), follow=False).entry
            if found is None or found.is_directory:
                raise ImageError(f"{layer.file}: {member.name!r} is a hard link to {member.linkname!r}, which is not there")
            return replace(found, path=path)
        kind = _KINDS.get(member.type)
        if kind is None:
            raise ImageError(f"{layer.file}: {member.name!r} is of the unknown type {member.type!r}: build the image again")
        entry = _entry(path, kind, member)
        if kind is not Kind.FILE:
            return entry
        self._files += 1
        sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
        extents = None if sparse is None else tuple((at, size) for at, size in sparse if size)
        return replace(entry, inode=self._files, content=Content(layer.file, layer.offset + member.offset_data, extents))

    def _put(self, entry: Entry) -> None:
        there = self._entries.get(entry.path)
        if there is not None and not (there.is_directory and entry.is_directory):
            self._remove(entry.path)
        self._entries[entry.path] = entry
        self._own.add(entry.path)
        self._names[parent(entry.path)].add(entry.path.rpartition(b"/")[2])
        if entry.is_directory:
            self._names.setdefault(entry.path, set())

    def _directory(self, names: list[bytes], layer: LayerArchive, symlinks: int = 0) -> bytes:
        """The real directory that *names* lead to; missing ones are made. *symlinks*: dangling ones followed so far."""
        if symlinks > _MOST_SYMLINKS:
            raise ImageError(f"{layer.file}: {b'/'.join(names)!r} is a loop of symlinks, but has files: build the image again")
        path = b"/"
        for name in names:
            step = walk(self, join(path, name))
            if step.entry is None:
                if step.links:  # a symlink to a directory that is not there yet
                    dangling = step.links[-1]
                    target = os.path.normpath(os.path.join(parent(dangling.path), dangling.target))
                    path = self._directory([part for part in target.split(b"/") if part], layer, symlinks + 1)
                    continue
                self._put(_implied_directory(join(path, name)))
                path = join(path, name)
            elif step.entry.is_directory:
                path = step.entry.path
                self._own.add(path)
            else:
                raise ImageError(f"{layer.file}: {step.entry.path!r} is no directory, but has files: build the image again")
        return path

    def _remove_lower(self, path: bytes) -> None:
        """Hide what the layers below have at *path*; what this layer put there stays."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            if path in self._own:
                waiting += [join(path, name) for name in self._names.get(path, ())]
            else:
                self._remove(path)

    def _remove(self, path: bytes) -> None:
        for entry in reversed(list(self.walk(path))):
            del self._entries[entry.path]
            self._names.pop(entry.path, None)
            self._own.discard(entry.path)
            self._names[parent(entry.path)].discard(entry.path.rpartition(b"/")[2])


class _Window:
    """A part of a file, as a file of its own."""

    def __init__(self, file: object, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> int:
        self._at = offset
        return offset

    def read(self, size: int) -> bytes:
        size = max(0, min(size, self._size - self._at))
        content: bytes = os.pread(self._file.fileno(), size, self._start + self._at)  # type: ignore[attr-defined]
        self._at += len(content)
        return content


def _components(name: str, layer: LayerArchive) -> list[bytes]:
    names = [part for part in name.encode("utf-8", "surrogateescape").split(b"/") if part not in (b"", b".")]
    if b".." in names:
        raise ImageError(f"{layer.file}: {name!r} leads out of the image: build the image again")
    return names


def _implied_directory(path: bytes) -> Entry:
    return Entry(path, Kind.DIRECTORY, 0o755, 0, 0, 0, 0)


def _entry(path: bytes, kind: Kind, member: tarfile.TarInfo) -> Entry:
    return Entry(
        path=path,
        kind=kind,
        mode=member.mode & 0o7777,
        uid=member.uid,
        gid=member.gid,
        size=member.size if kind is Kind.FILE else 0,
        mtime=_nanoseconds(member),
        target=_raw(member.linkname) if kind is Kind.SYMLINK else b"",
        device=(member.devmajor, member.devminor) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
        xattrs=tuple(
            sorted(
                (_raw(key.removeprefix(_XATTR)), _raw(value))
                for key, value in member.pax_headers.items()
                if key.startswith(_XATTR)
            )
        ),
    )


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _nanoseconds(member: tarfile.TarInfo) -> int:
    """Exact: tarfile makes a float of a time with a fraction."""
    seconds, dot, fraction = str(member.pax_headers.get("mtime", "")).partition(".")
    if not dot:
        return int(member.mtime) * 10**9
    sign = -1 if seconds.startswith("-") else 1
    return int(seconds) * 10**9 + sign * int(fraction[:9].ljust(9, "0"))
