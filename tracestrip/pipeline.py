"""The story of each command, from an image to a smaller one that is known to work.

    Reference ─▶ Source ─▶ Recording ─▶ KeepSet ─▶ layer ─▶ stripped image ─▶ verified ─▶ published

Data goes one way; each step is told in full where it lives.
"""

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path

from tracestrip import trial
from tracestrip.destination import Place, check_apart, check_writable, destination, named_after
from tracestrip.errors import EnvironmentLack, TargetError, UsageError
from tracestrip.exercise.plan import split_command
from tracestrip.image.config import origin, verified, without_base
from tracestrip.image.created import rfc3339, source_date_epoch
from tracestrip.image.image import Image, LayerArchive
from tracestrip.image.platform import parse_platform
from tracestrip.image.reference import ENGINE, Reference, parse_reference
from tracestrip.image.room import DEFAULT_LIMIT
from tracestrip.image.transports import check_engine, publish
from tracestrip.keep.choice import Choice, Rules
from tracestrip.keep.ldd import Loader, Run
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job
from tracestrip.observer.wire import raw
from tracestrip.recording import Recording, read_recording, record
from tracestrip.report.paths import paths_document
from tracestrip.report.report import UNKNOWN_DIGEST, Report, totals_of
from tracestrip.report.verdict import Verdict, refusal
from tracestrip.rootfs.pack import pack
from tracestrip.scratch import scratch_directory, working_directory
from tracestrip.source import Source, made_of, read_source
from tracestrip.trial import Scenario
from tracestrip.verify import Checks, Expectation, compared, expectations, prove
from tracestrip.whole_file import take_room, whole_file

Step = Callable[[str], None]
"""Is told what is done next."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Which image is read."""

    image: str
    platform: str | None = None
    max_image_size: int = DEFAULT_LIMIT
    """Bytes of all layers, and of all files, unpacked."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made of an observation."""

    place: Place = field(default_factory=Place)
    rules: Rules = field(default_factory=Rules)
    checks: Checks | None = field(default_factory=Checks)
    """None: what is made is not verified."""
    report: Path | None = None


def run(subject: Subject, scenario: Scenario, wanted: Wanted, step: Step, until_stable: int = 0) -> Report:
    """Strip an image to what its command uses in the scenario, prove that this does, and publish it.

    SIGINT and SIGTERM are blocked from the moment of publication until the return.
    """
    begun = time.monotonic()
    scenario.check()
    own = _own_command(scenario.command)
    with _prepared(subject, wanted, step) as (source, target, scratch):
        choice = Choice(wanted.rules, source.tree)
        recording = record(source, scenario, _arguments(scenario, source.image), until_stable, scratch, step)
        return _strip(source, (recording,), choice, own, target, wanted, scratch, step, begun)


def observe(subject: Subject, scenario: Scenario, output: Path, step: Step, *, force: bool, until_stable: int = 0) -> Recording:
    """Record what an image's command uses in the scenario, for `strip`."""
    scenario.check()
    check_writable(output, force=force)
    check_apart("-o", output, _places(parse_reference(subject.image)))
    _check_environment()
    with scratch_directory() as scratch:
        source = _read(subject, scratch, step)
        recording = record(source, scenario, _arguments(scenario, source.image), until_stable, scratch, step)
        with whole_file(output) as file:
            file.write(recording.to_json().encode())
    return recording


def strip(subject: Subject, observations: Sequence[Path], command: str | None, wanted: Wanted, step: Step) -> Report:
    """Strip an image to what all these recordings of it have used together. *command*: of the result.

    Signals as in `run`.
    """
    begun = time.monotonic()
    if not observations:
        raise UsageError("strip: nothing says what is used: name a file with --observation, or use tracestrip run")
    with _prepared(subject, wanted, step, observations) as (source, target, scratch):
        recordings = tuple(read_recording(path, source.image) for path in observations)
        choice = Choice(wanted.rules, source.tree)
        own = _own_command(_common_command(recordings) if command is None else command)
        if wanted.checks is not None:
            _check_was_run(own or source.image.config.command, recordings)
        return _strip(source, recordings, choice, own, target, wanted, scratch, step, begun)


