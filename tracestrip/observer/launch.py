"""From pid 1 of the sandbox to the first instruction of the target."""

import errno
import json
import os
import resource
import signal
from contextlib import suppress
from typing import NoReturn

from tracestrip.observer import linux
from tracestrip.observer.wire import Job, raw

# capabilities(7): chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw,
# sys_chroot, mknod, audit_write, setfcap. Docker's default set.
DEFAULT_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)
_LAST_POSSIBLE_CAPABILITY = 63


def become_target(arguments: list[str], job: Job, output: int, failure: int) -> NoReturn:
    """Turn this process, a fresh child of pid 1, into the target. Never returns.

    What fails is written to *failure*, a pipe that closes on exec, as JSON: {"errno": number, "step": text}.
    Its calls that name a file are part of the observation already; until exec only chdir and execve are made.
    """
    step = "prepare"
    try:
        _detach_from_caller(output, job.uid)
        step = "take the image's user"
        _drop_privileges(job)
        step = f"enter the working directory {job.workdir}"
        _enter(raw(job.workdir))
        step = f"execute {arguments[0]}"
        _execute(arguments, job.environment)
    except OSError as error:
        os.write(failure, json.dumps({"errno": error.errno, "step": step}).encode())
    except BaseException as error:
        os.write(failure, json.dumps({"errno": errno.EINVAL, "step": f"{step} ({error!r})"}).encode())
    finally:
        os._exit(127)


def _detach_from_caller(output: int, uid: int) -> None:
    os.setsid()
    null = os.open("/dev/null", os.O_RDONLY)
    os.fchown(output, uid, -1)  # so that it can be opened again as /dev/stdout
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    for number in signal.valid_signals():
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def _drop_privileges(job: Job) -> None:
    permitted = sum(1 << number for number in DEFAULT_CAPABILITIES)
    for number in range(_LAST_POSSIBLE_CAPABILITY + 1):
        if not permitted >> number & 1:
            try:
                linux.drop_bounding(number)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                break
    os.setgroups(job.groups)
    os.setresgid(job.gid, job.gid, job.gid)
    os.setresuid(job.uid, job.uid, job.uid)
    if job.uid == 0:
        linux.set_capabilities(permitted)


def _enter(workdir: bytes) -> None:
    os.chdir(workdir)
    if not os.getcwdb().startswith(b"/"):
        raise OSError(errno.EXDEV, "the working directory lies outside the image's root")


def _execute(arguments: list[str], environment: tuple[str, ...]) -> NoReturn:
    """execve(2), with the search of execvp(3) along the *image's* PATH."""
    program = raw(arguments[0])
    variables = dict(raw(pair).partition(b"=")[::2] for pair in environment)
    vector = [raw(argument) for argument in arguments]
    if b"/" in program:
        os.execve(program, vector, variables)
    failure = errno.ENOENT
    for directory in variables.get(b"PATH", b"").split(b":"):
        try:
            os.execve(os.path.join(directory or b".", program), vector, variables)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error.errno or failure
    raise OSError(failure, os.strerror(failure))
