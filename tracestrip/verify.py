"""Verification: the stripped image, run as the original was, before anybody gets it; and repair of what it lacks."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from tracestrip.comparison import Comparison
from tracestrip.errors import ExerciseError, ObserverLost, TargetError, TracestripError
from tracestrip.exercise.exercise import Exercised, Fault
from tracestrip.exercise.plan import Plan
from tracestrip.image.image import LayerArchive
from tracestrip.keep.choice import Choice
from tracestrip.keep.keepset import KeepSet
from tracestrip.observer.wire import Observation
from tracestrip.recording import Recording
from tracestrip.source import Source
from tracestrip.trial import Scenario, observe, try_out

DEFAULT_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Checks:
    """What the user wants to see before a result is published."""

    probes: tuple[str, ...] = ()
    """Held out: the original is not observed with them."""
    compare_output: bool = False
    ignore: tuple[str, ...] = ()
    """Regular expressions for what may differ in outputs."""
    rounds: int = DEFAULT_ROUNDS
    """Of repair, at most."""

    def check(self) -> None:
        """Raises UsageError for what can never work."""
        Plan(checks=self.probes).check()
        Comparison(self.ignore)


@dataclass(frozen=True, slots=True)
class Expectation:
    """A scenario, the held-out probes with it, and what the original did then."""

    scenario: Scenario
    arguments: tuple[str, ...]
    exercised: Exercised
    beyond: Observation | None = None
    """What the original used, where that was a run which nothing is kept for; None where there was none."""
    unrepeatable: TracestripError | None = None
    """Why that run failed."""


@dataclass(frozen=True, slots=True)
class Round:
    """One run of the stripped image, as it was then."""

    faults: tuple[Fault, ...]
    """None: it does what the original does."""
    missed: tuple[bytes, ...]
    """Paths that it asked for in vain, and the original has. Without a fault it could do without them."""
    unasked: tuple[bytes, ...] = ()
    """With a fault: other paths that the original was seen to use in the same exercise, and that it lacks."""
    added: tuple[bytes, ...] = ()
    """What was added then, to try again. Where nothing is missing, it is tried again once as it is."""


@dataclass(frozen=True, slots=True)
class Verification:
    """All rounds; what the last one says counts."""

    checks: Checks
    rounds: tuple[Round, ...]
    unrepeatable: TracestripError | None = None
    """Why the original failed, too, when it was run once more."""

    @property
    def passed(self) -> bool:
        return not self.rounds[-1].faults

    @property
    def repairs(self) -> int:
        """In how many rounds something was added."""
        return sum(1 for round_ in self.rounds if round_.added)

    @property
    def passed_by_chance(self) -> bool:
        """What failed before was the same result."""
        return self.passed and any(round_.faults and not round_.added for round_ in self.rounds)


Make = Callable[[], AbstractContextManager[tuple[Source, LayerArchive]]]
"""The stripped image of what stays now, ready to be run within the block, and its layer."""


def expectations(
    source: Source, recordings: Sequence[Recording], checks: Checks, scratch: Path, step: Callable[[str], None]
) -> tuple[Expectation, ...]:
    """What the original does in each recorded scenario.

    It is run again where the recording does not tell: for held-out probes, for outputs that a file has not.
    Raises ExerciseError when a held-out probe fails on the original: then the check itself is wrong.
    """
    found = []
    for recording in recordings:
        scenario = replace(recording.scenario, plan=replace(recording.scenario.plan, checks=checks.probes))
        expected = Expectation(scenario, recording.arguments, recording.exercised)
        if checks.probes or (checks.compare_output and not recording.is_own):
            step("running the original with the held-out checks")
            expected = rehearsed(source, expected, scratch)
        found.append(expected)
    return tuple(found)


def prove(
    source: Source, choice: Choice, expected: Sequence[Expectation], checks: Checks, make: Make, complete: Callable[[], None],
    scratch: Path, step: Callable[[str], None],
) -> tuple[Verification, LayerArchive]:  # fmt: skip
    """Run the stripped image and repair what stays, until it does what the original did, or nothing helps; its last layer.

    *complete* brings what stays to its end after something was added.
    """
    rounds: list[Round] = []
    expected = list(expected)
    repairs, tried_again = 0, False
    while True:
        step("verifying the stripped image" + (f", repaired {repairs} times" if repairs else ""))
        before = choice.keep.paths()
        with make() as (stripped, layer):
            faults, observations = tried(stripped, expected, checks, scratch)
            missed = missing(source, stripped, expected, observations)
            if faults and repairs < checks.rounds:
                choice.keep.round = repairs + 1
                _add_missing(source, choice, expected, observations, stripped, scratch)
            unasked = _unasked(source, stripped, expected, missed) if faults else ()
        if choice.keep.paths() != before:
            complete()
        added = tuple(sorted(choice.keep.paths() - before))
        rounds.append(Round(faults, missed, unasked, added))
        if added:
            repairs += 1
        elif not faults or missed or unasked or tried_again:
            return Verification(checks, tuple(rounds), _unrepeatable(expected)), layer
        else:
            tried_again = True  # nothing is missing: perhaps it was chance


def compared(original: Source, stripped: Source, expected: Expectation, checks: Checks, scratch: Path) -> Verification:
    """Run an image that stays as it is; once more where it fails with nothing missing."""
    rounds: list[Round] = []
    while len(rounds) < 2:
        faults, observations = tried(stripped, [expected], checks, scratch)
        missed = missing(original, stripped, [expected], observations)
        rounds.append(Round(faults, missed))
        if not faults or missed:
            break
    return Verification(checks, tuple(rounds))


def tried(
    stripped: Source, expected: Iterable[Expectation], checks: Checks, scratch: Path
) -> tuple[tuple[Fault, ...], list[Observation]]:
    """What the stripped image does otherwise than expected, and what it used, for each expectation."""
    faults: list[Fault] = []
    observations = []
    comparison = Comparison(checks.ignore)
    for expectation in expected:
        plan = expectation.scenario.plan.impatient(expectation.exercised.slowest)
        trial = try_out(stripped, expectation.arguments, plan, expectation.scenario.surroundings, scratch)
        observations.append(trial.observation)
        faults += trial.faults
        if trial.exercised is not None:
            faults += _other_end(plan, expectation.exercised, trial.exercised)
            if checks.compare_output:
                faults += comparison.faults(expectation.exercised, trial.exercised)
    return tuple(faults), observations


def missing(
    source: Source, stripped: Source, expected: Iterable[Expectation], observations: Iterable[Observation]
) -> tuple[bytes, ...]:
    """Paths that these observations, one for each expectation, ask the original for, and that the stripped image lacks."""
    wanted: set[bytes] = set()
    for expectation, observation in zip(expected, observations, strict=True):
        keep = KeepSet(source.tree)
        keep.add_observation(observation, expectation.scenario.surroundings.mount_points())
        wanted |= keep.paths()
    return tuple(sorted(path for path in wanted if stripped.tree.entry(path) is None))


def _unasked(
    source: Source, stripped: Source, expected: Iterable[Expectation], missed: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    seen = [(expectation, expectation.beyond) for expectation in expected if expectation.beyond is not None]
    used = missing(source, stripped, [one for one, _ in seen], [observation for _, observation in seen])
    return tuple(path for path in used if path not in missed)


def _other_end(plan: Plan, original: Exercised, stripped: Exercised) -> list[Fault]:
    """Whether the target ends by itself; where one ends just when the other's time is over, that is chance."""
    job = original if original.is_job else stripped
    if original.is_job == stripped.is_job or (plan.wait is not None and job.ready_after >= plan.wait / 2):
        return []
    ended = "ended by itself" if stripped.is_job else "did not end by itself"
    output = stripped.output.last if stripped.output else b""
    return [Fault(f"the target {ended}, unlike the original", "see what it wrote", output)]


