"""From pid 1 of the sandbox to the first instruction of the target."""

import errno
import json
import os
import resource
import signal
from dataclasses import dataclass
from typing import NoReturn, Self

from tracestrip.observer import capabilities, linux
from tracestrip.observer.cgroups import Cgroups
from tracestrip.observer.job import Job
from tracestrip.observer.profile import profile_filter
from tracestrip.observer.wire import raw

LAUNCHING = capabilities.mask(("CHOWN", "DAC_OVERRIDE", "KILL", "SETGID", "SETUID"))
"""What pid 1 needs to launch commands and to end them."""

_MOST_OPEN_FILES = 1 << 20
_USUAL_STACK = 8 << 20


@dataclass(frozen=True, slots=True)
class Confinement:
    """What holds for every command of a sandbox."""

    job: Job
    cgroups: Cgroups
    profile: bytes | None
    """The seccomp program of Docker's rules; None where they are not wanted."""

    @classmethod
    def of(cls, job: Job, cgroups: Cgroups) -> Self:
        return cls(job, cgroups, profile_filter(job.capabilities) if job.confined else None)


def become_target(arguments: list[str], confinement: Confinement, output: int, failure: int) -> NoReturn:
    """Turn this process, a fresh child of pid 1, into the target. Never returns.

    What fails is written to *failure*, a pipe that closes on exec, as JSON: {"errno": number, "step": text}.
    Its calls that name a file are part of the observation already; until exec only chdir and execve are made.
    """
    job = confinement.job
    step = "prepare"
    try:
        _detach_from_caller(output, job.uid)
        _set_limits()
        confinement.cgroups.enter()
        step = f"enter the working directory {job.workdir}"
        entered = _entered(raw(job.workdir))
        step = "take the image's user"
        failure = _keep_only(failure)
        _drop_privileges(job)
        linux.hide_from_others()  # until exec this is the host's program still, with the target's rights: CVE-2019-5736
        step = f"enter the working directory {job.workdir}"
        if not entered:
            os.chdir(raw(job.workdir))
        _check_directory()
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
    null = os.open("/dev/null", os.O_RDWR)
    os.fchown(output, uid, -1)  # so that it can be opened again as /dev/stdout
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    linux.reset_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)


def _set_limits() -> None:
    """Those of an engine's service, whatever the caller's shell set: getrlimit(2). Hard limits are not raised.

    But for core files: /proc/sys/kernel/core_pattern may hand them to a program of the host.
    """
    for limit in (getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")):
        _, hard = resource.getrlimit(limit)
        soft = hard
        if limit == resource.RLIMIT_CORE:
            soft = 0
        elif limit == resource.RLIMIT_STACK:
            soft = _USUAL_STACK if hard == resource.RLIM_INFINITY else min(_USUAL_STACK, hard)
        elif limit == resource.RLIMIT_NOFILE:
            soft = hard = min(hard, _MOST_OPEN_FILES)
        resource.setrlimit(limit, (soft, hard))


def _keep_only(failure: int) -> int:
    """Close all descriptors but the three standard ones and *failure*; its new number."""
    os.dup2(failure, 3, inheritable=False)
    os.closerange(4, 1 << 20)
    return 3


def _drop_privileges(job: Job) -> None:
    """The bounding set is pid 1's already."""
    os.setgroups([job.gid, *job.groups])
    os.setresgid(job.gid, job.gid, job.gid)
    os.setresuid(job.uid, job.uid, job.uid)
    if job.uid == 0:
        linux.set_capabilities(job.capabilities)


def _entered(workdir: bytes) -> bool:
    """Whether root may enter it; if not, the user may. In this order, as runc tries."""
    try:
        os.chdir(workdir)
    except PermissionError:
        return False
    return True


def _check_directory() -> None:
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
