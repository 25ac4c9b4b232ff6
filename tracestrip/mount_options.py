"""`--mount` and `--tmpfs`, as `docker run` takes them."""

import os
import re

from tracestrip.errors import UsageError
from tracestrip.observer import linux
from tracestrip.observer.job import Bind, Tmpfs

_SOURCE, _TARGET, _READ_ONLY = ("src", "source"), ("dst", "destination", "target"), ("ro", "readonly")

_TMPFS_FLAGS = {
    "ro": (linux.MS_RDONLY, True), "rw": (linux.MS_RDONLY, False),
    "nosuid": (linux.MS_NOSUID, True), "suid": (linux.MS_NOSUID, False),
    "nodev": (linux.MS_NODEV, True), "dev": (linux.MS_NODEV, False),
    "noexec": (linux.MS_NOEXEC, True), "exec": (linux.MS_NOEXEC, False),
    "noatime": (linux.MS_NOATIME, True), "atime": (linux.MS_NOATIME, False),
    "relatime": (linux.MS_RELATIME, True), "strictatime": (linux.MS_STRICTATIME, True), "sync": (linux.MS_SYNCHRONOUS, True),
}  # fmt: skip
"""Name: the flag of mount(2), and whether it is set or cleared."""

_TMPFS_OPTION = re.compile(r"(?:size=\d+[kmg%]?|nr_(?:blocks|inodes)=\d+[kmg]?|mode=[0-7]{1,4}|[ug]id=\d{1,9})", re.IGNORECASE)


def parse_mount(text: str) -> Bind:
    """`type=bind,src=PATH,dst=PATH[,ro]`, in any order; the source may be relative. Raises UsageError."""
    fields = dict(pair.partition("=")[::2] for pair in text.split(","))
    source = next((fields.pop(name) for name in _SOURCE if name in fields), "")
    target = next((fields.pop(name) for name in _TARGET if name in fields), "")
    read_only = [_is_true(text, fields.pop(name)) for name in _READ_ONLY if name in fields]
    kind = fields.pop("type", "")
    if kind != "bind" or not source or fields:
        wrong = next(iter(fields), "")
        raise UsageError(f"--mount {text}: {wrong or 'that'} is not understood: write type=bind,src=PATH,dst=PATH[,ro]")
    return Bind(os.path.abspath(source), _mount_point(f"--mount {text}", target), any(read_only))


def check_bind(bind: Bind) -> None:
    """One that may not come from `parse_mount`. Raises UsageError, also where its source is not there."""
    option = f"--mount {bind.source}"
    _check_mount_point(option, bind.target)
    if not os.path.exists(bind.source):
        raise UsageError(f"{option}: there is no such file or directory: make it, or name another")
    if not bind.source.startswith("/"):
        raise UsageError(f"{option}: this is relative to nothing: write an absolute path of this machine")


def check_tmpfs(tmpfs: Tmpfs) -> None:
    """One that may not come from `parse_tmpfs`. Raises UsageError."""
    option = f"--tmpfs {tmpfs.target}"
    _check_mount_point(option, tmpfs.target)
    unknown = tmpfs.flags & ~sum({flag for flag, _ in _TMPFS_FLAGS.values()})
    if unknown or not all(map(_TMPFS_OPTION.fullmatch, filter(None, tmpfs.options.split(",")))):
        raise UsageError(f"{option}: {tmpfs.options or unknown} is no option of a tmpfs")


def _check_mount_point(option: str, target: str) -> None:
    if _mount_point(option, target) != target:
        raise UsageError(f"{option}: {target!r} is no place to mount on: write an absolute path of the image")


def _is_true(option: str, value: str) -> bool:
    """As Go's ParseBool, which Docker asks; the bare word counts as true."""
    if value in ("", "1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise UsageError(f"--mount {option}: {value} is neither true nor false: write ro, or ro=false")


def parse_tmpfs(text: str) -> Tmpfs:
    """`PATH[:OPTION,…]`; without others it is rw,noexec,nosuid,nodev. Raises UsageError."""
    target, _, options = text.partition(":")
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    rest = []
    for option in filter(None, options.split(",")):
        if option in _TMPFS_FLAGS:
            flag, is_set = _TMPFS_FLAGS[option]
            flags = flags | flag if is_set else flags & ~flag
        elif _TMPFS_OPTION.fullmatch(option):
            rest.append(option)
        else:
            raise UsageError(f"--tmpfs {text}: {option} is no option of a tmpfs: write PATH:size=64m,mode=1777,exec or so")
    return Tmpfs(_mount_point(f"--tmpfs {text}", target), flags, ",".join(rest))


def _mount_point(option: str, target: str) -> str:
    """Not the root, nor what the sandbox needs as it is."""
    normal = os.path.normpath("/" + target.lstrip("/"))
    if not target.startswith("/") or normal in ("/", "/dev") or normal.split("/")[1] in ("proc", "sys"):
        raise UsageError(f"{option}: {target or 'nothing'} is no place to mount on: write an absolute path of the image")
    return normal
