"""What strace says of the files that a command uses with success."""

import codecs
import re

_NAME = re.compile(rb'(?:(?:AT_FDCWD|\d+)<((?:[^>\\]|\\.)*)>, )?"((?:[^"\\]|\\.)*)"')
_TWO_NAMES = (b"link", b"rename")  # and linkat, renameat2 …


def names_used(logs: list[bytes], root: bytes) -> set[bytes]:
    """Names that the command gave, from logs of strace -ff -y -z -s 4096 under chroot into *root*.

    They are absolute but where strace doesn't show the working directory.
    """
    found = set()
    for log in logs:
        for line in log.splitlines():
            call, parenthesis, rest = line.partition(b"(")
            if not parenthesis or not call.replace(b"_", b"").isalnum():
                continue
            names = [_absolute(root, *match.groups()) for match in _NAME.finditer(rest)]
            if call.startswith(b"symlink"):
                names = names[1:]
            elif not call.startswith(_TWO_NAMES):
                names = names[:1]
            found |= {name for name in names if name}
    return found


def _absolute(root: bytes, directory: bytes | None, name: bytes) -> bytes:
    path: bytes = codecs.escape_decode(name)[0]  # type: ignore[attr-defined]
    if not path or path.startswith(b"/") or directory is None:
        return path
    top: bytes = codecs.escape_decode(directory)[0]  # type: ignore[attr-defined]
    return top.removeprefix(root.rstrip(b"/")).rstrip(b"/") + b"/" + path
