"""The story of `tracestrip run`, from an image to a smaller one.

    Reference ─▶ Image ─▶ Tree ─▶ root directories ─▶ Observation ─▶ KeepSet ─▶ layer ─▶ Image' ─▶ published

Data goes one way; each step is told in full where it lives.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracestrip.errors import EnvironmentLack, ExerciseError, ImageError, TargetError, UsageError
from tracestrip.exercise.exercise import Exercised, exercise
from tracestrip.exercise.plan import Plan, split_command
from tracestrip.image.config import Config, is_number, origin, without_base
from tracestrip.image.created import rfc3339, source_date_epoch
from tracestrip.image.image import Image, LayerArchive, LayerDirectory
from tracestrip.image.oci_output import check_layout
from tracestrip.image.platform import host_platform, parse_platform
from tracestrip.image.reference import DIRECTORY, ENGINE, OCI, Reference, parse_name, parse_reference, stripped_name
from tracestrip.image.room import DEFAULT_LIMIT, Room
from tracestrip.image.transports import check_engine, publish, read_image
from tracestrip.keep.keepset import OPENING, KeepSet
from tracestrip.keep.ldd import Libraries
from tracestrip.keep.rules import exclude, include
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job
from tracestrip.observer.wire import Observation, raw, text
from tracestrip.report.report import Report, Totals
from tracestrip.rootfs.archive_tree import ArchiveTree
from tracestrip.rootfs.directory_tree import DirectoryTree
from tracestrip.rootfs.extract import extract
from tracestrip.rootfs.pack import pack
from tracestrip.rootfs.tree import Kind, Tree
from tracestrip.scratch import scratch_directory
from tracestrip.surroundings import Surroundings, sandbox_job
from tracestrip.whole_file import is_stream, take_room, whole_file


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks of `tracestrip run`."""

    image: str
    command: str | None = None
    plan: Plan = field(default_factory=Plan)
    tag: str | None = None
    output: str | None = None
    force: bool = False
    report: Path | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    opened_only: bool = False
    platform: str | None = None
    max_image_size: int = DEFAULT_LIMIT
    """Bytes of all layers, and of all files, unpacked."""


def run(request: Request, step: Callable[[str], None]) -> Report:
    """Strip an image to what its command uses while the plan is carried out. *step* is told what is done next.

    SIGINT and SIGTERM are blocked from the moment of publication until the return.
    """
    start = time.monotonic()
    source = parse_reference(request.image)
    target = _destination(request, source)
    command = split_command(request.command, "-e") if request.command is not None else None
    platform = parse_platform(request.platform) if request.platform else None
    latest = source_date_epoch()
    request.plan.check()
    request.surroundings.check()
    if request.report is not None:
        _check_writable(request.report, force=True)
    _check_environment()
    if target.transport == ENGINE and source.transport != ENGINE:
        check_engine()
    with scratch_directory() as scratch:
        step(f"reading {request.image}")
        image = read_image(source, platform, Room(scratch, request.max_image_size))
        _check_platform(image)
        target = _named_after(image, target)
        tree = _tree(image, request.max_image_size)
        arguments = command or _own_command(image)
        roots = _root_directories(image, tree, scratch, step)
        job = sandbox_job(request.surroundings, image, tree, roots, _empty(scratch / "sandbox"))

        step(f"running {' '.join(arguments)}")
        observation, exercised = _observe(job, list(arguments), image.config, request.plan)

        step("asking the image's loader for libraries")
        keep = _choose(request, tree, replace(job, scratch=str(_empty(scratch / "loader"))), observation)

        step("writing the stripped image")
        layer = pack((kept.entry for kept in keep), scratch / "layer.tar", latest)
        made_of = origin(image.name, image.digest)
        config = image.config.stripped(layer.diff_id, command, made_of, None if latest is None else rfc3339(latest))
        report = Report(
            source=image,
            source_totals=_totals(source, tree),
            result=str(target),
            result_digest=_UNKNOWN_DIGEST,
            result_manifest=_UNKNOWN_DIGEST,
            layer_digest=layer.diff_id,
            layer_bytes=layer.size,
            command=tuple(arguments),
            exercised=exercised,
            keep=keep,
            calls=observation.calls,
            warnings=(*_refused_tracers(observation), *tree.warnings),
            seconds=time.monotonic() - start,
        )
        with _written_report(request.report, report) as write:
            written = publish(config, layer, without_base(image.annotations) | made_of, target, scratch)
            step(CLEARING)
            seconds = time.monotonic() - start
            published = replace(
                report, result_digest=written.digest, result_manifest=written.manifest_digest, seconds=seconds
            )  # fmt: skip
            write(published)
    return published


CLEARING = "clearing up"
"""The last step: the result is published, whatever comes."""
_UNKNOWN_DIGEST = "sha256:" + 64 * "0"


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


def _destination(request: Request, source: Reference) -> Reference:
    """Where the result goes; refused here, before anything runs, when that cannot be."""
    if request.output is None:
        if source.transport != ENGINE or source.name is None:
            raise UsageError(f"{request.image}: say where the result goes: -o docker-archive:FILE or -o oci:DIRECTORY")
        return Reference(ENGINE, None, parse_name(request.tag) if request.tag else stripped_name(source.name))
    target = parse_reference(request.output)
    if target.transport == DIRECTORY:
        raise UsageError(f"-o {request.output}: a directory cannot hold an image: use -o oci:DIRECTORY")
    if request.tag and target.name:
        raise UsageError(f"--tag {request.tag}: -o {request.output} names the result already: leave out one of them")
    if request.tag:
        target = parse_reference(f"{target}:{request.tag}")
    if target.transport == OCI and target.path is not None:
        check_layout(target.path, force=request.force)
    elif target.path is not None:
        _check_writable(target.path, force=request.force)
    return target


