"""Runs the target and puts it through the plan. Knows the sandbox's handle only: not what is observed, nor why."""

import time
from dataclasses import dataclass

from tracestrip.errors import ExerciseError, TargetError
from tracestrip.exercise.plan import Plan, probe_arguments, split_command
from tracestrip.observer.client import Completed, Sandbox

_READY_PAUSE = 0.01
_PROBE_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """A probe that succeeded."""

    command: str
    attempts: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Exercised:
    """An exercise that succeeded."""

    is_job: bool
    """The target ended by itself; else it is a service."""
    probes: tuple[ProbeResult, ...]


def exercise(sandbox: Sandbox, command: list[str], ports: frozenset[tuple[int, str]], plan: Plan) -> Exercised:
    """Start *command* and put it through *plan*. *ports*: those whose listening makes it ready; any port when empty.

    Raises TargetError when the target fails, ExerciseError when readiness, a probe or a command inside does.
    """
    target = sandbox.launch(command)
    _wait_until_ready(sandbox, target, ports, plan)
    if plan.probes and not sandbox.alive:
        raise TargetError(
            f"the target ended before the probes (exit code {_status(sandbox, target)}): keep it in the foreground with -e",
            sandbox.output(),
        )
    probes = tuple(_probe(sandbox, target, probe, plan.timeout) for probe in plan.probes)
    for inside in plan.commands:
        _run_inside(sandbox, inside, plan.timeout)
    sandbox.poll(0)
    _check_target(sandbox, target)
    return Exercised(is_job=not sandbox.alive, probes=probes)


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
            if sandbox.run_beside(probe_arguments(plan.ready), left).status == 0:
                return
        elif _listens(sandbox, ports):
            return
        if waited >= plan.timeout:
            awaited = _awaited(ports) if plan.ready is None else f"--ready {plan.ready!r} succeeded"
            raise ExerciseError(
                f"the target was not ready after {plan.timeout:g} s: not {awaited}: try --ready, --wait or --probe-timeout",
                sandbox.output(),
            )


def _listens(sandbox: Sandbox, ports: frozenset[tuple[int, str]]) -> bool:
    listening = sandbox.listening_ports()
    return bool(listening & ports if ports else listening)


def _awaited(ports: frozenset[tuple[int, str]]) -> str:
    if not ports:
        return "listening on any port"
    names = ", ".join(f"{port}/{protocol}" for port, protocol in sorted(ports)[:5])
    return f"listening on {names}"


def _probe(sandbox: Sandbox, target: int, probe: str, timeout: float) -> ProbeResult:
    arguments = probe_arguments(probe)
    start = time.monotonic()
    attempts = 0
    while True:
        attempts += 1
        left = timeout - (time.monotonic() - start)
        result = sandbox.run_beside(arguments, max(left, 0.1))
        seconds = time.monotonic() - start
        if result.status == 0:
            return ProbeResult(probe, attempts, seconds)
        sandbox.poll(_PROBE_PAUSE)
        _check_target(sandbox, target)
        if not sandbox.alive or seconds + _PROBE_PAUSE >= timeout:
            ended = "" if sandbox.alive else ", and the target has ended"
            raise ExerciseError(
                f"probe {probe!r} failed on the original image ({_words(result)}, {attempts} attempts in "
                f"{seconds:.1f} s{ended}): correct the probe, or give it more time with --probe-timeout",
                result.output + _titled(b"the target wrote last:\n", sandbox.output()),
            )


def _run_inside(sandbox: Sandbox, command: str, timeout: float) -> None:
    number = sandbox.launch(split_command(command, "--exec"))
    deadline = time.monotonic() + timeout
    while (result := sandbox.ended(number)) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise ExerciseError(f"--exec {command!r} did not end within {timeout:g} s: allow more with --probe-timeout")
        sandbox.poll(left)
    if result.status:
        raise ExerciseError(f"--exec {command!r} failed in the image ({_words(result)}): correct the command", result.output)


def _check_target(sandbox: Sandbox, target: int) -> None:
    result = sandbox.ended(target)
    if result is not None and result.status:
        raise TargetError(
            f"the target failed ({_words(result)}): see what it wrote; change its command with -e, its surroundings with --env",
            sandbox.output(),
        )


def _status(sandbox: Sandbox, target: int) -> int:
    result = sandbox.ended(target)
    return result.status if result else 0


def _words(result: Completed) -> str:
    return f"exit code {result.status}" if result.status >= 0 else f"ended by signal {-result.status}"


def _titled(title: bytes, output: bytes) -> bytes:
    return title + output if output else b""
