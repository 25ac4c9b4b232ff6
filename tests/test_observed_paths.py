"""What a path means to the process that names it, at that time."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TOP, Command
from tests.observing import Compile, kinds, observed, resolved
from tracestrip.observer.client import Sandbox
from tracestrip.observer.job import Job


def test_paths_are_what_the_process_means(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    names = (b"at", b"relative", b"linked", b"caf\xe9\n", b"edge", b"how", b"renamed")
    top = os.fsencode(tmp_path / "top")
    os.mkdir(top)
    os.mkdir(top + b"/directory")
    os.mkdir(top + b"/jail")
    for name in (*names, b"jail/inside"):
        with open(top + b"/" + name, "wb"):
            pass
    observation = observed(sandbox, compiled("paths"), tmp_path / "top")
    for name in (b"at", b"relative", b"made", b"caf\xe9\n", b"how", b"jail/inside"):
        assert "opened" in kinds(observation, top + b"/" + name), name
    assert top + b"/linked" in resolved(observation)
    assert kinds(observation, top + b"/edge") == {"checked"}
    assert kinds(observation, top + b"/socket") == {"created"}
    assert kinds(observation, top + b"/directory/new") == {"created"}
    assert kinds(observation, top + b"/renamed") == {"renamed"}


def test_one_name_that_leads_to_one_file_after_the_other(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "x/file", "y/file")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    observation = observed(sandbox, compiled("moving"), tmp_path)
    assert {os.fsencode(file) for file in files} <= resolved(observation)


def test_links_of_proc_moved_names_and_odd_ones(host_job: Job, compiled: Compile, tmp_path: Path) -> None:
    top = tmp_path / "top"
    files = [
        "one", "directory/two", "directory/three", "directory/four", "directory/five", "six", "seven", "other/eight", "nine",
        "ten", "lasting", "turned/file", "renamed", "linked", "across-pages", "long", "remote/beside-far", "remote/far/file",
        "moved-directory/file", "directory/same", "other/same", "by-first", "by-second",
    ]  # fmt: skip
    for name in files:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    (top / "lasting-link").symlink_to("lasting")
    (top / "first-link").symlink_to("by-first")
    (top / "second-link").symlink_to("by-second")
    (top / "far").symlink_to("remote/far")
    compiled("places", "-static").rename(top / "places")
    with Sandbox(replace(host_job, layers=(str(top),))) as sandbox:
        observation = observed(sandbox, "/places", "/")
    seen = resolved(observation)
    not_opened = {"linked", "renamed", "remote/far/file", "moved-directory/file"}
    assert not {b"/" + name.encode() for name in files if name not in not_opened} - seen
    assert kinds(observation, "/linked") >= {"linked"}
    assert kinds(observation, "/renamed") == {"renamed"}
    (made,) = [use for use in observation.uses if use.path == b"/made-link" and use.kind == "opened"]
    assert (made.links, made.resolved) == ((b"/made-link", b"/lasting-link"), b"/lasting")


@pytest.mark.parametrize("flags", [(), ("-m32",)])
def test_unix_sockets_by_every_call(flags: tuple[str, ...], sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    observation = observed(sandbox, compiled("sockets", *flags), tmp_path / "here")
    connected = {os.path.basename(use.path) for use in observation.uses if use.kind == "connected"}
    assert connected == {b"connected", b"sent", b"message", b"first", b"second"} | ({b"old"} if flags else set())
    assert kinds(observation, tmp_path / "here/old") >= {"created"}


def test_mounts_of_its_own(unconfined: Sandbox, tmp_path: Path) -> None:
    """A target with a user namespace binds a directory to another place: the file's place in the image counts."""
    for name in ("from/file", "from/deep/file", "to/none", "jail/none"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    script = (
        f"mount --bind {tmp_path}/from {tmp_path}/to && cat {tmp_path}/to/file && cd {tmp_path}/to/deep && cat file && "
        f"mount -t tmpfs none {tmp_path}/jail && mkdir {tmp_path}/jail/usr && mount --rbind /usr {tmp_path}/jail/usr && "
        f"cat {tmp_path}/jail/usr/lib/os-release"
    )
    observation = observed(unconfined, "/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script)
    wanted = {os.fsencode(tmp_path / "from/file"), os.fsencode(tmp_path / "from/deep/file"), b"/usr/lib/os-release"}
    assert not wanted - resolved(observation)


def test_kept_set_of_a_root_of_its_own(tracestrip: Command, compiled: Compile, tmp_path: Path) -> None:
    """In chroot(2) an absolute symlink leads below the new root, not to the image's own."""
    root = tmp_path / "root"
    for name in ("jail/real", "real", "jail/lib"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "jail/link").symlink_to("/../real")
    compiled("jailed", "-static").rename(root / "jailed")
    output = tmp_path / "out.tar"
    finished = tracestrip("run", f"dir:{root}", "-e", "/jailed", "-o", f"docker-archive:{output}", "--format", "json",
                          "--report", tmp_path / "report")  # fmt: skip
    assert finished.code == 0, finished.stderr
    kept = {one["path"] for one in json.loads((tmp_path / "report").read_text())["kept"]}
    assert {"/jail/link", "/jail/real"} <= kept
    assert "/real" not in kept


@pytest.mark.parametrize("flags", [(), ("-m32",)])
def test_directories_whose_entries_are_read(
    flags: tuple[str, ...], unconfined: Sandbox, compiled: Compile, tmp_path: Path
) -> None:
    """By their own names, when they are read; what is no directory, or none any more, does no harm."""
    calls = ["getdents", "getdents64", *(["readdir"] if flags else [])]
    for name in (*calls, "opened", "deleted"):
        (tmp_path / "top" / name).mkdir(parents=True)
    (tmp_path / "top/link").symlink_to("getdents")
    observation = observed(unconfined, compiled("lists", *flags), tmp_path / "top")
    listed = {use.path: use.resolved for use in observation.uses if use.kind == "listed"}
    wanted = {os.fsencode(tmp_path / "top" / name) for name in (*calls, "after")}
    assert {path: end for path, end in listed.items() if path.startswith(os.fsencode(tmp_path))} == {
        path: path for path in wanted
    }
    assert all(path.startswith(b"/") for path in listed)
    assert kinds(observation, tmp_path / "top/opened") == {"opened"}


def test_a_directory_that_ls_shows_is_listed_and_one_that_is_looked_up_is_not(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "shown/deep").mkdir(parents=True)
    (tmp_path / "looked-up").mkdir()
    script = f"test -d {tmp_path}/looked-up && cd {tmp_path}/shown && ls"
    observation = observed(sandbox, "/bin/sh", "-c", script)
    assert {use.path for use in observation.uses if use.kind == "listed"} == {os.fsencode(tmp_path / "shown")}
    assert kinds(observation, tmp_path / "looked-up") == {"checked"}


@pytest.mark.parametrize("seed", range(8))
def test_random_moves_in_a_tree(seed: int, sandbox: Sandbox, tmp_path: Path) -> None:
    """Whatever is moved, linked and entered: the file that an open reached is the one that was noted."""
    top = tmp_path / "top"
    for name in ("a/b/c", "b/a", "c/d/e"):
        (top / name).mkdir(parents=True)
    for name in ("e", "a/a", "c/b"):
        (top / name).touch()
    (top / "d").symlink_to("a")
    (top / "a/e").symlink_to("../c")
    program = TOP / "tests" / "programs" / "wander.py"
    result = sandbox.run([sys.executable, "-S", "-E", str(program), str(seed), str(top), "3000"], 60)
    assert result.status == 0, result.output
    opened = {tuple(line.split(b"\t")) for line in result.output.split(b"\n")}
    assert len(opened) > 100
    assert not opened - {(use.path, use.resolved) for use in sandbox.stop(15, 5).uses}
