"""Runs the target and puts it through the plan. Knows the sandbox's handle only: not what is observed, nor why."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from tracestrip.errors import ExerciseError, ObserverLost, TargetError, TracestripError
from tracestrip.exercise.plan import Plan, probe_arguments, split_command
from tracestrip.observer.client import Completed, Sandbox
from tracestrip.observer.written import Written

_READY_PAUSE = 0.01
_PROBE_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Answer:
    """A probe, or a command inside, that succeeded."""

    command: str
    attempts: int
    seconds: float
    output: Written | None = None
    """A probe's stdout; all that a command inside wrote. None where it was not kept."""


@dataclass(frozen=True, slots=True)
class Exercised:
    """An exercise that was carried out to its end."""

    lasted: float
    """Seconds, all in all."""
    exited_after: float | None = None
    """Seconds until the target's first process ended by itself; None where it did not."""
    ended_after: float | None = None
    """Seconds until nothing of it was left; None for a service."""
    probes: tuple[Answer, ...] = ()
    """The held-out ones behind the others."""
    commands: tuple[Answer, ...] = ()
    ready_after: float = 0.0
    """Seconds; a job's until its end was seen."""
    output: Written | None = None
    """What a job wrote; None where it was not kept, and for a service."""

    @property
    def is_job(self) -> bool:
        """Whether the target ended by itself; else it is a service."""
        return self.ended_after is not None

    @property
    def slowest(self) -> float:
        """Seconds that the slowest part took."""
        return max(self.ready_after, *(answer.seconds for answer in (*self.probes, *self.commands)), 0.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that did not go as it should."""

    what: str
    remedy: str = ""
    output: bytes = b""
    kind: type[TracestripError] = ExerciseError

    @classmethod
    def of(cls, error: TracestripError) -> "Fault":
        """What an error says, in its parts."""
        return cls(*error.parts, error.output, type(error))

    def error(self) -> TracestripError:
        """As it is told when it happens to the original image."""
        where = "on the original image, " if self.kind is ExerciseError else ""
        return self.kind(f"{where}{self.what}: {self.remedy}", self.output)


class Unmet(Exception):  # noqa: N818 - never seen by a user
    """The exercise cannot go on."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


def break_off(fault: Fault) -> None:
    """The first fault ends the exercise."""
    raise Unmet(fault)


def exercise(
    sandbox: Sandbox, command: list[str], ports: frozenset[tuple[int, str]], plan: Plan, tell: Callable[[Fault], None]
) -> Exercised:
    """Start *command* and put it through *plan*. *ports*: those whose listening makes it ready; any port when empty.

    *tell* hears of a probe or a command inside that failed. Raises Unmet when the target fails, or is never ready.
    """
    sandbox.enter("the start")
    begun = time.monotonic()
    target = _launch(sandbox, command)
    _wait_until_ready(sandbox, target, ports, plan)
    ready_after = time.monotonic() - begun
    if (plan.probes or plan.checks) and not sandbox.alive:
        raise Unmet(Fault(
            f"the target ended before the probes (exit code {_status(sandbox, target)})",
            "keep it in the foreground with -e", sandbox.output(), TargetError,
        ))  # fmt: skip
    probes = [_probe(sandbox, target, "--probe", probe, plan, tell) for probe in plan.probes]
    commands = [_run_inside(sandbox, inside, plan.timeout, tell) for inside in plan.commands]
    here = replace(plan, directory=None)  # they are of this very command line
    probes += [_probe(sandbox, target, "--verify-probe", probe, here, tell) for probe in plan.checks]
    sandbox.settle()
    _check_target(sandbox, target)
    first, last = sandbox.ended(target), sandbox.emptied
    return Exercised(
        lasted=time.monotonic() - begun,
        exited_after=first.moment - begun if first else None,
        ended_after=None if last is None else last - begun,
        probes=tuple(filter(None, probes)),
        commands=tuple(filter(None, commands)),
        ready_after=ready_after,
        output=first.written if first and last is not None else None,
    )


def _launch(sandbox: Sandbox, command: list[str]) -> int:
    try:
        return sandbox.launch(command)
    except ObserverLost:
        raise
    except TargetError as error:
        raise Unmet(Fault.of(error)) from error


def _wait_until_ready(sandbox: Sandbox, target: int, ports: frozenset[tuple[int, str]], plan: Plan) -> None:
    """Ready, or ended by itself with exit code 0."""
    start = time.monotonic()
    while True:
        sandbox.poll(_READY_PAUSE)
        _check_target(sandbox, target)
        waited = time.monotonic() - start
        if not sandbox.alive:
            return
        if plan.wait is not None:
            if waited >= plan.wait:
                return
            continue
        if plan.ready is not None:
            left = max(0.1, plan.timeout - waited)
            if sandbox.run_beside(probe_arguments(plan.ready), left, plan.directory).status == 0:
                return
        elif _listens(sandbox, ports):
            return
        if waited >= plan.timeout:
            awaited = _awaited(ports) if plan.ready is None else f"--ready {plan.ready!r} succeeded"
            what = f"the target was not ready after {plan.timeout:g} s: not {awaited}"
            raise Unmet(Fault(what, "try --ready, --wait or --probe-timeout", sandbox.output()))


def _listens(sandbox: Sandbox, ports: frozenset[tuple[int, str]]) -> bool:
    listening = sandbox.listening_ports()
    return bool(listening & ports if ports else listening)


def _awaited(ports: frozenset[tuple[int, str]]) -> str:
    if not ports:
        return "listening on any port"
    names = ", ".join(f"{port}/{protocol}" for port, protocol in sorted(ports)[:5])
    return f"listening on {names}"


def _probe(
    sandbox: Sandbox, target: int, option: str, probe: str, plan: Plan, tell: Callable[[Fault], None]
) -> Answer | None:
    if not sandbox.alive:
        tell(Fault(f"{option[2:]} {probe!r} could not be tried: the target has ended", "see what it wrote"))
        return None
    sandbox.enter(f"{option} {probe}")
    arguments = probe_arguments(probe)
    start = time.monotonic()
    attempts = 0
    while True:
        attempts += 1
        left = plan.timeout - (time.monotonic() - start)
        result = sandbox.run_beside(arguments, max(left, 0.1), plan.directory)
        seconds = time.monotonic() - start
        if result.status == 0:
            return Answer(probe, attempts, seconds, result.written)
        sandbox.poll(_PROBE_PAUSE)
        _check_target(sandbox, target)
        if not sandbox.alive or seconds + _PROBE_PAUSE >= plan.timeout:
            ended = "" if sandbox.alive else ", and the target has ended"
            tell(Fault(
                f"{option[2:]} {probe!r} failed ({_words(result)}, {attempts} attempts in {seconds:.1f} s{ended})",
                "correct the probe, or give it more time with --probe-timeout",
                result.output + _titled(b"the target wrote last:\n", sandbox.output()),
            ))  # fmt: skip
            return None


def _run_inside(sandbox: Sandbox, command: str, timeout: float, tell: Callable[[Fault], None]) -> Answer | None:
    sandbox.enter(f"--exec {command}")
    start = time.monotonic()
    try:
        number = _launch(sandbox, split_command(command, "--exec"))
    except Unmet as unmet:
        tell(Fault(f"--exec {command!r}: {unmet.fault.what}", unmet.fault.remedy, unmet.fault.output, TargetError))
        return None
    while (result := sandbox.ended(number)) is None:
        left = start + timeout - time.monotonic()
        if left <= 0:
            tell(Fault(f"--exec {command!r} did not end within {timeout:g} s", "allow more with --probe-timeout"))
            return None
        sandbox.poll(left)
    if result.status:
        tell(Fault(f"--exec {command!r} failed in the image ({_words(result)})", "correct the command", result.output))
        return None
    return Answer(command, 1, time.monotonic() - start, result.written)


def _check_target(sandbox: Sandbox, target: int) -> None:
    result = sandbox.ended(target)
    if result is not None and result.status:
        remedy = "see what it wrote; change its command with -e, its surroundings with --env"
        raise Unmet(Fault(f"the target failed ({_words(result)})", remedy, sandbox.output(), TargetError))


def _status(sandbox: Sandbox, target: int) -> int:
    result = sandbox.ended(target)
    return result.status if result else 0


def _words(result: Completed) -> str:
    return f"exit code {result.status}" if result.status >= 0 else f"ended by signal {-result.status}"


def _titled(title: bytes, output: bytes) -> bytes:
    return title + output if output else b""
