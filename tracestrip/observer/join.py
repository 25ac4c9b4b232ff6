"""Runs a command of the host in the network of the sandbox: `join.py PARENT NETWORK ARGUMENT...`

The command sees the host's files, users and tools, and the sandbox's network. It gets a pid namespace of its own, so that
whatever it starts ends with it: this process, which *is* the outside of that namespace, dies with its parent, and pid 1
inside dies with this process.
"""

import os
import signal
import sys
from typing import NoReturn

from tracestrip.observer import linux


def main(parent: int, network: str, arguments: list[str]) -> int:
    """Exit status of the command, as a shell gives it. *network*: the namespace's file, as /proc/PID/ns/net."""
    linux.die_with_parent()
    if os.getppid() != parent:
        return 1
    linux.setns(os.open(network, os.O_RDONLY | os.O_CLOEXEC), linux.CLONE_NEWNET)
    linux.unshare(linux.CLONE_NEWPID | linux.CLONE_NEWNS)
    wait, alive = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(alive)
        _be_init(wait, arguments)
    os.close(wait)
    os.write(alive, b"\n")
    return _shell_status(os.waitpid(pid, 0)[1])


def _be_init(wait: int, arguments: list[str]) -> NoReturn:
    """Pid 1 of the command's namespace: /proc for it, then the command as a child, so that signals act as usual."""
    status = 126
    try:
        linux.die_with_parent()
        if os.read(wait, 1):
            linux.mount(b"none", b"/", b"", linux.MS_REC | linux.MS_SLAVE)
            linux.mount(b"proc", b"/proc", b"proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
            status = _run(arguments)
    finally:
        os._exit(status)


def _run(arguments: list[str]) -> int:
    command = os.fork()
    if command == 0:
        for number in (signal.SIGPIPE, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execvp(arguments[0], arguments)
        except OSError as error:
            os.write(2, f"{arguments[0]}: {error.strerror}\n".encode())
            os._exit(127)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == command:
            return _shell_status(status)


def _shell_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
