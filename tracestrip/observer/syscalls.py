"""The system calls that name a file or list a directory: one table of data, and the few lines that read it.

A row has the call's name, its numbers on x86-64, i386 and aarch64 ("-" where the architecture lacks it), then a word for
each path that it takes: USE:WHERE:FOLLOW.

USE     what the call does with the path: the `kind` of a `wire.Use`.
WHERE   p1: a string in argument 1, relative to the working directory. d0p1: the same, relative to the directory that
        argument 0 is a descriptor of (or AT_FDCWD); an empty string names the descriptor's own file.
        s1: a `struct sockaddr` in argument 1 with its length in argument 2 (AF_UNIX counts). m1: the address in the
        `struct msghdr` at argument 1. v1: those of the `struct mmsghdr` array at argument 1, as many as argument 2 says.
        f0: the file that argument 0 is a descriptor of, by its own name.
FOLLOW  whether a symlink in the last component is followed. yes, no, or which argument says so: at3 (AT_SYMLINK_NOFOLLOW
        in argument 3), atfollow4 (AT_SYMLINK_FOLLOW in argument 4), open1 (O_NOFOLLOW, O_CREAT and O_EXCL in argument 1),
        how2 (a `struct open_how` in argument 2), watch2 (IN_DONT_FOLLOW in argument 2), creat (as open with O_CREAT);
        config1 (yes, where the command of fsconfig(2) in argument 1 takes a path at all).

A row without such a word names files in a way of its own (socketcall), or is there for another reason (ptrace).

Numbers are from the kernel's asm/unistd_64.h, asm/unistd_32.h and asm-generic/unistd.h.
"""

from dataclasses import dataclass
from functools import cache

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
AUDIT_ARCH_AARCH64 = 0xC00000B7

TABLE = """
    open                      2      5      -   opened:p0:open1
    creat                    85      8      -   opened:p0:creat
    openat                  257    295     56   opened:d0p1:open2
    openat2                 437    437    437   opened:d0p1:how2
    execve                   59     11    221   executed:p0:yes
    execveat                322    358    281   executed:d0p1:at4
    stat                      4    106      -   checked:p0:yes
    stat64                    -    195      -   checked:p0:yes
    lstat                     6    107      -   checked:p0:no
    lstat64                   -    196      -   checked:p0:no
    oldstat                   -     18      -   checked:p0:yes
    oldlstat                  -     84      -   checked:p0:no
    newfstatat              262      -     79   checked:d0p1:at3
    fstatat64                 -    300      -   checked:d0p1:at3
    statx                   332    383    291   checked:d0p1:at2
    access                   21     33      -   checked:p0:yes
    faccessat               269    307     48   checked:d0p1:yes
    faccessat2              439    439    439   checked:d0p1:at3
    statfs                  137     99     43   checked:p0:yes
    statfs64                  -    268      -   checked:p0:yes
    readlink                 89     85      -   readlink:p0:no
    readlinkat              267    305     78   readlink:d0p1:no
    name_to_handle_at       303    341    264   checked:d0p1:atfollow4
    chdir                    80     12     49   entered:p0:yes
    chroot                  161     61     51   entered:p0:yes
    mkdir                    83     39      -   created:p0:no
    mkdirat                 258    296     34   created:d0p1:no
    mknod                   133     14      -   created:p0:no
    mknodat                 259    297     33   created:d0p1:no
    symlink                  88     83      -   created:p1:no
    symlinkat               266    304     36   created:d1p2:no
    link                     86      9      -   linked:p0:no created:p1:no
    linkat                  265    303     37   linked:d0p1:atfollow4 created:d2p3:no
    rename                   82     38      -   renamed:p0:no created:p1:no
    renameat                264    302     38   renamed:d0p1:no created:d2p3:no
    renameat2               316    353    276   renamed:d0p1:no created:d2p3:no
    unlink                   87     10      -   removed:p0:no
    unlinkat                263    301     35   removed:d0p1:no
    rmdir                    84     40      -   removed:p0:no
    chmod                    90     15      -   changed:p0:yes
    fchmodat                268    306     53   changed:d0p1:yes
    fchmodat2               452    452    452   changed:d0p1:at3
    chown                    92    182      -   changed:p0:yes
    chown32                   -    212      -   changed:p0:yes
    lchown                   94     16      -   changed:p0:no
    lchown32                  -    198      -   changed:p0:no
    fchownat                260    298     54   changed:d0p1:at4
    truncate                 76     92     45   changed:p0:yes
    truncate64                -    193      -   changed:p0:yes
    utime                   132     30      -   changed:p0:yes
    utimes                  235    271      -   changed:p0:yes
    futimesat               261    299      -   changed:d0p1:yes
    utimensat               280    320     88   changed:d0p1:at3
    utimensat_time64          -    412      -   changed:d0p1:at3
    setxattr                188    226      5   changed:p0:yes
    lsetxattr               189    227      6   changed:p0:no
    getxattr                191    229      8   checked:p0:yes
    lgetxattr               192    230      9   checked:p0:no
    listxattr               194    232     11   checked:p0:yes
    llistxattr              195    233     12   checked:p0:no
    removexattr             197    235     14   changed:p0:yes
    lremovexattr            198    236     15   changed:p0:no
    setxattrat              463    463    463   changed:d0p1:at2
    getxattrat              464    464    464   checked:d0p1:at2
    listxattrat             465    465    465   checked:d0p1:at2
    removexattrat           466    466    466   changed:d0p1:at2
    file_getattr            468    468    468   checked:d0p1:at4
    file_setattr            469    469    469   changed:d0p1:at4
    getdents                 78    141      -   listed:f0:no
    getdents64              217    220     61   listed:f0:no
    readdir                   -     89      -   listed:f0:no
    inotify_add_watch       254    292     27   watched:p1:watch2
    fanotify_mark           301      -    263   watched:d3p4:yes
    fanotify_mark             -    339      -   watched:d4p5:yes
    bind                     49    361    200   created:s1:no
    connect                  42    362    203   connected:s1:yes
    sendto                   44    369    206   connected:s4:yes
    sendmsg                  46    370    211   connected:m1:yes
    sendmmsg                307    345    269   connected:v1:yes
    socketcall                -    102      -
    mount                   165     21     40   mounted:p0:yes mounted:p1:yes
    umount                    -     22      -   mounted:p0:yes
    umount2                 166     52     39   mounted:p0:yes
    pivot_root              155    217     41   mounted:p0:yes mounted:p1:yes
    open_tree               428    428    428   opened:d0p1:at2
    open_tree_attr          467    467    467   opened:d0p1:at2
    move_mount              429    429    429   mounted:d0p1:yes mounted:d2p3:yes
    fsconfig                431    431    431   mounted:d4p3:config1
    fspick                  433    433    433   opened:d0p1:yes
    mount_setattr           442    442    442   mounted:d0p1:at2
    quotactl                179    131     60   mounted:p1:yes
    acct                    163     51     89   opened:p0:yes
    swapon                  167     87    224   opened:p0:yes
    swapoff                 168    115    225   opened:p0:yes
    uselib                  134     86      -   opened:p0:yes
    ptrace                  101     26    117
"""