def _named_after(image: Image, target: Reference) -> Reference:
    """The target; under the image's name with "-stripped", where the user gave none."""
    return target.named(stripped_name(image.tag)) if target.name is None and image.tag and "@" not in image.tag else target


def _check_writable(path: Path, *, force: bool) -> None:
    if is_stream(path):
        return
    if path.exists() and not force:
        raise UsageError(f"{path}: exists already: choose another name, or replace it with --force")
    directory = path.resolve().parent
    if path.is_dir() or path.is_block_device() or not directory.is_dir() or not os.access(directory, os.W_OK):
        raise UsageError(f"{path}: cannot be written: choose a place in a directory that exists and is writable")


def _check_environment() -> None:
    if os.geteuid() != 0:
        raise EnvironmentLack("tracestrip needs root for namespaces and overlayfs: run it with sudo")


def _tree(image: Image, most_bytes: int) -> Tree:
    archives = tuple(layer for layer in image.layers if isinstance(layer, LayerArchive))
    directories = tuple(layer for layer in image.layers if isinstance(layer, LayerDirectory))
    return DirectoryTree(directories) if directories else ArchiveTree(archives, most_bytes, image.name)


def _check_platform(image: Image) -> None:
    platform = image.config.platform
    if not platform.runs_here:
        raise ImageError(f"{image.name}: it is for {platform}, this machine is {host_platform()}: strip it where it runs")


def _own_command(image: Image) -> tuple[str, ...]:
    if not image.config.command:
        raise TargetError(f"{image.name}: it has neither ENTRYPOINT nor CMD: name a command with -e")
    return image.config.command


def _root_directories(image: Image, tree: Tree, scratch: Path, step: Callable[[str], None]) -> tuple[Path, ...]:
    """Directories that, stacked, are the image's root; the topmost first. Layers that lie in directories serve as they are."""
    if isinstance(tree, DirectoryTree):
        return tuple(layer.path for layer in reversed(image.layers) if isinstance(layer, LayerDirectory))
    step(f"extracting {image.name}")
    root = scratch / "image"
    root.mkdir()
    extract(tree, root)
    return (root,)


def _empty(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _observe(job: Job, arguments: list[str], config: Config, plan: Plan) -> tuple[Observation, Exercised]:
    with Sandbox(job) as sandbox:
        try:
            exercised = exercise(sandbox, arguments, config.exposed_ports, plan)
        except (TargetError, ExerciseError) as failure:
            cause = _cause(sandbox, job)
            if cause is None:
                raise
            raise TargetError(cause, failure.output) from failure
        return sandbox.stop(_signal_number(config.stop_signal), plan.grace), exercised


def _cause(sandbox: Sandbox, job: Job) -> str | None:
    """What lies behind a failure of the exercise, where that is known. It ends the sandbox."""
    if sandbox.memory_kills():
        limit = f"its limit of {job.memory} bytes" if job.memory else "this machine's memory"
        return f"the kernel killed a process of the target for want of memory: {limit} is too little: see --memory"
    tracers = sandbox.stop(signal.SIGKILL, 0).tracers
    if tracers:
        return f"{_shown(tracers[0])} traces processes with ptrace itself, which only one can: observe its work without it"
    return None


def _refused_tracers(observation: Observation) -> tuple[str, ...]:
    return tuple(f"{_shown(program)} tried to trace a process and was refused" for program in observation.tracers)


def _shown(program: bytes) -> str:
    return text(program).encode("utf-8", "backslashreplace").decode()


def _signal_number(name: str) -> int:
    """Of a STOPSIGNAL: a number, or a name with or without SIG, as RTMIN+3 too; SIGTERM for what is none."""
    if is_number(name):
        number = int(name)
    else:
        base, _, offset = name.upper().removeprefix("SIG").partition("+")
        known = signal.Signals.__members__.get("SIG" + base, signal.SIGTERM)
        number = known + (int(offset) if is_number(offset) else 0)
    return number if number in signal.valid_signals() else signal.SIGTERM


def _choose(request: Request, tree: Tree, job: Job, observation: Observation) -> KeepSet:
    """What stays. The loaders answer in a fresh sandbox, which has nothing of what the run wrote."""
    keep = KeepSet(tree, tuple(map(raw, request.surroundings.mount_points())))
    keep.add_always_kept(raw(job.workdir), tuple(map(raw, job.volumes)))
    keep.add_observation(observation, OPENING if request.opened_only else None)
    for pattern in request.include:
        include(keep, tree, raw(pattern))
    library_path = dict(pair.partition("=")[::2] for pair in job.environment).get("LD_LIBRARY_PATH", "")
    with Sandbox(replace(job, observed=False)) as sandbox:
        Libraries(tree, sandbox.run, raw(library_path)).add_to(keep)
    for pattern in request.exclude:
        exclude(keep, raw(pattern))
    return keep


def _totals(source: Reference, tree: Tree) -> Totals:
    """Of the original image; not of a directory, which may be a whole host."""
    if source.transport == DIRECTORY:
        return Totals(None, None)
    count, files = 0, {}
    for entry in tree.walk():
        count += 1
        if entry.kind is Kind.FILE:
            files[entry.inode or entry.path] = entry.size
    return Totals(count, sum(files.values()))
