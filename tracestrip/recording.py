"""What was observed of an image, and in which exercise: kept in a file, it is put together with others later.

The file is one JSON object, whose shape is versioned; bytes of a path that are not UTF-8 stand as lone surrogates (PEP 383).
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tracestrip import __version__
from tracestrip.errors import ExerciseError, UsageError
from tracestrip.exercise.exercise import Answer, Exercised
from tracestrip.image.image import Image
from tracestrip.keep.keepset import KeepSet
from tracestrip.observer.wire import Observation, Use, raw, text
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
    keep = KeepSet(source.tree)
    keep.add_observation(observation, None)
    runs, stable = 1, 0
    while stable < until_stable:
        if runs == _MOST_RUNS:
            advice = "lower --until-stable, or give it probes that do the same each time"
            raise ExerciseError(f"the exercise still uses new files after {runs} runs: {advice}")
        step(f"running {' '.join(arguments)} again: {runs} runs, {len(keep)} paths")
        another, exercised = observe(source, arguments, scenario.plan, scenario.surroundings, scratch)
        known = len(keep)
        keep.add_observation(another, None)
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
    return Recording(
        image=structured(str, image["name"]),
        digest=None if image["digest"] is None else structured(str, image["digest"]),
        scenario=scenario,
        arguments=structured(tuple[str, ...], document["command"]),
        observation=Observation(
            uses=tuple(map(Use.from_message, document["uses"])),
            calls=structured(int, document["calls"]),
            tracers=tuple(map(raw, document["tracers"])),
        ),
        exercised=structured(Exercised, document["exercised"]),
        runs=structured(int, document["runs"]),
        is_own=False,
    )
