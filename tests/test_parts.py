"""References, configs, docker-archives, globs, the kept set, interpreters, the table of calls, accounts, scratch."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import TOP
from tests.layers import directory, member, symlink, tree
from tracestrip.errors import ImageError, TargetError, UsageError
from tracestrip.image.config import Config
from tracestrip.image.image import LayerDirectory
from tracestrip.image.reference import Reference, parse_reference, stripped_name
from tracestrip.keep.elf import needed_libraries
from tracestrip.keep.keepset import KeepSet
from tracestrip.keep.patterns import fits, matches
from tracestrip.keep.rules import exclude, include
from tracestrip.observer.interpreters import interpreters
from tracestrip.observer.syscalls import AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, calls_of
from tracestrip.observer.wire import Observation, Process, Use
from tracestrip.rootfs.accounts import find_account
from tracestrip.rootfs.directory_tree import DirectoryTree
from tracestrip.rootfs.walk import walk
from tracestrip.scratch import scratch_directory
from tracestrip.whole_file import whole_file


@pytest.mark.parametrize(
    ("text", "transport", "path", "name"),
    [
        ("httpd", "docker-daemon", None, "httpd:latest"),
        ("fixture:httpd", "docker-daemon", None, "fixture:httpd"),
        ("localhost:5000/a/b", "docker-daemon", None, "localhost:5000/a/b:latest"),
        ("localhost:5000/a/b:c", "docker-daemon", None, "localhost:5000/a/b:c"),
        ("docker-daemon:a:b", "docker-daemon", None, "a:b"),
        ("docker-archive:/x/y.tar", "docker-archive", "/x/y.tar", None),
        ("docker-archive:y.tar:a:b", "docker-archive", "y.tar", "a:b"),
        ("docker-archive:y.tar:@3", "docker-archive", "y.tar", "@3"),
        ("oci:y", "oci", "y", None),
        ("oci:/x/y:v1.2", "oci", "/x/y", "v1.2"),
        ("oci-archive:y.tar:docker.io/library/a:b", "oci-archive", "y.tar", "docker.io/library/a:b"),
        ("dir:/", "dir", "/", None),
    ],
)
def test_references(text: str, transport: str, path: str | None, name: str | None) -> None:
    assert parse_reference(text) == Reference(transport, Path(path) if path else None, name)


@pytest.mark.parametrize("text", ["", "a b", "UPPER/..//x:", "docker-archive:", "oci:", "oci:x:-y", "docker://x/y", "-x"])
def test_bad_references(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


def test_image_named_by_digest_needs_a_name_for_the_result() -> None:
    with pytest.raises(UsageError, match="--tag"):
        stripped_name("a@sha256:" + "0" * 64)


def test_exposed_ports_with_ranges_and_protocols() -> None:
    ports = ("80/tcp", "53/udp", "9000-9001", "70000-99999999", "²")
    config = Config({"config": {"ExposedPorts": {port: {} for port in ports}}, "rootfs": {"diff_ids": []}})
    assert config.exposed_ports == {(80, "tcp"), (53, "udp"), (9000, "tcp"), (9001, "tcp")}


def test_config_of_wrong_shape_is_refused() -> None:
    wrong_env = b'{"rootfs": {"diff_ids": []}, "config": {"Env": "A=b"}}'
    for text in (b"[]", b"{", wrong_env, b'{"config": {}}', b'{"rootfs": null}', b"[" * 10**5):
        with pytest.raises(ImageError):
            Config.parse(text, "image")


def test_unfinished_output_does_not_appear(tmp_path: Path) -> None:
    def write_half() -> None:
        with whole_file(tmp_path / "out") as file:
            file.write(b"half")
            assert list(tmp_path.iterdir()) == []  # what a SIGKILL here would leave
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_output_into_a_pipe_or_through_a_symlink(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        with whole_file(path) as file:
            file.write(b"all")

    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        write(tmp_path / "pipe")
        assert reader.communicate()[0] == b"all"
    (tmp_path / "link").symlink_to("file")
    write(tmp_path / "link")
    assert (tmp_path / "file").read_bytes() == b"all"
    write(Path("/dev/null"))
    assert Path("/dev/null").is_char_device()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link", "pipe"]


def use(path: bytes, kind: str = "opened", *, follow: bool = True, creates: bool = False, resolved: bytes | None = None) -> Use:
    return Use(path, kind, follow, creates, resolved, Process(7, b"/bin/program"))


def test_uses_pass_the_socket_as_they_are() -> None:
    made = Use(b"/a\xff", "listed", False, True, b"/b", Process(7, b"/\xfe"), b"/r", (b"/l",), 12.5, "the stop")
    message = json.loads(json.dumps(made.to_message()))
    assert Use.from_message(message) == made


def kept(keep: KeepSet) -> dict[bytes, set[str]]:
    return {one.entry.path: {reason.rule for reason in one.reasons} for one in keep}


def test_use_keeps_symlinks_and_directories_on_the_way(tmp_path: Path) -> None:
    links = [symlink("usr/lib/x.so", "x.so.1"), symlink("lib", "usr/lib")]
    keep = KeepSet(tree(tmp_path, [member("usr/lib/x.so.1"), *links, member("other")]))
    keep.add_observation(Observation((use(b"/lib/x.so"),), 1), ())
    assert kept(keep) == {
        b"/": {"directory of"}, b"/lib": {"symlink to"}, b"/usr": {"directory of"}, b"/usr/lib": {"directory of"},
        b"/usr/lib/x.so": {"symlink to"}, b"/usr/lib/x.so.1": {"opened"},
    }  # fmt: skip


def test_symlinks_of_the_image_that_only_the_run_led_through_stay(tmp_path: Path) -> None:
    """/tmp/made is made by the run each time; it leads to /etc/link, and that to /etc/file."""
    keep = KeepSet(tree(tmp_path, [member("etc/file"), symlink("etc/link", "file"), member("etc/other")]))
    made = replace(use(b"/tmp/made", resolved=b"/etc/file"), links=(b"/tmp/made", b"/etc/link"))
    keep.add_observation(Observation((made,), 1), ())
    assert set(kept(keep)) == {b"/", b"/etc", b"/etc/file", b"/etc/link"}


def test_dot_after_a_symlink_follows_it(tmp_path: Path) -> None:
    view = tree(tmp_path, [directory("usr/lib"), symlink("lib", "usr/lib")])
    assert walk(view, b"/lib/.", follow=False).entry == view.entry(b"/usr/lib")
    assert walk(view, b"/lib/", follow=False).entry == view.entry(b"/usr/lib")
    assert walk(view, b"/lib", follow=False).entry == view.entry(b"/lib")


def test_failed_lookups_keep_nothing_but_new_names_keep_their_directory(tmp_path: Path) -> None:
    view = tree(tmp_path, [directory("run/lock"), symlink("var/lock", "/run/lock"), directory("etc/empty")])
    keep = KeepSet(view)
    keep.add_observation(Observation((use(b"/etc/empty/none"), use(b"/var/lock/new", "created", creates=True)), 2), ())
    assert set(kept(keep)) == {b"/", b"/run", b"/run/lock", b"/var", b"/var/lock"}
    assert kept(keep)[b"/run/lock"] == {"directory of"}


def test_links_into_mounts_stay_and_what_is_mounted_over_goes(tmp_path: Path) -> None:
    view = tree(tmp_path, [symlink("log", "/dev/stdout"), member("dev/null"), member("proc/x")])
    keep = KeepSet(view)
    keep.add_observation(Observation((use(b"/log", resolved=b"/dev/pts/0"), use(b"/dev/null"), use(b"/proc/x")), 3), ())
    assert set(kept(keep)) == {b"/", b"/log"}


def test_links_below_a_mount_are_not_the_images(tmp_path: Path) -> None:
    view = tree(tmp_path, [member("data/link/.keep"), symlink("mnt/link", "/secret"), member("secret"), symlink("way", "mnt")])
    keep = KeepSet(view)
    keep.add_observation(Observation((use(b"/mnt/link"), use(b"/way/link")), 2), (b"/mnt",))
    assert set(kept(keep)) == {b"/", b"/mnt", b"/way"}


def test_time_grows_with_the_uses(tmp_path: Path) -> None:
    """Of as many names in one directory, and as many ways through one symlink."""
    view = tree(tmp_path, [member("tmp/.keep"), symlink("link", "tmp")])
    uses = tuple(use(b"/link/%d" % number, "created", creates=True) for number in range(100_000))
    start = time.monotonic()
    KeepSet(view).add_observation(Observation(uses, len(uses)), ())
    assert time.monotonic() - start < 10


def test_link_that_the_run_made_keeps_what_it_led_to(tmp_path: Path) -> None:
    keep = KeepSet(tree(tmp_path, [member("real"), directory("tmp")]))
    keep.add_observation(Observation((use(b"/tmp/made", resolved=b"/real"),), 1), ())
    assert b"/real" in keep


def test_opened_only_leaves_out_what_was_looked_at(tmp_path: Path) -> None:
    view = tree(tmp_path, [member("seen"), member("read")])
    keep = KeepSet(view)
    keep.add_observation(Observation((use(b"/seen", "checked"), use(b"/read")), 2), (), frozenset({"opened"}))
    assert set(kept(keep)) == {b"/", b"/read"}


def test_globs(tmp_path: Path) -> None:
    view = tree(tmp_path, [member("etc/a.conf"), member("etc/d/b.conf"), member("etc/d/c"), symlink("link", "etc")])
    assert set(matches(view, b"/etc/*.conf")) == {b"/etc/a.conf"}
    assert {b"/etc/a.conf", b"/etc/d/b.conf"} <= set(matches(view, b"/etc/**/*.conf"))
    assert set(matches(view, b"/link/*.conf")) == {b"/etc/a.conf"}
    assert fits(b"/etc/d/c", b"/etc/**")
    assert fits(b"/etc/d/c", b"/**/c")
    assert not fits(b"/etc/d/c", b"/etc/*")
    deep, stars = b"/d" * 3000, b"/**" * 30
    assert fits(deep + b"/e", stars + b"/e")
    assert not fits(deep, stars + b"/e")
    keep = KeepSet(view)
    include(keep, view, b"/link/d")
    assert set(kept(keep)) == {b"/", b"/etc", b"/etc/d", b"/etc/d/b.conf", b"/etc/d/c", b"/link"}
    exclude(keep, view, b"/link/d")  # where the symlink leads, as with include
    assert set(kept(keep)) == {b"/", b"/etc", b"/link"}
    assert keep.excluded.keys() == {b"/etc/d", b"/etc/d/b.conf", b"/etc/d/c"}
    for bad in (b"relative", b"/none*"):
        with pytest.raises(UsageError):
            include(keep, view, bad)


def test_rules_for_symlinks_that_lead_nowhere_and_for_what_is_mounted_over(tmp_path: Path) -> None:
    view = tree(tmp_path, [symlink("etc/mtab", "/proc/mounts"), symlink("loop", "loop"), member("dev/null")])
    keep = KeepSet(view)
    include(keep, view, b"/etc/mtab")
    include(keep, view, b"/loop")
    assert set(kept(keep)) == {b"/", b"/etc", b"/etc/mtab", b"/loop"}
    with pytest.raises(UsageError, match="an engine mounts its own"):
        include(keep, view, b"/dev/null")


def test_excluding_takes_time_for_each_path_once(tmp_path: Path) -> None:
    view = tree(tmp_path, [member(f"d{number % 100}/{number}.pyc") for number in range(20_000)])
    keep = KeepSet(view)
    include(keep, view, b"/")
    start = time.monotonic()
    exclude(keep, view, b"/**/*.pyc")
    assert time.monotonic() - start < 5
    assert len(keep) == 101


def test_interpreter_chains() -> None:
    files = {b"/a": b"#! /b  -x\n", b"/b": b"#!/bin/sh\n", b"/bin/sh": Path("/bin/sh").read_bytes()[:4096]}
    found = interpreters(files[b"/a"], files.get)
    assert found[:2] == [b"/b", b"/bin/sh"]
    assert len(found) == 3
    assert os.path.exists(found[2])
    assert interpreters(b"#!\n", files.get) == []
    assert len(interpreters(b"#!/self\n", lambda _: b"#!/self\n")) == 6


def test_libraries_from_the_files_alone_are_ldds() -> None:
    """What needs no loader: curl's libraries, read by pyelftools, are those that ldd names."""
    view = DirectoryTree((LayerDirectory(Path("/")),))
    entry = view.entry(os.path.realpath(b"/usr/bin/curl"))
    assert entry is not None
    found = {os.path.realpath(path) for path in needed_libraries(view, entry, b"")}
    asked = subprocess.run(["ldd", "/usr/bin/curl"], capture_output=True, check=True).stdout
    assert found == {os.path.realpath(word) for word in asked.split() if word.startswith(b"/")}