SOCKETCALL = {2: "bind", 3: "connect", 11: "sendto", 16: "sendmsg", 20: "sendmmsg"}
"""Which call the first argument of socketcall(2) stands for; the second points to that call's arguments, 4 bytes each."""

PTRACE_BEGINNINGS = (0, 16, 0x4206)
"""PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE: the requests that make a tracer of somebody."""

IO_URING = (425, 426, 427)
"""Setup, enter and register, the same numbers on every architecture; what a ring opens is seen by neither ptrace nor
seccomp."""


@dataclass(frozen=True, slots=True)
class PathArgument:
    """One path that a call takes."""

    kind: str
    form: str
    """p, s, m, v or f of WHERE."""
    directory: int | None
    """Index of the argument with the directory descriptor; None: the working directory."""
    address: int
    """Index of the argument that points to the path, or to what holds it; of the descriptor, where that stands for it."""
    follow: str
    follow_argument: int | None
    """Index of the argument that says whether a symlink is followed, or holds what says it; None: it is always the same."""


@dataclass(frozen=True, slots=True)
class Call:
    """A row of the table."""

    name: str
    paths: tuple[PathArgument, ...]

    moves_names: bool
    """Whether names that led to one file before may lead to another one after the call."""
    mounts: bool
    """Whether a mount namespace may look different after the call."""
    plain: PathArgument | None
    """The only path, where its name and one argument say all, and the call changes nothing for later ones."""


@cache
def calls_of(architecture: int) -> dict[int, Call]:
    """The table for one AUDIT_ARCH_* value, by system-call number."""
    column = (AUDIT_ARCH_X86_64, AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64).index(architecture) + 1
    rows = (line.split() for line in TABLE.split("\n") if line)
    return {int(row[column]): _call(row[0], row[4:]) for row in rows if row[column] != "-"}


def _call(name: str, words: list[str]) -> Call:
    paths = tuple(map(_argument, words))
    mounts = any(argument.kind == "mounted" for argument in paths)
    moves = mounts or name.startswith(("rename", "symlink", "link"))
    changes = moves or name == "chroot" or any(argument.kind == "executed" for argument in paths)
    is_plain = len(paths) == 1 and paths[0].form == "p" and paths[0].follow != "how" and not changes
    return Call(name, paths, moves, mounts, paths[0] if is_plain else None)


def _argument(word: str) -> PathArgument:
    kind, where, follow = word.split(":")
    digits = follow.lstrip("abcdefghijklmnopqrstuvwxyz")
    return PathArgument(
        kind=kind,
        form=where[-2],
        directory=int(where[1]) if where[0] == "d" else None,
        address=int(where[-1]),
        follow=follow[: len(follow) - len(digits)],
        follow_argument=int(digits) if digits else None,
    )
