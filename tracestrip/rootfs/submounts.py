"""File systems that are mounted below a root directory of the host: overlayfs does not see through them."""

import re
from pathlib import Path

_KERNEL_OWN = frozenset({
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
    "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "sysfs",
    "tmpfs", "tracefs",
})  # fmt: skip
_ESCAPE = re.compile(rb"\\([0-7]{3})")


def submounts(root: Path) -> tuple[tuple[str, str], ...]:
    """(mount point inside *root*, its path on the host) of each disk file system below it, outer ones first.

    From /proc/self/mountinfo, proc_pid_mountinfo(5). What the kernel or the boot makes up (/proc, /run, …) is no part of
    a root file system.
    """
    prefix = str(root).rstrip("/")
    found = {}
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        before, _, after = line.partition(b" - ")
        point = _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), before.split()[4]).decode("utf-8", "surrogateescape")
        if after.split()[0].decode() not in _KERNEL_OWN and point != str(root) and point.startswith(prefix + "/"):
            found[point.removeprefix(prefix)] = point
    disks = [(inside, outside) for inside, outside in sorted(found.items()) if Path(outside).is_dir()]
    return tuple(pair for pair in disks if pair[0].split("/")[1] not in ("proc", "sys", "dev"))
