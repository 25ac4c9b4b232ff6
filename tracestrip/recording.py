"""What was observed of an image, and in which exercise: kept in a file, it is put together with others later.

The file is one JSON object, whose shape is versioned; bytes of a path that are not UTF-8 stand as lone surrogates (PEP 383).
"""

import json
import math
import posixpath
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tracestrip import __version__
from tracestrip.errors import ExerciseError, UsageError
from tracestrip.exercise.exercise import Answer, Exercised
from tracestrip.exercise.plan import check_argument
from tracestrip.image.image import Image
from tracestrip.keep.keepset import KeepSet
from tracestrip.observer.wire import KINDS, Observation, Use, raw, text
from tracestrip.source import Source
from tracestrip.structured import structured
from tracestrip.trial import Scenario, observe

SCHEMA = "tracestrip observation 1"
_MOST_RUNS = 100


@dataclass(frozen=True, slots=True)
class Recording:
    """One or more runs of one scenario."""

    image: str
    """Its name."""
    digest: str | None
    """Of its config; None for a plain directory."""
    scenario: Scenario
    arguments: tuple[str, ...]
    """The command that was run."""
    observation: Observation
    """The union of all runs."""
    exercised: Exercised
    """In the last run."""
    runs: int = 1
    is_own: bool = True
    """Made by this very process, which knows what the probes wrote: a file has no outputs."""

    def to_json(self) -> str:
        """The file's content."""
        document = {
            "schema": SCHEMA,
            "tracestrip": __version__,
            "image": {"name": self.image, "digest": self.digest},
            "scenario": asdict(replace(self.scenario, plan=self.scenario.plan.placed())),
            "command": self.arguments,
            "runs": self.runs,
            "exercised": asdict(_without_outputs(self.exercised)),
            "calls": self.observation.calls,
            "tracers": list(map(text, self.observation.tracers)),
            "uses": [use.to_message() for use in self.observation.uses],
        }
        return json.dumps(document, indent=1) + "\n"


def record(
    source: Source, scenario: Scenario, arguments: tuple[str, ...], until_stable: int, scratch: Path,
    step: Callable[[str], None],
) -> Recording:  # fmt: skip
    """Run the scenario: once, or until *until_stable* runs in a row have added no path.

    Raises TargetError, and ExerciseError where it never comes to that.
    """
    step(f"running {' '.join(arguments)}")
    observation, exercised = observe(source, arguments, scenario.plan, scenario.surroundings, scratch)
    keep, mount_points = KeepSet(source.tree), scenario.surroundings.mount_points()
    keep.add_observation(observation, mount_points)
    runs, stable = 1, 0
    while stable < until_stable:
        if runs == _MOST_RUNS:
            advice = "lower --until-stable, or give it probes that do the same each time"
            raise ExerciseError(f"the exercise still uses new files after {runs} runs: {advice}")
        step(f"running {' '.join(arguments)} again: {runs} runs, {len(keep)} paths")
        another, exercised = observe(source, arguments, scenario.plan, scenario.surroundings, scratch)
        known = len(keep)
        keep.add_observation(another, mount_points)
        observation = observation.united(another)
        runs, stable = runs + 1, stable + 1 if len(keep) == known else 0
    return Recording(source.image.name, source.image.digest, scenario, arguments, observation, exercised, runs)


def read_recording(path: Path, image: Image) -> Recording:
    """The recording in a file. Raises UsageError when it is none, or one of another image."""
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != SCHEMA:
            raise ValueError(document["schema"])
        recording = _recording(document)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}: name a file that tracestrip observe wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path}: it is no observation of this version of tracestrip: make it again with observe") from error
    if (recording.digest, recording.digest or recording.image) != (image.digest, image.digest or image.name):
        its = recording.digest or recording.image
        raise UsageError(f"{path}: it was made of {its}, {image.name} is {image.digest or image.name}: observe this image")
    return recording


def _without_outputs(exercised: Exercised) -> Exercised:
    def bare(answers: tuple[Answer, ...]) -> tuple[Answer, ...]:
        return tuple(replace(answer, output=None) for answer in answers)

    return replace(exercised, probes=bare(exercised.probes), commands=bare(exercised.commands), output=None)


def _recording(document: dict[str, Any]) -> Recording:
    image = document["image"]
    scenario = structured(Scenario, document["scenario"])
    scenario.check()
    arguments = structured(tuple[str, ...], document["command"])
    if not arguments:
        raise ValueError("no command")
    for argument in arguments:
        check_argument(argument, "command")
    return Recording(
        image=structured(str, image["name"]),
        digest=None if image["digest"] is None else structured(str, image["digest"]),
        scenario=scenario,
        arguments=arguments,
        observation=Observation(
            uses=tuple(map(_use, document["uses"])),
            calls=_count(document["calls"]),
            tracers=tuple(map(raw, structured(tuple[str, ...], document["tracers"]))),
        ),
        exercised=_exercised(document["exercised"]),
        runs=_count(document["runs"]),
        is_own=False,
    )


def _exercised(document: Any) -> Exercised:
    exercised = structured(Exercised, document)
    answers = (*exercised.probes, *exercised.commands)
    times = (exercised.ready_after, exercised.lasted, exercised.exited_after, exercised.ended_after)
    for seconds in (*times, *(answer.seconds for answer in answers)):
        if seconds is not None and not 0 <= seconds < math.inf:
            raise ValueError("no time")
    return exercised


def _count(value: Any) -> int:
    count = structured(int, value)
    if not 0 <= count < 1 << 63:
        raise ValueError("no number of runs or calls")
    return count


def _use(message: dict[str, Any]) -> Use:
    """What is no name in an image would lead out of it: a plain directory is read by these names."""
    use = Use.from_message(message)
    names = (use.root, *use.links, *(() if use.resolved is None else (use.resolved,)))
    if use.kind not in KINDS or not use.path.startswith(b"/") or b"\0" in use.path or not all(map(_is_normal, names)):
        raise ValueError("no use of a file")
    structured(tuple[bool, ...], [use.follow, use.creates])
    structured(int, use.process.pid)
    raw(use.during)
    return use


def _is_normal(path: bytes) -> bool:
    """Whether it is the own name of something in an image: absolute, without dots."""
    return b"\0" not in path and posixpath.isabs(path) and path[:2] != b"//" and posixpath.normpath(path) == path
