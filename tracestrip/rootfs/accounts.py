"""The image's USER, looked up in the image's own /etc/passwd and /etc/group, as Docker does."""

from collections.abc import Iterator
from dataclasses import dataclass

from tracestrip.errors import TargetError
from tracestrip.image.config import is_number
from tracestrip.rootfs.tree import Kind, Tree
from tracestrip.rootfs.walk import walk

_HIGHEST = (1 << 31) - 1
_MOST_GROUPS = 65536  # NGROUPS_MAX
_LARGEST = 4 << 20


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
    account = Account(uid, gid, tuple(number for number in member_of if number != gid), known[5] if known else "/")
    _check_numbers(user, account)
    return account


def _check_numbers(user: str, account: Account) -> None:
    if not all(0 <= number <= _HIGHEST for number in (account.uid, account.gid, *account.groups)):
        raise TargetError(f"user {user!r}: its numbers must be from 0 to {_HIGHEST}: set another with --user")
    if len(account.groups) >= _MOST_GROUPS:
        raise TargetError(f"user {user!r} is in {len(account.groups)} groups: the kernel takes {_MOST_GROUPS}")


def _fields(tree: Tree, path: bytes, count: int) -> list[list[str]]:
    entry = walk(tree, path).entry
    if entry is None or entry.kind is not Kind.FILE:
        return []
    if entry.size > _LARGEST:
        raise TargetError(f"{path.decode()} of the image has {entry.size} bytes: only {_LARGEST} are read")
    return list(_rows(tree.read(entry), count))


def _rows(content: bytes, count: int) -> Iterator[list[str]]:
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        row = line.split(":", 7)
        if len(row) >= count and is_number(row[2]) and (count < 7 or is_number(row[3])):
            yield row
