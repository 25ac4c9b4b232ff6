"""One run of an image, put through a plan: what was used, and what went wrong."""

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tracestrip.errors import ImageError, ObserverLost, TargetError
from tracestrip.exercise.exercise import Exercised, Fault, Unmet, break_off, exercise
from tracestrip.exercise.plan import Plan
from tracestrip.image.config import Config, is_number
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job
from tracestrip.observer.wire import Observation, text
from tracestrip.scratch import working_directory
from tracestrip.source import Source
from tracestrip.surroundings import Surroundings


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is run, in which surroundings, and what it is put through."""

    command: str | None = None
    """As the user wrote it; None for the image's own."""
    plan: Plan = field(default_factory=Plan)
    surroundings: Surroundings = field(default_factory=Surroundings)

    def check(self) -> None:
        """Raises UsageError for what can never work, EnvironmentLack for what this machine cannot give."""
        self.plan.check()
        self.surroundings.check()


@dataclass(frozen=True, slots=True)
class Trial:
    """A run that is over."""

    observation: Observation
    exercised: Exercised | None
    """None where the exercise broke off."""
    faults: tuple[Fault, ...] = ()


def observe(
    source: Source, arguments: tuple[str, ...], plan: Plan, surroundings: Surroundings, scratch: Path
) -> tuple[Observation, Exercised]:
    """Run the original. Raises TargetError, ExerciseError at the first thing that goes wrong."""
    trial = _try_out(source, arguments, plan, surroundings, scratch, break_off)
    if trial.exercised is None:
        raise trial.faults[0].error()
    return trial.observation, trial.exercised


def try_out(source: Source, arguments: tuple[str, ...], plan: Plan, surroundings: Surroundings, scratch: Path) -> Trial:
    """Run an image of which it is not known whether it works: as far as it goes."""
    faults: list[Fault] = []
    try:
        trial = _try_out(source, arguments, plan, surroundings, scratch, faults.append)
    except ObserverLost:
        raise
    except (TargetError, ImageError) as error:  # it may lack what the sandbox needs, as its user's name
        trial = Trial(Observation((), 0), None, (Fault.of(error),))
    return Trial(trial.observation, trial.exercised, (*faults, *trial.faults))


def _try_out(
    source: Source, arguments: tuple[str, ...], plan: Plan, surroundings: Surroundings, scratch: Path,
    tell: Callable[[Fault], None],
) -> Trial:  # fmt: skip
    config = source.image.config
    with working_directory(scratch, "sandbox") as place:
        job = source.job(surroundings, place)
        with Sandbox(job) as sandbox:
            try:
                exercised = exercise(sandbox, list(arguments), config.exposed_ports, plan, tell)
            except Unmet as unmet:
                kills = sandbox.memory_kills()
                observation = sandbox.stop(signal.SIGKILL, 0)
                return Trial(observation, None, (_explained(unmet.fault, kills, observation, job),))
            return Trial(sandbox.stop(_stop_signal(config), plan.grace), exercised)


def _explained(fault: Fault, memory_kills: int, observation: Observation, job: Job) -> Fault:
    """What lies behind a failure of the exercise, where that is known."""
    if memory_kills:
        limit = f"its limit of {job.memory} bytes" if job.memory else "this machine's memory"
        what = "the kernel killed a process of the target for want of memory"
        return Fault(what, f"{limit} is too little: see --memory", fault.output, TargetError)
    if observation.tracers:
        what = f"{_shown(observation.tracers[0])} traces processes with ptrace itself, which only one can"
        return Fault(what, "observe its work without it", fault.output, TargetError)
    return fault


def refused_tracers(observation: Observation) -> tuple[str, ...]:
    """Warnings."""
    return tuple(f"{_shown(program)} tried to trace a process and was refused" for program in observation.tracers)


def _shown(program: bytes) -> str:
    return text(program).encode("utf-8", "backslashreplace").decode()


def _stop_signal(config: Config) -> int:
    """STOPSIGNAL: a number, or a name with or without SIG, as RTMIN+3 too; SIGTERM for what is none."""
    name = config.stop_signal
    if is_number(name):
        number = int(name)
    else:
        base, _, offset = name.upper().removeprefix("SIG").partition("+")
        known = signal.Signals.__members__.get("SIG" + base, signal.SIGTERM)
        number = known + (int(offset) if is_number(offset) else 0)
    return number if number in signal.valid_signals() else signal.SIGTERM
