"""Typed wrappers of the system calls that Python 3.11 does not offer.

Each raises `OSError` with the call's errno; each stands for the call that it is named after and adds nothing to it.
Out of scope: ptrace(2), which `tracer.py` takes from python-ptrace.
"""

import ctypes
import errno
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_SYNCHRONOUS = 0x10
MS_NOATIME = 0x400
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000
MS_STRICTATIME = 0x1000000
MOUNT_ATTR_RDONLY = 0x1
MNT_DETACH = 0x2

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}[os.uname().machine]
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
_SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
_SYS_RT_SIGACTION = {"x86_64": 13, "aarch64": 134}[os.uname().machine]
_SYS_OPENAT2 = 437
_SYS_PIDFD_GETFD = 438
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SECCOMP_SET_MODE_FILTER = 1
_SPEC_ALLOW = 1 << 2
_NEW_LISTENER = 1 << 3
_WAIT_KILLABLE_RECV = 1 << 5
_DEFAULT_ACTION = bytes(32)  # struct sigaction of the kernel, with SIG_DFL
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_EMPTY_PATHS = 0x04 | 0x40
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SFD_CLOEXEC = 0o2000000
_SFD_NONBLOCK = 0o4000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.syscall.restype = ctypes.c_long


class _SockFilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _checked(call: str, result: int, *names: bytes | str) -> int:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}(2): {os.strerror(number)}", *names[:1])
    return result


def unshare(flags: int) -> None:
    """unshare(2): CLONE_NEWPID takes effect for the children that follow, the rest at once."""
    _checked("unshare", _libc.unshare(flags))


def setns(descriptor: int, kind: int) -> None:
    """setns(2): join the namespace behind *descriptor*, which must be of *kind* (a CLONE_NEW* flag)."""
    _checked("setns", _libc.setns(descriptor, kind))


def mount(source: bytes, target: bytes, kind: bytes, flags: int = 0, data: bytes = b"") -> None:
    """mount(2). *data* is limited to one page (4,095 bytes) by the kernel."""
    _checked("mount", _libc.mount(source, target, kind, flags, data or None), target)


def unmount(target: bytes, flags: int = 0) -> None:
    """umount2(2)."""
    _checked("umount2", _libc.umount2(target, flags), target)


def clone_mount(place: bytes | int, *, below: bool = False) -> int:
    """open_tree(2) (Linux 5.2): a mount of the file or directory at a path or descriptor, which is not attached yet.

    *below*: with what is mounted below it.
    """
    directory, path = (place, b"") if isinstance(place, int) else (_AT_FDCWD, place)
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if below else 0)
    return _checked("open_tree", _libc.syscall(_SYS_OPEN_TREE, directory, path, flags), *([path] if path else []))


def attach_mount(mount_descriptor: int, place: int) -> None:
    """move_mount(2) (Linux 5.2): attach what `clone_mount` gave on the file or directory behind the descriptor *place*."""
    _checked("move_mount", _libc.syscall(_SYS_MOVE_MOUNT, mount_descriptor, b"", place, b"", _MOVE_MOUNT_EMPTY_PATHS))


def set_mount_attributes(place: int, attributes: int) -> None:
    """mount_setattr(2) (Linux 5.12): set MOUNT_ATTR_* *attributes* on the mount behind *place* and on those below it."""
    argument = struct.pack("=QQQQ", attributes, 0, 0, 0)
    flags, size = _AT_RECURSIVE | _AT_EMPTY_PATH, ctypes.c_size_t(len(argument))
    _checked("mount_setattr", _libc.syscall(_SYS_MOUNT_SETATTR, place, b"", flags, argument, size))


def pivot_root(new_root: bytes, put_old: bytes) -> None:
    """pivot_root(2); with "." for both, the old root is stacked on the new and can be unmounted from ".."."""
    _checked("pivot_root", _libc.syscall(_SYS_PIVOT_ROOT, new_root, put_old), new_root)