def verify(original: Subject, stripped: Subject, scenario: Scenario, checks: Checks, step: Step) -> Verdict:
    """Run two images through one scenario, and tell whether the second does what the first one does.

    The command, where the scenario names none, is the stripped image's own.
    """
    scenario = replace(scenario, plan=replace(scenario.plan, checks=checks.probes))
    scenario.check()
    checks.check()
    _check_environment()
    with scratch_directory() as scratch, ExitStack() as stack:
        images = []
        for subject, name in ((original, "original"), (stripped, "stripped")):
            images.append(_read(subject, stack.enter_context(working_directory(scratch, name)), step))
        before, after = images
        arguments = _arguments(scenario, after.image)
        step(f"running {before.image.name}")
        _, exercised = trial.observe(before, arguments, scenario.plan, scenario.surroundings, scratch)
        step(f"running {after.image.name}")
        verification = compared(before, after, Expectation(scenario, arguments, exercised), checks, scratch)
    if not verification.passed:
        raise refusal(after.image.name, verification, ())
    return Verdict(before.image, after.image, verification)


def _strip(
    source: Source, recordings: tuple[Recording, ...], choice: Choice, own: tuple[str, ...] | None, target: Reference,
    wanted: Wanted, scratch: Path, step: Step, begun: float,
) -> Report:  # fmt: skip
    expected = expectations(source, recordings, wanted.checks, scratch, step) if wanted.checks else ()

    step("asking the image's loader for libraries")
    _choose(source, recordings, choice)
    complete = partial(_complete, source, recordings, choice, scratch)
    complete()

    step("writing the stripped image")
    if wanted.checks is None:
        verification, layer = None, _pack(choice, scratch)
    else:
        make = partial(_made, source, choice, scratch)
        verification, layer = prove(source, choice, expected, wanted.checks, make, complete, scratch, step)

    made_from = origin(source.image.name, source.image.digest)
    is_proven = verification is not None and verification.passed
    latest = source_date_epoch()
    created = None if latest is None else rfc3339(latest)
    config = source.image.config.stripped(layer.diff_id, own, made_from | verified(is_proven), created)
    report = Report(
        source=source,
        source_totals=totals_of(source),
        result=str(target),
        result_digest=UNKNOWN_DIGEST,
        result_manifest=UNKNOWN_DIGEST,
        layer=layer,
        command=own or recordings[0].arguments,
        recordings=recordings,
        keep=choice.keep,
        rules=wanted.rules,
        paths={} if wanted.report is None else paths_document(source, choice, recordings),
        doubts=choice.warnings,
        verification=verification,
        seconds=time.monotonic() - begun,
    )
    with _written_report(wanted.report, report) as write:
        if verification is None or is_proven:
            written = publish(config, layer, without_base(source.image.annotations) | made_from, target, scratch)
            step(CLEARING)
            seconds = time.monotonic() - begun
            report = replace(report, result_digest=written.digest, result_manifest=written.manifest_digest, seconds=seconds)
            write(report)
            return report
        write(replace(report, result=None, result_digest=None, result_manifest=None))
    raise refusal(source.image.name, verification, wanted.rules.exclude, "nothing is published: ")


CLEARING = "clearing up"
"""The last step: the result is published, whatever comes."""


@contextmanager
def _prepared(
    subject: Subject, wanted: Wanted, step: Step, observations: Sequence[Path] = ()
) -> Iterator[tuple[Source, Reference, Path]]:
    """The image, where the result goes, and a scratch directory; what cannot be is refused before anything is read."""
    image = parse_reference(subject.image)
    target = destination(wanted.place, image)
    source_date_epoch()
    if wanted.checks is not None:
        wanted.checks.check()
    if wanted.report is not None:
        check_writable(wanted.report, force=True)
        check_apart("--report", wanted.report, (*observations, *_places(image, target)))
    _check_environment()
    if target.transport == ENGINE and image.transport != ENGINE:
        check_engine()
    with scratch_directory() as scratch:
        source = _read(subject, scratch, step)
        yield source, named_after(source.image, target), scratch


