"""The image's USER, looked up in the image's own /etc/passwd and /etc/group, as Docker does."""

from dataclasses import dataclass

from tracestrip.errors import TargetError
from tracestrip.image.config import is_number
from tracestrip.rootfs.tree import Kind, Tree
from tracestrip.rootfs.walk import walk


@dataclass(frozen=True, slots=True)
class Account:
    """Whom the target runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups; the primary one is not among them."""
    home: str


def find_account(tree: Tree, user: str) -> Account:
    """*user*: name, uid, name:group or uid:gid; empty is root. Raises TargetError when the image does not know it."""
    name, _, group = user.partition(":")
    name = name or "0"
    users = _fields(tree, b"/etc/passwd", 7)
    groups = _fields(tree, b"/etc/group", 4)
    known = next((row for row in users if name in (row[0], row[2])), None)
    if known is None and not is_number(name):
        raise TargetError(f"user {name!r} is not in the image's /etc/passwd: set another with --user")
    uid = int(known[2]) if known else int(name)
    gid = int(known[3]) if known else 0
    if group:
        row = next((row for row in groups if group in (row[0], row[2])), None)
        if row is None and not is_number(group):
            raise TargetError(f"group {group!r} is not in the image's /etc/group: set another with --user")
        gid = int(row[2]) if row else int(group)
    member_of = () if known is None or group else tuple(int(row[2]) for row in groups if known[0] in row[3].split(","))
    return Account(uid, gid, tuple(number for number in member_of if number != gid), known[5] if known else "/")


def _fields(tree: Tree, path: bytes, count: int) -> list[list[str]]:
    entry = walk(tree, path).entry
    if entry is None or entry.kind is not Kind.FILE:
        return []
    lines = tree.read(entry).decode("utf-8", "surrogateescape").splitlines()
    rows = [line.split(":") for line in lines]
    return [row for row in rows if len(row) >= count and is_number(row[2]) and (count < 7 or is_number(row[3]))]
