"""The files that an image is made of, by name: in a directory, or in a tar archive."""

import posixpath
from abc import ABC, abstractmethod
from pathlib import Path

from tracestrip.errors import ImageError
from tracestrip.image.blob import Blob, whole
from tracestrip.image.tar_members import tar_members

_MOST_LINKS = 8
_MOST_MEMBERS = 100_000
"""Of an archive: three for each of 127 layers (Docker's most), for many images. Each takes memory."""


class Members(ABC):
    """Files by name, relative to the image's top."""

    def __init__(self, place: Path) -> None:
        self.place = place

    @abstractmethod
    def find(self, name: str) -> Blob | None:
        """The regular file *name*; None where there is none."""

    def blob(self, name: str) -> Blob:
        """The regular file *name*. Raises ImageError where there is none."""
        found = self.find(name)
        if found is None:
            raise ImageError(f"{self.place}: it lacks {name}, which the image names: save or copy the image again")
        return found


class DirectoryMembers(Members):
    """Files below a directory of the host."""

    def find(self, name: str) -> Blob | None:
        path = self.place / name
        return whole(path) if path.is_file() else None


class ArchiveMembers(Members):
    """Members of an uncompressed tar archive, which are read where they lie."""

    def __init__(self, place: Path, archive: Path) -> None:
        """*place*: what the user calls the *archive*, which may be unpacked elsewhere. Raises what tar_members raises."""
        super().__init__(place)
        self._archive = archive
        self._found: dict[str, Blob | str] = {}
        for number, (member, _) in enumerate(tar_members(whole(archive))):
            if number == _MOST_MEMBERS:
                raise ValueError(f"more than {_MOST_MEMBERS} files")
            name = posixpath.normpath(member.name)
            if member.issym():  # old archives link a layer that occurs twice
                self._found[name] = posixpath.join(posixpath.dirname(name), member.linkname)
            elif member.islnk():
                self._found[name] = member.linkname
            elif member.isreg():
                self._found[name] = Blob(archive, member.offset_data, member.size)

    def find(self, name: str) -> Blob | None:
        for _ in range(_MOST_LINKS):
            found = self._found.get(posixpath.normpath(name))
            if not isinstance(found, str):
                return found
            name = found
        return None