def die_with_parent() -> None:
    """PR_SET_PDEATHSIG(2const): SIGKILL when the parent *thread* ends. The caller checks that it has not ended yet."""
    _checked("prctl", _libc.prctl(PR_SET_PDEATHSIG, 9, 0, 0, 0))


def hide_from_others() -> None:
    """PR_SET_DUMPABLE(2const): until it executes a program, only CAP_SYS_PTRACE looks into this process: ptrace(2)."""
    _checked("prctl", _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))


def drop_bounding(capability: int) -> None:
    """PR_CAPBSET_DROP: EINVAL says that the kernel knows no capability of this number."""
    _checked("prctl", _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))


def set_capabilities(permitted: int) -> None:
    """capset(2): *permitted*, a bit mask, becomes the permitted and the effective set; nothing is inheritable."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    low, high = permitted & 0xFFFFFFFF, permitted >> 32
    _checked("capset", _libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)))


def install_seccomp_filter(program: bytes) -> None:
    """seccomp(2) with *program*, an array of `struct sock_filter`, for this process and all that descend from it.

    Needs CAP_SYS_ADMIN: no_new_privs stays off.
    """
    _checked("seccomp", _seccomp(_SPEC_ALLOW, program))


def install_seccomp_listener(program: bytes) -> int:
    """As `install_seccomp_filter`; the descriptor of the filter's notifications (Linux 5.5).

    Once a notification is taken, only a fatal signal interrupts the call that waits for its answer; before Linux 5.19 any
    signal does, and the call is made and told of again.
    """
    result = _seccomp(_SPEC_ALLOW | _NEW_LISTENER | _WAIT_KILLABLE_RECV, program)
    if result == -1 and ctypes.get_errno() == errno.EINVAL:
        result = _seccomp(_SPEC_ALLOW | _NEW_LISTENER, program)
    return _checked("seccomp", result)


def _seccomp(flags: int, program: bytes) -> int:
    argument = ctypes.byref(_SockFilterProgram(len(program) // 8, program))
    return int(_libc.syscall(_SYS_SECCOMP, _SECCOMP_SET_MODE_FILTER, flags, argument))


def bpf(command: int, attributes: bytes) -> int:
    """bpf(2): a new descriptor, or 0, by *command*."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return _checked("bpf", _libc.syscall(_SYS_BPF, command, buffer, len(attributes)))


def leave_session_keyring() -> None:
    """keyctl(2): a new, empty session keyring for this process and all that descend from it."""
    _checked("keyctl", _libc.syscall(_SYS_KEYCTL, _KEYCTL_JOIN_SESSION_KEYRING, None))


def take_descriptor(pid: int, number: int) -> int:
    """pidfd_getfd(2) (Linux 5.6): our own copy of descriptor *number* of process *pid*."""
    process = os.pidfd_open(pid)
    try:
        return _checked("pidfd_getfd", _libc.syscall(_SYS_PIDFD_GETFD, process, number, 0))
    finally:
        os.close(process)


def reset_signals() -> None:
    """rt_sigaction(2): the default action for all signals, those that C libraries keep to themselves included."""
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            _checked("rt_sigaction", _libc.syscall(_SYS_RT_SIGACTION, number, _DEFAULT_ACTION, None, ctypes.c_size_t(8)))


def signal_descriptor(signal_number: int) -> int:
    """signalfd(2), non-blocking, for one signal that the caller has blocked."""
    mask = struct.pack("=Q", 1 << (signal_number - 1)) + bytes(120)
    return _checked("signalfd", _libc.signalfd(-1, mask, _SFD_CLOEXEC | _SFD_NONBLOCK))


def open_in_root(root: int, path: bytes, flags: int, resolve: int = 0) -> int:
    """openat2(2) with RESOLVE_IN_ROOT (Linux 5.6): *path* as a process whose root is *root* would open it.

    Magic links (/proc/PID/exe and the like) are refused with ELOOP. *resolve*: further RESOLVE_* flags.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)
    return _checked("openat2", _libc.syscall(_SYS_OPENAT2, root, path, how, len(how)), path)