def _places(*references: Reference) -> Iterator[Path]:
    return (reference.path for reference in references if reference.path is not None)


def _read(subject: Subject, scratch: Path, step: Step) -> Source:
    platform = parse_platform(subject.platform) if subject.platform else None
    return read_source(parse_reference(subject.image), platform, subject.max_image_size, scratch, step)


def _check_environment() -> None:
    if os.geteuid() != 0:
        raise EnvironmentLack("tracestrip needs root for namespaces and overlayfs: run it with sudo")


def _arguments(scenario: Scenario, image: Image) -> tuple[str, ...]:
    """The command that is run: the user's, or the image's own."""
    if scenario.command is not None:
        return tuple(split_command(scenario.command, "-e"))
    if not image.config.command:
        raise TargetError(f"{image.name}: it has neither ENTRYPOINT nor CMD: name a command with -e")
    return image.config.command


def _own_command(command: str | None) -> tuple[str, ...] | None:
    """What the result's config says instead of the image's own. JSON has texts only."""
    if command is None:
        return None
    try:
        command.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"-e {command!r}: an image's config holds UTF-8 only: run a script of that name instead") from error
    return tuple(split_command(command, "-e"))


def _common_command(recordings: Sequence[Recording]) -> str | None:
    commands = {recording.scenario.command for recording in recordings}
    if len(commands) > 1:
        raise UsageError("strip: the observations are of different commands: say with -e which one the result gets")
    return commands.pop()


def _check_was_run(command: tuple[str, ...], recordings: Sequence[Recording]) -> None:
    """A result is called verified for its own command."""
    if command not in {recording.arguments for recording in recordings}:
        advice = "observe it too, or say --no-verify"
        raise UsageError(f"strip: no observation is of the result's command {shlex.join(command)!r}: {advice}")


def _choose(source: Source, recordings: Sequence[Recording], choice: Choice) -> None:
    """What the recordings ask for, not yet completed."""
    for recording in recordings:
        surroundings = recording.scenario.surroundings
        job = source.job(surroundings, Path())
        choice.keep.add_always_kept(raw(job.workdir), tuple(map(raw, job.volumes)))
        choice.add(recording.observation, surroundings.mount_points())


def _complete(source: Source, recordings: Sequence[Recording], choice: Choice, scratch: Path) -> None:
    """The loaders answer in a fresh sandbox, which has nothing of what a run wrote."""
    with ExitStack() as stack:
        loaders = []
        for number, surroundings in enumerate(dict.fromkeys(recording.scenario.surroundings for recording in recordings)):
            place = stack.enter_context(working_directory(scratch, f"loader-{number}"))
            job = replace(source.job(surroundings, place), observed=False)
            loaders.append(Loader(_run_in(job, stack), raw(job.variable("LD_LIBRARY_PATH"))))
        choice.complete(loaders)


def _run_in(job: Job, stack: ExitStack) -> Run:
    """The sandbox is made when something is run in it."""
    sandbox = cache(lambda: stack.enter_context(Sandbox(job)))
    return lambda arguments: sandbox().run(arguments)


def _pack(choice: Choice, scratch: Path) -> LayerArchive:
    return pack((kept.entry for kept in choice.keep), scratch / "layer.tar", source_date_epoch())


@contextmanager
def _made(source: Source, choice: Choice, scratch: Path) -> Iterator[tuple[Source, LayerArchive]]:
    """The image as it would be published now: its very bytes, extracted again."""
    layer = _pack(choice, scratch)
    with working_directory(scratch, "stripped") as root:
        yield made_of(layer, source, root), layer


@contextmanager
def _written_report(path: Path | None, draft: Report) -> Iterator[Callable[[Report], None]]:
    """What writes the report; its room is taken before anything is published: *draft* is about as long."""
    if path is None:
        yield lambda _: None
        return
    with whole_file(path) as file:
        take_room(file, len(draft.to_json().encode()) + 4096)

        def write(report: Report) -> None:
            file.write(report.to_json().encode())
            file.flush()
            if file.seekable():
                file.truncate()

        yield write
