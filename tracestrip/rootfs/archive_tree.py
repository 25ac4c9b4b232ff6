"""A tree from layer archives, applied one after the other by the rules of the OCI image-spec (layer.md).

The result is what extraction by an engine would give: whiteouts hide what lower layers have, never names of their own
layer; a path through a symlink lands where the symlink leads, inside the root.
"""

import os
import tarfile
from dataclasses import replace

from tracestrip.errors import ImageError
from tracestrip.image.damage import damage
from tracestrip.image.image import LayerArchive
from tracestrip.image.room import ALLOW_MORE, DEFAULT_LIMIT
from tracestrip.image.tar_members import tar_members
from tracestrip.rootfs.header import check_header, check_name, check_path, components, entry_of, implied_directory, raw
from tracestrip.rootfs.tree import Content, Entry, Kind, Tree, join, parent
from tracestrip.rootfs.walk import walk

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS_OWN = b".wh..wh."
_MOST_SYMLINKS = 40  # MAXSYMLINKS, path_resolution(7)
_MOST_MEMBERS = 5_000_000
"""Of all layers: about 4 GB of memory. Images have a million at the very most."""


class ArchiveTree(Tree):
    """The merged view of layer archives."""

    def __init__(self, layers: tuple[LayerArchive, ...], most_bytes: int = DEFAULT_LIMIT, called: str = "the image") -> None:
        """*layers*: the lowest first; *most_bytes*: of all files together, holes too; *called*: the image, in messages.

        Raises ImageError when a layer is damaged or breaks the rules.
        """
        self._entries = {b"/": implied_directory(b"/")}
        self._names: dict[bytes, set[bytes]] = {b"/": set()}
        self._files = 0
        self._bytes = self._members = 0
        for layer in layers:
            self._own: dict[bytes, bool] = {b"/": False}
            """Paths that this layer has; whether by a header of their own."""
            self._places: dict[bytes, bytes] = {}
            """Directories as headers write them, and as they are; forgotten when anything is removed."""
            self._opaque: set[bytes] = set()
            """Directories that hide what the layers below have in them."""
            self._twice: list[bytes] = []
            name = f"{called}: the layer {layer.diff_id}"
            with damage(name, "build or save the image again"):
                for member, _ in tar_members(layer.blob):
                    self._count(member, most_bytes, called)
                    self._add(layer, member)
            if self._twice:
                shown = self._twice[0].decode("utf-8", "backslashreplace")
                warning = f"{name} has {len(self._twice)} names twice, as {shown!r}: the last of each counts"
                self.warnings = (*self.warnings, warning)

    def entry(self, path: bytes) -> Entry | None:
        return self._entries.get(path)

    def names(self, path: bytes) -> list[bytes]:
        return sorted(self._names.get(path, ()))

    def _count(self, member: tarfile.TarInfo, most_bytes: int, called: str) -> None:
        """A few bytes of archive can say to be a huge file."""
        self._members += 1
        self._bytes += member.size
        if self._bytes > most_bytes:
            raise ImageError(f"{called}: its files have more than {most_bytes} bytes: {ALLOW_MORE}")
        if self._members > _MOST_MEMBERS:
            raise ImageError(f"{called}: it has more than {_MOST_MEMBERS} files: no service needs so many: build it again")

    def _add(self, layer: LayerArchive, member: tarfile.TarInfo) -> None:
        check_header(member)
        way, _, name = raw(member.name).rpartition(b"/")
        directory = self._places.get(way)
        is_plain = name not in (b"", b".", b"..") and not name.startswith(_WHITEOUT)
        if directory is None or not is_plain:
            names = components(member.name)
            if not names:
                self._set_root(member)
                return
            name = names[-1]
            if any(part.startswith(_AUFS_OWN) for part in names) and name != _OPAQUE:
                return
            if any(part.startswith(_WHITEOUT) for part in names[:-1]):
                raise ValueError(f"{member.name!r} lies below a whiteout")
            if name.startswith(_WHITEOUT):
                self._hide(names[:-1], name, member)
                return
            directory = self._directory(names[:-1])
            if is_plain:
                self._places[way] = directory
        check_name(name)
        path = join(directory, name)
        check_path(path)
        self._put(self._made(layer, member, path), explicit=True)

    def _set_root(self, member: tarfile.TarInfo) -> None:
        if not member.isdir():
            raise ValueError(f"the root is no directory ({member.name!r})")
        self._entries[b"/"] = entry_of(member, b"/", 0, None)

    def _hide(self, way: list[bytes], name: bytes, member: tarfile.TarInfo) -> None:
        """What a whiteout in the directory *way* says, if there is such a directory."""
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in (b"", b".", b".."):
            raise ValueError(f"the whiteout {member.name!r} names nothing")
        found = walk(self, b"/" + b"/".join(way))
        if len(found.links) > _MOST_SYMLINKS:
            raise ValueError(f"{member.name!r} lies behind a loop of symlinks")
        directory = found.entry
        if directory is None or not directory.is_directory:
            return
        if name != _OPAQUE:
            self._remove_lower(join(directory.path, hidden))
        elif directory.path not in self._opaque:
            self._opaque.add(directory.path)
            for below in list(self._names[directory.path]):
                self._remove_lower(join(directory.path, below))

    def _made(self, layer: LayerArchive, member: tarfile.TarInfo, path: bytes) -> Entry:
        if member.islnk():
            linked = components(member.linkname)
            if path in self._entries:
                self._remove(path)  # first, so that it cannot be a link to what it replaces
            found = walk(self, b"/" + b"/".join(linked), follow=False).entry
            if found is None or found.is_directory:
                raise ValueError(f"{member.name!r} is a hard link to {member.linkname!r}, which is not there")
            return replace(found, path=path)
        self._files += 1
        sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
        extents = None if sparse is None else tuple((at, size) for at, size in sparse if size)
        return entry_of(member, path, self._files, Content(layer.file, layer.offset + member.offset_data, extents))

    def _put(self, entry: Entry, *, explicit: bool) -> None:
        path = entry.path
        if explicit and self._own.get(path):
            self._twice.append(path)
        there = self._entries.get(path)
        if there is not None and not (there.is_directory and entry.is_directory):
            self._remove(path)
        self._entries[path] = entry
        self._own[path] = explicit
        self._names[parent(path)].add(path.rpartition(b"/")[2])
        if entry.is_directory:
            self._names.setdefault(path, set())

    def _directory(self, names: list[bytes], symlinks: int = 0) -> bytes:
        """The real directory that *names* lead to; missing ones are made. *symlinks*: dangling ones followed so far."""
        if symlinks > _MOST_SYMLINKS:
            raise ValueError(f"{b'/'.join(names)!r} is a loop of symlinks, but has files")
        path = b"/"
        for name in names:
            entry = self._entries.get(join(path, name))
            if entry is not None and entry.kind is Kind.SYMLINK:
                step = walk(self, entry.path)
                entry = step.entry
                if entry is None:  # a symlink to a directory that is not there yet
                    dangling = step.links[-1]
                    target = os.path.normpath(os.path.join(parent(dangling.path), dangling.target))
                    path = self._directory([part for part in target.split(b"/") if part], symlinks + 1)
                    continue
            if entry is None:
                check_name(name)
                path = join(path, name)
                check_path(path)
                self._put(implied_directory(path), explicit=False)
            elif entry.is_directory:
                path = entry.path
                self._own.setdefault(path, False)
            else:
                raise ValueError(f"{entry.path!r} is no directory, but has files")
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
        self._places.clear()
        for entry in reversed(list(self.walk(path))):
            del self._entries[entry.path]
            self._names.pop(entry.path, None)
            self._own.pop(entry.path, None)
            self._names[parent(entry.path)].discard(entry.path.rpartition(b"/")[2])
