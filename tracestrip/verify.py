"""Verification: the stripped image, run as the original was, before anybody gets it; and repair of what it lacks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
_NEARLY = 0.8


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
    is_repeated: bool = False
    """Whether that was after the stripped image had failed."""
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
        """What failed just before was the same result."""
        return self.passed and len(self.rounds) > 1 and not self.rounds[-2].added


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
    while True:
        repairs = sum(1 for round_ in rounds if round_.added)
        tried_again = repairs < len(rounds)  # one that added nothing and was not the last
        step("verifying the stripped image" + (f", repaired {repairs} times" if repairs else ""))
        before = choice.keep.paths()
        with make() as (stripped, layer):
            faults, observations = tried(stripped, expected, checks, scratch)
            missed = missing(source, stripped, expected, observations)
            unasked = _unasked(source, stripped, expected, missed) if faults else ()
            is_chance = bool(faults) and not (missed or unasked or tried_again)  # perhaps
            if faults and not is_chance and repairs < checks.rounds:
                choice.keep.round = repairs + 1
                expected = [_again(source, each, scratch) if each.beyond is None else each for each in expected]
                unasked = _unasked(source, stripped, expected, missed)
                _add_missing(choice, expected, observations, stripped)
        if choice.keep.paths() != before:
            complete()
        added = tuple(sorted(choice.keep.paths() - before))
        rounds.append(Round(faults, missed, unasked, added))
        if not added and not is_chance:
            break
    if faults:
        expected = [_again(source, each, scratch) for each in expected]
    return Verification(checks, tuple(rounds), _unrepeatable(expected)), layer


def compared(original: Source, stripped: Source, expected: Expectation, checks: Checks, scratch: Path) -> Verification:
    """Run an image that stays as it is; once more where it fails with nothing missing."""
    rounds: list[Round] = []
    while len(rounds) < 2:
        faults, observations = tried(stripped, [expected], checks, scratch)
        missed = missing(original, stripped, [expected], observations)
        rounds.append(Round(faults, missed))
        if not faults or missed:
            break
    if faults:
        expected = _again(original, expected, scratch)
    return Verification(checks, tuple(rounds), expected.unrepeatable)


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
            faults += _other_end(expectation.exercised, trial.exercised, checks)
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


def _other_end(original: Exercised, stripped: Exercised, checks: Checks) -> Iterator[Fault]:
    """Whether the target, and its first process, ends by itself.

    Where one ends just when the other's exercise is over, that is chance; but outputs are written only until then.
    """
    output = stripped.output.last if stripped.output else b""
    for what, before, after in (
        ("the target", original.ended_after, stripped.ended_after),
        ("the target's first process", original.exited_after, stripped.exited_after),
    ):
        ended, lasted = (before, stripped.lasted) if after is None else (after, original.lasted)
        if ended is None or (before is not None and after is not None):
            continue
        if checks.compare_output or ended < _NEARLY * lasted:
            done = "did not end by itself" if after is None else f"ended by itself after {after:.1f} s"
            yield Fault(f"{what} {done}, unlike the original's", "see what it wrote", output)
            return


def _add_missing(
    choice: Choice, expected: Iterable[Expectation], observations: Sequence[Observation], stripped: Source
) -> None:
    """What the stripped image asked for in vain. What the original uses in the same exercise, which it may not come to ask for.

    Where neither tells anything new: all entries of the directories that the stripped image listed.
    """
    before = choice.keep.paths()
    pairs = zip(expected, observations, strict=True)
    runs = [(each.scenario.surroundings.mount_points(), each.beyond, observation) for each, observation in pairs]
    for mount_points, beyond, observation in runs:
        choice.keep.add_observation(observation, mount_points)
        choice.keep.add_observation(beyond or observation, mount_points)
    choice.exclude()
    if choice.keep.paths() == before:
        for mount_points, _, observation in runs:
            choice.keep.add_listed(observation, mount_points, stripped.tree)
        choice.exclude()


def _again(source: Source, expectation: Expectation, scratch: Path) -> Expectation:
    """With whether the original still does what it did, and what it uses then; it is run for that once."""
    if expectation.is_repeated:
        return expectation
    try:
        return replace(rehearsed(source, expectation, scratch), is_repeated=True)
    except ObserverLost:
        raise
    except (TargetError, ExerciseError) as error:
        beyond = expectation.beyond or Observation((), 0)
        return replace(expectation, beyond=beyond, is_repeated=True, unrepeatable=error)


def _unrepeatable(expected: Iterable[Expectation]) -> TracestripError | None:
    return next((expectation.unrepeatable for expectation in expected if expectation.unrepeatable is not None), None)


def rehearsed(source: Source, expectation: Expectation, scratch: Path) -> Expectation:
    """With what the original does now. Raises TargetError, ExerciseError."""
    scenario = expectation.scenario
    beyond, exercised = observe(source, expectation.arguments, scenario.plan, scenario.surroundings, scratch)
    return replace(expectation, exercised=exercised, beyond=beyond)
