"""Targets of every kind, stripped by the command line: how it ends, what stays, and that nothing goes on running."""

import platform
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from tests.conftest import Command, fails
from tests.images import stripped_layer
from tests.layers import Member, docker_archive, layer, member
from tests.stripping import Compile, Root

MUSL = ("-specs", f"/usr/lib/{platform.machine()}-linux-musl/musl-gcc.specs")
CAP_DAC_OVERRIDE = b"\x01\x00\x00\x02\x02\x00\x00\x00" + bytes(12)
"""As `setcap cap_dac_override+ep` writes it: struct vfs_cap_data of linux/capability.h."""

UNCONFINED = ("--security-opt", "seccomp=unconfined")
"""Namespaces and mounts of its own are for a target that Docker's seccomp rules do not hold."""

x86_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="only these processors run i386 programs")


@pytest.fixture
def root(tracestrip: Command, compiled: Compile, tmp_path: Path) -> Root:
    return Root(tracestrip, compiled, tmp_path)


def get(*paths: str) -> tuple[str, ...]:
    """Options: one probe for each path."""
    return tuple(word for path in paths for word in ("--probe", f"curl -fsS localhost:8080{path} >/dev/null"))


# It cannot start.


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("absent", ("execute absent", "No such file")),
        ("/bin/absent", ("execute /bin/absent", "No such file")),
        ("/bin/plain", ("execute /bin/plain", "Permission denied")),
        ("/bin", ("execute /bin", "Permission denied")),
        ("/bin/script", ("execute /bin/script", "No such file")),
        ("/bin/dynamic", ("execute /bin/dynamic", "No such file")),
        ("/bin/garbage", ("execute /bin/garbage", "Exec format error")),
    ],
)
def test_command_that_cannot_be_executed_is_named(root: Root, command: str, words: tuple[str, ...]) -> None:
    """Neither the image's `#!` interpreter nor its loader is there."""
    root.files("bin/plain")
    root.file("bin/script", "#!/bin/nothing\n", 0o755)
    root.file("bin/garbage", "\x7fELF and no more", 0o755)
    root.program("touch", "-pie", at="bin/dynamic")
    fails(root.run(command, "--env", "PATH=/bin"), 4, *words)
    assert not root.output.exists()


# It ends by itself, or never gets ready.


@pytest.mark.parametrize(
    ("how", "words"), [("fault", "signal 11"), ("abort", "signal 6"), ("killed", "signal 9"), ("3", "exit code 3")]
)
def test_end_of_the_target_is_told_with_its_last_output(root: Root, how: str, words: str) -> None:
    root.program("fails")
    finished = root.run(f"/fails {how}", *get("/"))
    fails(finished, 4, words)
    shown = [line.removeprefix("  | ") for line in finished.stderr.splitlines() if line.startswith("  | ")]
    assert shown[-3:] == ["line 9999", "", "the last words"]
    assert 100 < len(shown) < 1000
    assert not root.output.exists()


def test_target_that_ends_before_its_probes_shows_its_output(root: Root) -> None:
    root.program("fails")
    finished = root.run("/fails 0", *get("/"))
    fails(finished, 4, "ended before the probes")
    assert "  | the last words" in finished.stderr
    assert not root.output.exists()


def test_target_that_dies_during_a_probe_is_not_the_probes_fault(root: Root) -> None:
    root.program("service")
    fails(root.run("/service foreground 8080", *get("/killed")), 4, "signal 9")
    assert not root.output.exists()


def test_service_that_listens_elsewhere_than_its_image_says_is_never_ready(root: Root, tmp_path: Path) -> None:
    made = layer(tmp_path / "layer.tar", member("service", root.built("service", "-static"), mode=0o755))
    config = {"ExposedPorts": {"9090/tcp": {}}}
    source = docker_archive(tmp_path / "image.tar", {"target:ports": [made]}, config)
    options = ("--probe-timeout", "0.5")
    fails(root.run("/service foreground 8080", *options, source=f"docker-archive:{source}"), 5, "not ready", "9090/tcp")
    assert not root.output.exists()
    assert root.kept("/service foreground 9090", *options, source=f"docker-archive:{source}") == {"service"}


# Processes of every kind.


@pytest.mark.parametrize("how", ["foreground", "daemon", "untraced"])
def test_service_is_followed_and_ended_however_it_goes_into_the_background(root: Root, how: str) -> None:
    root.program("service")
    root.files("data/first", "data/second", "data/unused")
    kept = root.kept(f"/service {how} 8080", *get("/data/first", "/data/second"), "--stop-timeout", "60")
    assert kept == {"service", "data/first", "data/second"}