def _add_missing(
    source: Source, choice: Choice, expected: list[Expectation], observations: Sequence[Observation], stripped: Source,
    scratch: Path,
) -> None:  # fmt: skip
    """What the stripped image asked for in vain. What the original uses in the same exercise, which it may not come to ask for.

    Where neither tells anything new: all entries of the directories that the stripped image listed.
    """
    before = choice.keep.paths()
    for number, (expectation, observation) in enumerate(zip(expected, observations, strict=True)):
        mount_points = expectation.scenario.surroundings.mount_points()
        choice.keep.add_observation(observation, mount_points)
        if expectation.beyond is None:
            expected[number] = _again(source, expectation, scratch)
        choice.keep.add_observation(expected[number].beyond or observation, mount_points)
    choice.exclude()
    if choice.keep.paths() == before:
        for expectation, observation in zip(expected, observations, strict=True):
            choice.keep.add_listed(observation, expectation.scenario.surroundings.mount_points(), stripped.tree)
        choice.exclude()


def _again(source: Source, expectation: Expectation, scratch: Path) -> Expectation:
    """With what the original uses when it is run once more; with why it fails then, where it does."""
    try:
        return rehearsed(source, expectation, scratch)
    except ObserverLost:
        raise
    except (TargetError, ExerciseError) as error:
        return replace(expectation, beyond=Observation((), 0), unrepeatable=error)


def _unrepeatable(expected: Iterable[Expectation]) -> TracestripError | None:
    return next((expectation.unrepeatable for expectation in expected if expectation.unrepeatable is not None), None)


def rehearsed(source: Source, expectation: Expectation, scratch: Path) -> Expectation:
    """With what the original does now. Raises TargetError, ExerciseError."""
    scenario = expectation.scenario
    beyond, exercised = observe(source, expectation.arguments, scenario.plan, scenario.surroundings, scratch)
    return replace(expectation, exercised=exercised, beyond=beyond)
