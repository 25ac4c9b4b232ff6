"""What the machine lacks, where results cannot go, and probes that fail: refused with one line, and nothing is published."""

import errno
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.conftest import TOP, Command, Finished, fails
from tests.layers import docker_archive, layer, member
from tests.layouts import Layout, layer_bytes, zipped
from tests.stripping import Compile, Root

BIG = 4_000_000
"""Bytes; twice what the full file systems hold."""

SYSTEM_CALLS = {"x86_64": {"seccomp": 317, "ptrace": 101}, "aarch64": {"seccomp": 277, "ptrace": 117}}

WITHOUT_A_CALL = """
import ctypes, os, struct, sys
number, answer = map(int, sys.argv[1:3])
rows = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | answer), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *row) for row in rows))
program = struct.pack("=HxxxxxxQ", len(rows), ctypes.addressof(code))
if ctypes.CDLL(None, use_errno=True).prctl(22, 2, program) != 0:
    sys.exit("no filter")
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def root(tracestrip: Command, compiled: Compile, tmp_path: Path) -> Root:
    """With a service, and a program that opens files."""
    made = Root(tracestrip, compiled, tmp_path)
    made.program("service")
    made.program("touch")
    return made


def under(before: list[object], *arguments: object, **environment: str) -> Finished:
    """The command line as the arguments of another command."""
    command = [*before, sys.executable, "-m", "tracestrip", *arguments]
    finished = subprocess.run(
        list(map(str, command)), env=os.environ | {"PYTHONPATH": str(TOP)} | environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return Finished(finished.returncode, finished.stdout, finished.stderr, 0, 0)


class Mounts:
    """Runs the command line with mounts of its own, which are gone after it."""

    def __init__(self, place: Path) -> None:
        self.place, self._listing = place / "mounted", place / "listing"
        self.place.mkdir()

    def run(self, mount: str, *arguments: object, **environment: str) -> Finished:
        """*mount*: shell commands, for which $PLACE is the directory."""
        script = f'set -e\n{mount}\nset +e\n"$@"; code=$?; find "$PLACE" -mindepth 1 > "$LISTING"; exit $code'
        before = ["unshare", "--mount", "sh", "-c", script, "sh"]
        return under(before, *arguments, **environment, PLACE=str(self.place), LISTING=str(self._listing))

    def left(self) -> set[str]:
        """Names below the directory at the end."""
        return {line.removeprefix(f"{self.place}/") for line in self._listing.read_text().splitlines()}


@pytest.fixture
def mounts(tmp_path: Path) -> Mounts:
    return Mounts(tmp_path)


# A full disk.

FULL = 'mount -t tmpfs -o size=2m,mode=755 none "$PLACE"'


def test_temporary_directory_without_room_to_extract_the_image(mounts: Mounts, root: Root, tmp_path: Path) -> None:
    made = layer(tmp_path / "layer.tar", member("big", os.urandom(BIG)))
    source = docker_archive(tmp_path / "image.tar", {"tool:full": [made]})
    arguments = ("run", f"docker-archive:{source}", "-e", "/touch /big", "-o", f"docker-archive:{root.output}")
    fails(mounts.run(FULL, *arguments, TMPDIR=str(mounts.place)), 7, str(mounts.place), "No space left on device")
    assert not mounts.left()
    assert not root.output.exists()


def test_temporary_directory_without_room_to_unpack_a_layer(mounts: Mounts, root: Root, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    content = layer_bytes(tmp_path, [member("big", os.urandom(BIG))])
    made.index(v1=made.image(content, compress=("+gzip", zipped)))
    arguments = ("run", f"oci:{made.place}", "-e", "/touch /big", "-o", f"docker-archive:{root.output}")
    fails(mounts.run(FULL, *arguments, TMPDIR=str(mounts.place)), 7, f"{made.place}: the layer sha256:", "no room", "TMPDIR")
    assert not mounts.left()
    assert not root.output.exists()


def test_temporary_directory_without_room_for_the_result(mounts: Mounts, root: Root) -> None:
    (root.path / "big").write_bytes(os.urandom(BIG))
    arguments = ("run", f"dir:{root.path}", "-e", "/touch /big", "-o", f"docker-archive:{root.output}")
    finished = mounts.run(FULL, *arguments, TMPDIR=str(mounts.place))
    assert not mounts.left()
    assert not root.output.exists()
    fails(finished, 7, str(mounts.place), "No space left on device")


@pytest.mark.parametrize("transport", ["docker-archive", "oci", "oci-archive"])
def test_place_of_the_result_without_room(mounts: Mounts, root: Root, transport: str) -> None:
    (root.path / "big").write_bytes(os.urandom(BIG))
    output = mounts.place / "out"
    arguments = ("run", f"dir:{root.path}", "-e", "/touch /big", "-o", f"{transport}:{output}")
    fails(mounts.run(FULL, *arguments), 7, str(output), "No space left on device")
    assert not mounts.left()


@pytest.mark.parametrize("transport", ["docker-archive", "oci"])
def test_older_result_stays_whole_where_the_new_one_has_no_room(
    mounts: Mounts, root: Root, tmp_path: Path, transport: str
) -> None:
    (root.path / "big").write_bytes(os.urandom(BIG))
    older, now = tmp_path / "older", tmp_path / "now"
    arguments = ("run", f"dir:{root.path}", "-o")
    assert under([], *arguments, f"{transport}:{older}:older", "-e", "/touch /touch").code == 0
    output = mounts.place / "out"
    script = f'{FULL}; cp -r "{older}" "{output}"; trap \'cp -r "{output}" "{now}"\' EXIT'
    fails(mounts.run(script, *arguments, f"{transport}:{output}:newer", "-e", "/touch /big", "--force"), 7, str(output))
    subprocess.run(["diff", "-r", older, now], check=True)


def test_stream_without_room(root: Root) -> None:
    root.files("data/file")
    finished = under([], "run", f"dir:{root.path}", "-e", "/touch /data/file", "-o", "docker-archive:/dev/full")
    fails(finished, 7, "/dev/full", "No space left on device")


def test_nothing_is_published_where_the_report_has_no_room(mounts: Mounts, root: Root) -> None:
    report = mounts.place / "report"
    full = 'mount -t tmpfs -o size=4k none "$PLACE"; head -c 4096 /dev/zero > "$PLACE/full"'
    arguments = ("run", f"dir:{root.path}", "-e", "/touch", "-o", f"docker-archive:{root.output}", "--report", report)
    fails(mounts.run(full, *arguments), 7, str(report), "No space left on device")
    assert mounts.left() == {"full"}
    assert not root.output.exists()


# What the machine lacks.


def lacking(before: list[object], root: Root, *words: str) -> None:
    fails(under(before, "run", f"dir:{root.path}", "-e", "/touch", "-o", f"docker-archive:{root.output}"), 7, *words)
    assert not root.output.exists()


def test_ordinary_user_is_told_to_be_root(root: Root) -> None:
    """In a user namespace, so that the packages of root can still be read."""
    lacking(["unshare", "--user", "--map-user=1000"], root, "needs root")


def test_root_without_the_right_to_make_namespaces_is_told_which(root: Root) -> None:
    """As in a container that is not privileged."""
    lacking(["setpriv", "--bounding-set=-sys_admin"], root, "Operation not permitted", "CAP_SYS_ADMIN")


def test_root_of_a_user_namespace_is_not_enough(root: Root) -> None:
    """As in a rootless container."""
    lacking(["unshare", "--user", "--map-root-user"], root, "Operation not permitted", "run as root")


def test_overlayfs_that_the_kernel_refuses_is_named(mounts: Mounts, root: Root) -> None:
    """An overlay over an overlay over an overlay is one too many: FILESYSTEM_MAX_STACK_DEPTH is 2."""
    nested = f"""
        mount -t tmpfs none "$PLACE"
        cd "$PLACE"
        mkdir upper work once upper2 work2 twice
        mount -t overlay none -o lowerdir={root.path},upperdir=upper,workdir=work once
        mount -t overlay none -o lowerdir=once,upperdir=upper2,workdir=work2 twice
        cd /
    """
    arguments = ("run", f"dir:{mounts.place}/twice", "-e", "/touch", "-o", f"docker-archive:{root.output}")
    fails(mounts.run(nested, *arguments), 7, "overlayfs: ")
    assert not root.output.exists()


@pytest.mark.parametrize(
    ("call", "number"), [("seccomp", errno.ENOSYS), ("seccomp", errno.EINVAL), ("ptrace", errno.EPERM)]
)
def test_call_that_the_kernel_refuses_is_named(root: Root, call: str, number: int) -> None:
    """As a kernel without the call, one without the filter's listener, and one that an engine's filter guards answer."""
    without = [sys.executable, "-c", WITHOUT_A_CALL, SYSTEM_CALLS[platform.machine()][call], number]
    lacking(without, root, call, os.strerror(number))


# Results that cannot go where they should.


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """What may be there already; it stays as it is."""
    place = tmp_path / "places"
    for name in ("directory", "layout", "read-only"):
        (place / name).mkdir(parents=True)
    (place / "file").write_text("precious")
    (place / "directory/file").write_text("precious")
    (place / "dangling").symlink_to("none/file")
    Layout(place / "a-layout")
    before = sorted(place.rglob("*"))
    yield place
    assert sorted(place.rglob("*")) == before
    assert {(place / name).read_text() for name in ("file", "directory/file")} == {"precious"}


def run_with_probe(mounts: Mounts, root: Root, places: Path, *options: str, **environment: str) -> tuple[Finished, bool]:
    """A run of a service with a probe; and whether it has come to the probe."""
    read_only = f"mount --bind {places}/read-only {places}/read-only; mount -o remount,bind,ro {places}/read-only"
    sign = places.parent / "ran"
    probe = ("--probe", f"touch {sign}", "--wait", "0")
    finished = mounts.run(
        read_only, "run", f"dir:{root.path}", "-e", "/service foreground 8080", *probe, *options, **environment
    )
    return finished, sign.exists()


@pytest.mark.parametrize(
    "output",
    [
        "docker-archive:{}/directory", "docker-archive:{}/none/out", "docker-archive:{}/read-only/out",
        "docker-archive:{}/file/out", "docker-archive:{}/dangling", "oci-archive:{}/none/out", "oci:{}/directory",
        "oci:{}/file", "oci:{}/none/out", "oci:{}/read-only/out", "oci:{}/file/out", "dir:{}/none",
    ],
)  # fmt: skip
def test_place_that_cannot_be_written_is_refused_before_anything_runs(
    mounts: Mounts, root: Root, places: Path, output: str
) -> None:
    reference = output.format(places)
    finished, ran = run_with_probe(mounts, root, places, "-o", reference, "--force")
    assert not ran
    fails(finished, 2, reference.partition(":")[2])


@pytest.mark.parametrize("output", ["docker-archive:{}/file", "oci-archive:{}/file", "oci:{}/a-layout"])
def test_result_that_is_there_is_refused_before_anything_runs(
    mounts: Mounts, root: Root, places: Path, output: str
) -> None:
    reference = output.format(places)
    finished, ran = run_with_probe(mounts, root, places, "-o", reference)
    assert not ran
    fails(finished, 2, reference.partition(":")[2], "exists already", "--force")


@pytest.mark.parametrize("report", ["{}/directory", "{}/none/report", "{}/read-only/report", "{}/file/report"])
def test_report_that_cannot_be_written_is_refused_before_anything_runs(
    mounts: Mounts, root: Root, places: Path, report: str
) -> None:
    path = report.format(places)
    finished, ran = run_with_probe(mounts, root, places, "-o", f"docker-archive:{root.output}", "--report", path)
    assert not ran
    fails(finished, 2, path)
    assert not root.output.exists()


def test_engine_that_does_not_answer_is_told_before_anything_runs(mounts: Mounts, root: Root, places: Path) -> None:
    nowhere = f"unix://{places}/none.sock"
    finished, ran = run_with_probe(mounts, root, places, "-o", "tool:result", DOCKER_HOST=nowhere)
    assert not ran
    fails(finished, 7, nowhere)


def test_place_that_can_be_written_is(mounts: Mounts, root: Root, places: Path) -> None:
    """So the refusals above are not for another reason."""
    finished, ran = run_with_probe(mounts, root, places, "-o", f"docker-archive:{root.output}")
    assert finished.code == 0, finished.stderr
    assert ran
    assert root.output.exists()


# Probes that fail.


@pytest.fixture
def service(root: Root, engine: docker.DockerClient, tmp_path: Path) -> Iterator[str]:
    """An image in the engine that is a service, and says so."""
    program = (root.path / "service").read_bytes()
    made = layer(tmp_path / "layer.tar", member("service", program, mode=0o755))
    config = {"Cmd": ["/service", "foreground", "8080"]}
    engine.images.load(docker_archive(tmp_path / "image.tar", {"tool:service": [made]}, config).read_bytes())
    yield "tool:service"
    for name in ("tool:service", "tool:service-stripped"):
        try:
            engine.images.remove(name)
        except docker.errors.ImageNotFound:
            continue


@pytest.mark.parametrize("options", [("--probe", "echo what went wrong; exit 7"), ("--probe", "true", "--probe", "@{}")])
def test_probe_that_fails_on_the_original_shows_its_output_and_nothing_is_published(
    tracestrip: Command, engine: docker.DockerClient, service: str, tmp_path: Path, options: tuple[str, ...]
) -> None:
    script = tmp_path / "probe.sh"
    script.write_text("echo what went wrong >&2\nexit 7\n")
    before = {tag for image in engine.images.list() for tag in image.tags}
    finished = tracestrip("run", service, *(word.format(script) for word in options), "--probe-timeout", "0.5")
    fails(finished, 5, options[-1].format(script), "exit code 7", "original")
    assert "  | what went wrong" in finished.stderr
    assert {tag for image in engine.images.list() for tag in image.tags} == before
    assert f"{service}-stripped" not in before


def test_probe_that_fails_shows_what_the_target_wrote(root: Root) -> None:
    probe = "curl -fsS localhost:8080/data/none"
    finished = root.run("/service foreground 8080", "--probe", probe, "--probe-timeout", "0.5")
    fails(finished, 5, probe, "original")
    shown = [line.removeprefix("  | ") for line in finished.stderr.splitlines() if line.startswith("  | ")]
    assert "404" in shown[0]
    assert shown[1] == "the target wrote last:"
    assert shown[2] == "/data/none: 404 None"
    assert not root.output.exists()