def test_target_that_ignores_its_stop_signal_gets_its_grace_and_is_killed(root: Root) -> None:
    """What it uses after the signal counts; what it would do after the grace it cannot."""
    root.program("service")
    root.files("data/late")
    finished = root.run("/service stubborn 8080", "--stop-timeout", "1.5")
    assert finished.code == 0, finished.stderr
    assert 1.5 < finished.seconds < 10
    assert "data/late" in stripped_layer(root.output)


def test_target_that_stopped_itself_does_not_hang_the_run(root: Root) -> None:
    """A stopped process does not even take SIGTERM."""
    root.program("service")
    finished = root.run("/service stopped 8080", "--stop-timeout", "0.5")
    assert finished.code == 0, finished.stderr
    assert finished.seconds < 10


def test_stops_and_continuations_of_processes_work(root: Root) -> None:
    root.program("stops")
    root.files("data/file")
    assert root.kept("/stops /data/file") == {"stops", "data/file"}


def test_files_of_2000_processes_and_2000_threads_are_all_kept(root: Root) -> None:
    names = {f"data/{kind}{number}" for kind in ("fork", "thread") for number in range(2000)}
    root.program("many")
    root.program("touch", at="bin/cat")
    root.files(*names, "data/vfork", "data/spawn", "data/fork2000", "data/unused")
    kept = root.kept("/many /data /data/vfork /data/spawn")
    assert kept == names | {"many", "bin/cat", "data/vfork", "data/spawn"}


@pytest.mark.parametrize("way", ["fork", "vfork", "spawn", "clone3", "untraced-fork", "thread", "descriptor", "directory"])
def test_program_is_recorded_however_it_is_started(root: Root, way: str) -> None:
    """Docker's rules have no clone3(2) for programs, which fall back; without them they use it."""
    root.program("starts")
    root.program("starts", at=f"bin/{way}")
    root.program("starts", at="bin/unused")
    root.files(f"data/{way}", "data/unused")
    assert root.kept(f"/starts {way}", *(UNCONFINED if way == "clone3" else ())) == {"starts", f"bin/{way}", f"data/{way}"}
    root.works("/starts", way)


def test_program_is_recorded_when_it_executes_itself(root: Root) -> None:
    """By /proc/self/exe; /bin/self is not there."""
    root.program("starts", at="usr/bin/starts")
    root.files("data/self", "data/unused")
    (root.path / "bin").mkdir()
    (root.path / "bin/starts").symlink_to("/usr/bin/starts")
    assert root.kept("/bin/starts self") == {"bin/starts", "usr/bin/starts", "data/self"}
    root.works("/bin/starts", "self")


@pytest.mark.parametrize("way", ["script", "script-descriptor"])
def test_scripts_keep_each_interpreter_of_their_chain(root: Root, way: str) -> None:
    root.program("starts")
    root.program("starts", at="usr/bin/interpreter")
    root.file(f"bin/{way}", "#!/bin/inner\n", 0o755)
    root.file("bin/inner", "#! /bin/interpreter -x\n", 0o755)
    (root.path / "bin/interpreter").symlink_to("/usr/bin/interpreter")
    root.files(f"data/{way}", "bin/unused")
    kept = root.kept(f"/starts {way}")
    assert kept == {"starts", f"bin/{way}", "bin/inner", "bin/interpreter", "usr/bin/interpreter", f"data/{way}"}


def test_program_without_a_name_keeps_what_it_needs(root: Root) -> None:
    """Out of a memfd; the kernel opens its loader with no call."""
    root.program("disguised", at="bin/disguised")
    root.file("usr/bin/true")
    (root.path / "usr/bin/true").write_bytes(Path("/usr/bin/true").read_bytes())
    libraries = root.libraries(Path("/usr/bin/true"))
    assert root.kept("/bin/disguised /usr/bin/true") == {"bin/disguised", "usr/bin/true", *libraries}
    root.works("/bin/disguised", "/usr/bin/true")


@pytest.mark.parametrize("way", ["hidden", "untraced-hidden"])
def test_program_that_only_memory_has_keeps_its_loader(root: Root, way: str) -> None:
    """No file of the image is an ELF file that names it, and no call opens it."""
    root.program("starts")
    root.program("touch", *MUSL, at=f"bin/{way}")
    program = root.path / "bin" / way
    program.write_bytes(bytes(byte ^ 0xFF for byte in program.read_bytes()))
    loader = root.musl()
    root.files(f"data/{way}", "data/unused")
    assert root.kept(f"/starts {way}") == {"starts", f"bin/{way}", f"data/{way}", loader}
    root.works("/starts", way)