@pytest.mark.parametrize(("architecture", "header"), [(AUDIT_ARCH_X86_64, "unistd_64.h"), (AUDIT_ARCH_I386, "unistd_32.h")])
def test_numbers_are_the_kernels(architecture: int, header: str) -> None:
    (file,) = Path("/usr/include").glob(f"*/asm/{header}")
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", file.read_text())}
    ours = {call.name: number for number, call in calls_of(architecture).items()}
    common = ours.keys() & numbers.keys()
    assert len(common) > 60
    assert {name: ours[name] for name in common} == {name: numbers[name] for name in common}


@pytest.mark.parametrize(
    ("user", "ids"),
    [("", (0, 0, ())), ("web", (33, 44, (55,))), ("33", (33, 44, (55,))), ("web:0", (33, 0, ())), ("99", (99, 0, ())),
     ("99:extra", (99, 55, ()))],
)  # fmt: skip
def test_users_are_the_images(tmp_path: Path, user: str, ids: tuple[int, int, tuple[int, ...]]) -> None:
    passwd = b"root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:44:web:/data:/bin/sh\n"
    view = tree(tmp_path, [member("etc/passwd", passwd), member("etc/group", b"root:x:0:\nweb:x:44:web\nextra:x:55:web\n")])
    account = find_account(view, user)
    assert (account.uid, account.gid, account.groups) == ids
    for unknown in ("nobody", "web:nogroup", "²"):
        with pytest.raises(TargetError):
            find_account(view, unknown)


def test_abandoned_scratch_directories_are_cleared_and_live_ones_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    program = "with scratch_directory() as place: print(place, flush=True); time.sleep(99)"
    command = [sys.executable, "-c", "import time; from tracestrip.scratch import *\n" + program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(TOP)}) as owner:
        assert owner.stdout is not None
        place = Path(owner.stdout.readline().strip())
        subprocess.run(["mkdir", "-p", place / "/".join("d" * 1500)], check=True)
        with scratch_directory() as other:
            assert place.exists()
        assert not other.exists()
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        time.sleep(0.01)
        with scratch_directory():
            assert not place.exists()


def test_a_file_that_gets_its_name_leaves_the_callers_signals_alone(tmp_path: Path) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with whole_file(tmp_path / "file") as file:
        file.write(b"x")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
