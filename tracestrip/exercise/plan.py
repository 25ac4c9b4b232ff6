"""What the target is put through: readiness, probes, commands inside."""

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from tracestrip.errors import UsageError

_LEAST_PATIENCE = 3.0
_SLOWER = 5  # a machine may do something else meanwhile
_LONGEST = 1e6
"""Seconds; what waits in the kernel cannot do so for ever."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The exercise, as the user wrote it."""

    probes: tuple[str, ...] = ()
    """Shell commands of the host, or @FILE: a script."""
    commands: tuple[str, ...] = ()
    """Commands that are run inside, observed; split as a shell would, but run without one."""
    checks: tuple[str, ...] = ()
    """Probes that are held out: they come last, and only where a result is verified."""
    ready: str | None = None
    """A command of the host, as a probe, that succeeds when the target is ready."""
    wait: float | None = None
    """Seconds after which the target counts as ready."""
    timeout: float = 30.0
    """Seconds until readiness, each probe and each command inside must have succeeded."""
    grace: float = 10.0
    """Seconds between the stop signal and SIGKILL."""
    directory: str | None = None
    """Where probes are run, on the host, but for those that are held out; None: where tracestrip is."""

    def check(self) -> None:
        """Raises UsageError for what can never work."""
        for option, probes in (("--probe", self.probes), ("--verify-probe", self.checks), ("--ready", (self.ready,))):
            for probe in probes:
                if probe is not None:
                    probe_arguments(probe, option)
        if self.directory is not None and not os.path.isdir(self.directory):
            raise UsageError(f"{self.directory}: probes are run in this directory, and it is not there: make it again")
        times = (("--wait", self.wait, True), ("--probe-timeout", self.timeout, False), ("--stop-timeout", self.grace, True))
        for option, seconds, may_be_zero in times:
            if seconds is not None and not (0 <= seconds <= _LONGEST and (seconds or may_be_zero)):
                raise UsageError(f"{option} {seconds}: write seconds, at most {_LONGEST:.0f}")
        for command in self.commands:
            split_command(command, "--exec")

    def placed(self) -> "Plan":
        """The same, to be repeated from any working directory."""
        return replace(
            self,
            probes=tuple(map(_placed, self.probes)),
            checks=tuple(map(_placed, self.checks)),
            ready=None if self.ready is None else _placed(self.ready),
            directory=self.directory or os.getcwd(),
        )

    def impatient(self, seconds: float) -> "Plan":
        """The same for a second time, when nothing needed more than *seconds* the first time: a failure shows sooner."""
        return replace(self, timeout=min(self.timeout, _LEAST_PATIENCE + _SLOWER * seconds))


def probe_arguments(probe: str, option: str = "--probe") -> list[str]:
    """The host's command line for a probe. A script that is not executable is given to sh. Raises UsageError."""
    check_argument(probe, option)
    if not probe.startswith("@"):
        return ["/bin/sh", "-c", probe]
    script = Path(probe[1:])
    if not script.is_file():
        raise UsageError(f"{option} {probe}: no such script: name a file, or give the command itself without @")
    path = str(script.resolve())
    return [path] if os.access(path, os.X_OK) else ["/bin/sh", path]


def _placed(probe: str) -> str:
    return "@" + os.path.abspath(probe[1:]) if probe.startswith("@") else probe


def split_command(command: str, option: str) -> list[str]:
    """The words of a command, split as sh does. Raises UsageError."""
    check_argument(command, option)
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{option} {command!r}: {error}: balance its quotes") from error
    if not words:
        raise UsageError(f"{option}: the command is empty: name a program")
    return words


def check_argument(text: str, option: str) -> None:
    """Raises UsageError for what no process can be given: a NUL byte (execve(2)), a surrogate that stands for no byte."""
    try:
        if b"\0" not in os.fsencode(text):
            return
    except UnicodeEncodeError:
        pass
    raise UsageError(f"{option} {text!a}: no process can be given that: leave out what is no character")