# Names.


def test_files_that_are_renamed_removed_or_replaced_later_stay_as_they_were(root: Root) -> None:
    names = {f"data/{name}" for name in ("renamed", "deleted", "directory/deleted", "moved", "linked", "replaced", "truncated")}
    root.program("replaced")
    root.files(*names, "data/unused")
    assert root.kept("/replaced") == names | {"replaced"}
    place = root.unpacked()
    assert all((place / name).read_text() == name for name in names)
    root.works("/replaced")


def test_relative_names_descriptors_and_roots_lead_to_the_right_files(root: Root) -> None:
    """Beside each of them lies a file that the same name would mean elsewhere."""
    names = ("at", "relative", "linked", "caf\udce9\n", "edge", "how", "renamed")
    root.program("paths")
    root.files(*(f"top/{name}" for name in names), "top/jail/inside")
    root.files(*names, "inside", "top/inside", "top/jail/at")
    (root.path / "top/directory").mkdir()
    assert root.kept("/paths /top") == {"paths", "top/jail/inside", *(f"top/{name}" for name in names)}
    assert {"top", "top/directory", "top/jail"} <= set(stripped_layer(root.output))
    root.works("/paths", "/top")


def test_names_below_mounts_of_the_target_lead_to_the_images_files(root: Root) -> None:
    names = {f"data/from/{name}" for name in ("absolute", "deep/descriptor", "deep/relative")}
    root.program("bound")
    root.files(*names, "data/from/unused")
    (root.path / "data/to").mkdir()
    assert root.kept("/bound", *UNCONFINED) == names | {"bound"}
    assert stripped_layer(root.output)["data/to"].isdir()


@pytest.mark.parametrize("options", [(), UNCONFINED], ids=["confined", "unconfined"])
def test_io_uring_is_refused_and_its_users_fall_back(root: Root, options: tuple[str, ...]) -> None:
    """What a ring opens could not be seen."""
    root.program("ring")
    root.files("data/file", "data/unused")
    assert root.kept("/ring /data/file", *options) == {"ring", "data/file"}


# Programs of every kind.


@x86_only
def test_32_bit_program_keeps_its_own_loader_and_libraries(root: Root, compiled: Compile) -> None:
    program = compiled("touch", "-m32")
    libraries = root.libraries(program)
    assert any("ld-linux.so.2" in name for name in libraries)
    assert any("lib32" in name or "i386" in name for name in libraries)
    root.libraries(Path("/usr/bin/true"))  # those of the other kind
    root.file("etc/ld.so.cache")
    (root.path / "etc/ld.so.cache").write_bytes(Path("/etc/ld.so.cache").read_bytes())
    root.program("touch", "-m32", at="bin/touch")
    root.files("data/file", "data/unused")
    assert root.kept("/bin/touch /data/file") == {"bin/touch", "data/file", "etc/ld.so.cache", *libraries}
    root.works("/bin/touch", "/data/file")


@x86_only
def test_old_calls_of_a_64_bit_program_are_recorded(root: Root) -> None:
    root.program("old-open", "-static", "-no-pie")
    root.files("data/file", "data/unused")
    assert root.kept("/old-open /data/file") == {"old-open", "data/file"}


@pytest.mark.parametrize("flags", [("-static",), ("-static-pie",), ("-static", *MUSL)])
def test_static_program_keeps_nothing_but_what_it_opens(root: Root, flags: tuple[str, ...]) -> None:
    root.program("touch", *flags, at="bin/touch")
    root.files("data/file", "data/unused", "etc/ld.so.cache")
    root.libraries(Path("/usr/bin/true"))
    assert root.kept("/bin/touch /data/file") == {"bin/touch", "data/file"}
    root.works("/bin/touch", "/data/file")


def test_musl_programs_keep_musls_loader_and_the_libraries_that_it_names(root: Root, compiled: Compile) -> None:
    """One program runs, the other is only included: where its library lies is known to musl's own loader."""
    loader, configuration = root.musl(), f"etc/ld-musl-{platform.machine()}.path"
    root.file(configuration, "/lib:/opt/own")
    for name in ("run", "included"):
        library = root.path / f"opt/own/lib{name}.so"
        library.parent.mkdir(parents=True, exist_ok=True)
        compiled("library", "-shared", "-fPIC", f"-Wl,-soname,lib{name}.so", *MUSL).rename(library)
        root.program("uses-library", str(library), *MUSL, at=f"bin/{name}")
    root.files("data/own", "data/unused", "opt/own/unused", "bin/unused")
    both = {"bin/run", "bin/included", "opt/own/librun.so", "opt/own/libincluded.so"}
    assert root.kept("/bin/run", "--include", "/bin/included") == both | {loader, configuration, "data/own"}
    root.works("/bin/run")
    root.works("/bin/included")


