"""Capabilities by name, and the set that `docker run` gives: capabilities(7), moby's oci/caps.

A set is a bit mask: bit N stands for capability number N.
"""

from collections.abc import Iterable

NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE",
    "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
    "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG",
    "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""By number: linux/capability.h."""


def mask(names: Iterable[str]) -> int:
    """The set of the capabilities *names*, which are of `NAMES`."""
    return sum(1 << NAMES.index(name) for name in set(names))


DEFAULT = mask((
    "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "NET_RAW",
    "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP",
))  # fmt: skip


def has(capabilities: int, name: str) -> bool:
    """Whether the set has the capability *name*."""
    return bool(capabilities >> NAMES.index(name) & 1)


def available() -> int:
    """What this process can hand on at all: its bounding set."""
    with open("/proc/self/status", "rb") as status:
        return int(next(line for line in status if line.startswith(b"CapBnd:")).split()[1], 16)


def chosen(add: Iterable[str], drop: Iterable[str]) -> int:
    """The default set with some more and some less, as `--cap-add` and `--cap-drop` of `docker run` say it.

    A name may have the prefix CAP_ and any case. ALL stands for all that this process can hand on: all of them but those
    that are dropped; or, dropped, none but those that are added. Raises ValueError(name) for what is no capability.
    """
    added, dropped = set(map(_known, add)), set(map(_known, drop))
    if "ALL" in added:
        return available() & ~mask(dropped - {"ALL"})
    base = 0 if "ALL" in dropped else DEFAULT & ~mask(dropped)
    return base | mask(added)


def _known(name: str) -> str:
    known = name.upper().removeprefix("CAP_")
    if known != "ALL" and known not in NAMES:
        raise ValueError(name)
    return known