def test_included_program_keeps_what_its_loader_finds_libraries_by(root: Root, compiled: Compile) -> None:
    """Nothing that runs needs ld.so.cache, which alone says where the included program's library lies."""
    root.program("touch")
    library = root.path / "opt/own/libown.so"
    library.parent.mkdir(parents=True)
    compiled("library", "-shared", "-fPIC", "-Wl,-soname,libown.so").rename(library)
    root.program("uses-library", str(library), at="bin/included")
    root.libraries(Path("/usr/bin/true"))
    root.file("etc/ld.so.conf", "/opt/own\n")
    root.files("data/own")
    subprocess.run(["ldconfig", "-r", root.path], check=True)
    assert "opt/own/libown.so" in root.kept("/touch", "--include", "/bin/included", "--include", "/data/own")
    root.works("/bin/included")


def test_programs_in_go_and_rust_work_when_stripped(root: Root, archive: Callable[[str], Path]) -> None:
    commands = ("/usr/bin/fzf --version", "/usr/bin/rg -j4 root /etc/passwd /etc/group", "/bin/busybox find /etc/default")
    kept = root.kept(f"/bin/busybox sh -c '{' && '.join(commands)}'", source=f"docker-archive:{archive('programs')}")
    assert len(kept) < 40
    for command in commands:
        root.works(*command.split())


# Rights.


@contextmanager
def loaded(engine: docker.DockerClient, archive: Path) -> Iterator[str]:
    """The image of a docker-archive, in the engine."""
    (image,) = engine.images.load(archive.read_bytes())
    try:
        yield str(image.id)
    finally:
        for tag in image.tags:
            engine.images.remove(tag)


def user_image(place: Path, *members: Member) -> str:
    part = layer(place / "layer.tar", *members, member("etc/passwd", b"user:x:1000:1000::/:/bin/none\n"))
    return f"docker-archive:{docker_archive(place / 'image.tar', {'target:rights': [part]}, {'User': 'user'})}"


def test_setuid_helper_of_an_ordinary_user_works(
    root: Root, engine: docker.DockerClient, tmp_path: Path
) -> None:
    program = root.built("raised", "-static")
    source = user_image(
        tmp_path, member("start", program, mode=0o711), member("helper", program, mode=0o4711),
        member("secret", b"secret", mode=0o600), member("unused", b"secret", mode=0o600),
    )  # fmt: skip
    assert root.kept("/start", source=source) == {"start", "helper", "secret", "etc/passwd"}
    kept = stripped_layer(root.output)
    assert [stat.S_IMODE(kept[name].mode) for name in ("start", "helper", "secret")] == [0o711, 0o4711, 0o600]
    with loaded(engine, root.output) as image:
        engine.containers.run(image, remove=True)


def test_file_capabilities_of_a_program_work(
    root: Root, engine: docker.DockerClient, tmp_path: Path
) -> None:
    program = root.built("touch", "-static")
    xattr = {"SCHILY.xattr.security.capability": CAP_DAC_OVERRIDE.decode("utf-8", "surrogateescape")}
    source = user_image(
        tmp_path, member("capable", program, mode=0o755, pax_headers=xattr), member("plain", program, mode=0o755),
        member("secret", b"secret", mode=0o600),
    )  # fmt: skip
    fails(root.run("/plain /secret", source=source), 4, "exit code 1")
    assert root.kept("/capable /secret", source=source) == {"capable", "secret", "etc/passwd"}
    assert xattr.items() <= stripped_layer(root.output)["capable"].pax_headers.items()
    with loaded(engine, root.output) as image:
        engine.containers.run(image, remove=True)


# Much output.


@pytest.mark.parametrize("code", [0, 3])
def test_a_gigabyte_of_output_takes_bounded_memory(root: Root, code: int) -> None:
    root.program("fails")
    finished = root.run(f"/fails {code} 1000")
    assert finished.code == (4 if code else 0), finished.stderr
    assert finished.peak_memory < 150 * 10**6
    assert len(finished.stderr) < 5000
    assert ("  | the last words" in finished.stderr) == bool(code)
