"""Static widening: what nothing used, but belongs to something; each path says by which rule it stayed."""

import json
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Finished, fails
from tests.images import stripped_layer
from tests.stripping import Root
from tracestrip.image.image import LayerDirectory
from tracestrip.keep.elf import finder, needed_libraries, read_dynamic
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.keep.widening import widen_directories, widen_packages
from tracestrip.rootfs.directory_tree import DirectoryTree
from tracestrip.rootfs.tree import Kind


@pytest.fixture
def root(tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path) -> Root:
    made = Root(tracestrip, compiled, tmp_path)
    made.program("touch", at="usr/bin/touch")
    made.file("usr/bin/other")
    made.file("usr/share/tool/data")
    made.file("usr/share/doc/tool/README")
    made.file("usr/share/man/man1/tool.1")
    made.file("etc/tool.conf")
    made.file("usr/bin/foreign")
    (made.path / "bin").symlink_to("usr/bin")
    paths = "/.\n/bin\n/bin/touch\n/usr/bin/other\n/usr/share/tool/data\n/usr/share/doc/tool/README\n/etc/tool.conf\n"
    made.file("var/lib/dpkg/info/tool.list", paths + "/usr/share/man/man1/tool.1\n/usr/share/none\n")
    made.file("var/lib/dpkg/info/foreign.list", "/usr/bin/foreign\n")
    return made


def reasons(root: Root, command: str, *options: object) -> dict[str, list[dict[str, Any]]]:
    """Path → why it stayed."""
    report = root.path.parent / "report.json"
    finished = root.run(command, "--report", report, *options)
    assert finished.code == 0, finished.stderr
    return {kept["path"]: kept["reasons"] for kept in json.loads(report.read_text())["kept"]}


def test_whole_package(root: Root) -> None:
    kept = reasons(root, "/usr/bin/touch", "--keep-package", "tool")
    assert kept["/usr/bin/other"] == [{"rule": "package", "of": "tool"}]
    assert {"/usr/share/tool/data", "/usr/share/doc/tool/README", "/etc/tool.conf", "/bin"} <= kept.keys()
    assert "/usr/bin/foreign" not in kept


def test_package_that_is_not_there(root: Root, tracestrip: Command, tmp_path: Path) -> None:
    finished = root.run("/none", "--keep-package", "tol")
    assert finished.code == 2  # before anything runs
    assert "is it tool?" in finished.stderr
    (tmp_path / "bare").mkdir()
    fails(tracestrip("run", f"dir:{tmp_path}/bare", "-e", "/x", "-o", f"docker-archive:{tmp_path}/o", "--keep-package", "a"),
          2, "no database")  # fmt: skip


def test_packages_of_what_was_used(root: Root) -> None:
    kept = reasons(root, "/usr/bin/touch /etc/tool.conf", "--widen", "package")
    assert kept["/usr/bin/other"] == [{"rule": "widened package", "of": "tool"}]
    assert "/usr/share/tool/data" in kept
    assert not {"/usr/share/doc/tool/README", "/usr/share/man/man1/tool.1", "/usr/bin/foreign"} & kept.keys()


def test_directories_of_what_was_used(root: Root) -> None:
    kept = reasons(root, "/usr/bin/touch /usr/share/tool/data", "--widen", "directory")
    assert kept["/usr/bin/foreign"] == [{"rule": "widened directory", "of": "/usr/bin"}]
    assert not {"/etc/tool.conf", "/usr/share/doc/tool/README"} & kept.keys()


def test_widened_programs_get_their_libraries(root: Root) -> None:
    libraries = root.libraries(Path("/bin/ls"))
    shutil.copy("/bin/ls", root.path / "usr/bin/ls")
    kept = reasons(root, "/usr/bin/touch", "--widen", "directory")
    assert {"/" + name for name in libraries} <= kept.keys()


def test_what_only_widened_files_need_widens_nothing(tmp_path: Path) -> None:
    """However often: each round of repair completes what stays anew."""
    for name in ("bin/used", "bin/other", "lib/needed", "lib/more", "libexec/library", "libexec/neighbour", "data/a", "doc/b"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    tree = DirectoryTree((LayerDirectory(tmp_path),))
    keep = KeepSet(tree)
    keep.add_path(b"/bin/used", Reason("opened"))
    keep.add_path(b"/libexec/library", Reason("ldd of", b"/bin/used"))
    keep.add_path(b"/data/a", Reason("entry of", b"/data"))
    widen_directories(keep, tree)
    keep.add_path(b"/lib/needed", Reason("ldd of", b"/bin/other"))
    widen_directories(keep, tree)
    assert {path for path in keep.paths() if tree.entry(path).kind is Kind.FILE} == {
        b"/bin/used", b"/bin/other", b"/libexec/library", b"/libexec/neighbour", b"/lib/needed", b"/data/a",
    }  # fmt: skip
    packages = {"listed": (b"/data/a", b"/doc/b"), "needed": (b"/lib/needed", b"/lib/more")}
    widen_packages(keep, tree, packages)
    assert not {b"/doc/b", b"/lib/more"} & keep.paths()


def test_preset_of_directories_as_deep_as_there_may_be(root: Root) -> None:
    root.file("usr/share/zoneinfo/UTC")
    deep = f"{root.path}/usr/share/zoneinfo"
    for _ in range(1100):
        deep += "/d"
        os.mkdir(deep)
    Path(deep + "/UTC").write_text("x")
    try:
        assert deep.removeprefix(str(root.path)) + "/UTC" in reasons(root, "/usr/bin/touch", "--with", "timezones")
    finally:
        subprocess.run(["rm", "-rf", root.path], check=True)  # pytest's own clearing up is a recursion


def test_presets(root: Root) -> None:
    root.file("usr/share/zoneinfo/Europe/Berlin")
    (root.path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    root.file("usr/share/ca-certificates/mozilla/A.crt")
    (root.path / "etc/ssl/certs").mkdir(parents=True)
    (root.path / "etc/ssl/certs/A.pem").symlink_to("/usr/share/ca-certificates/mozilla/A.crt")
    root.program("touch", at="usr/bin/dash")
    (root.path / "usr/bin/sh").symlink_to("dash")
    root.file("lib/terminfo/x/xterm")
    root.file("usr/lib/x86_64-linux-gnu/libnss_files.so.2")
    root.file("etc/services")
    root.file("usr/lib/locale/C.utf8/LC_CTYPE")
    every = ("certs", "locales", "nss", "shell", "terminfo", "timezones")
    kept = reasons(root, "/usr/bin/touch", *(word for name in every for word in ("--with", name)))
    for path, preset in {
        "/usr/share/zoneinfo/Europe/Berlin": "timezones", "/etc/localtime": "timezones", "/usr/bin/dash": "shell",
        "/usr/share/ca-certificates/mozilla/A.crt": "certs", "/lib/terminfo/x/xterm": "terminfo", "/etc/services": "nss",
        "/usr/lib/x86_64-linux-gnu/libnss_files.so.2": "nss", "/usr/lib/locale/C.utf8/LC_CTYPE": "locales",
    }.items():  # fmt: skip
        assert any(reason.get("of") in (preset, None) or reason["rule"] == "symlink to" for reason in kept[path]), path
    assert {"/etc/ssl/certs/A.pem", "/usr/bin/sh"} <= kept.keys()
    assert any(reason == {"rule": "preset", "of": "certs"} for reason in kept["/usr/share/ca-certificates/mozilla/A.crt"])


def test_preset_that_the_image_has_nothing_of(root: Root) -> None:
    finished = root.run("/none", "--with", "certs")
    assert finished.code == 2
    assert "ca-certificates" in finished.stderr
    assert root.run("/usr/bin/touch", "--with", "nonsense").code == 2


def noted(place: Path, name: str, note: bytes) -> Path:
    """A library with a note `.note.dlopen`."""
    (place / "note").write_bytes(struct.pack("<III", 4, len(note), 0x407C0C0A) + b"FDO\0" + note + bytes(-len(note) % 4))
    section = f'.section .note.dlopen,"a",@note\n.align 4\n.incbin "{place}/note"\n'
    (place / "note.s").write_text(section + ".section .note.GNU-stack\n")
    library = place / name
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", library, place / "note.s"], check=True)
    return library


def test_dlopen_notes(root: Root, tmp_path: Path) -> None:
    """The first soname that is there counts, and what that says in its turn; a suggestion does not."""
    for name, entries in {
        "libuser.so": [
            {"soname": ["libnone.so.1", "libfirst.so.1", "libsecond.so.1"], "priority": "required"},
            {"soname": ["libthird.so.1"], "priority": "recommended", "feature": "x"},
            {"soname": ["libfourth.so.1"], "priority": "suggested"},
        ],
        "libfirst.so.1": [{"soname": ["libfifth.so.1"], "priority": "recommended"}],
        "libsecond.so.1": [], "libthird.so.1": [], "libfourth.so.1": [], "libfifth.so.1": [],
    }.items():  # fmt: skip
        target = root.path / "usr/lib" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(noted(tmp_path, name, json.dumps(entries).encode() + b"\0"), target)
    kept = reasons(root, "/usr/bin/touch /usr/lib/libuser.so", "--widen", "dlopen")
    assert {path for path in kept if path.startswith("/usr/lib/lib")} == {
        f"/usr/lib/{name}" for name in ("libuser.so", "libfirst.so.1", "libthird.so.1", "libfifth.so.1")
    }
    assert kept["/usr/lib/libfifth.so.1"] == [{"rule": "dlopen note of", "of": "/usr/lib/libfirst.so.1"}]
    assert "/usr/lib/libfirst.so.1" not in reasons(root, "/usr/bin/touch /usr/lib/libuser.so")


def test_dlopen_note_of_one_name_in_a_file_without_sections(root: Root, tmp_path: Path) -> None:
    """The library that it names lies where Debian's loaders look, whatever ld.so.conf says."""
    libraries = root.path / "usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    shutil.copy(noted(tmp_path, "libplugin.so", b"[]"), libraries / "libplugin.so")
    user = bytearray(noted(tmp_path, "libuser.so", b'[{"soname": "libplugin.so"}]').read_bytes())
    user[0x28:0x30] = bytes(8)  # e_shoff
    user[0x3C:0x40] = bytes(4)  # e_shnum, e_shstrndx
    (root.path / "usr/lib/libuser.so").write_bytes(user)
    kept = reasons(root, "/usr/bin/touch /usr/lib/libuser.so", "--widen", "dlopen")
    assert kept["/usr/lib/x86_64-linux-gnu/libplugin.so"] == [{"rule": "dlopen note of", "of": "/usr/lib/libuser.so"}]


def hostile(place: Path, needed: int, name: str, rpath: str) -> Path:
    """An ELF file that needs as many libraries, all of one name."""
    strings = b"\0" + name.encode() + b"\0" + rpath.encode() + b"\0"
    entries = [(1, 1)] * needed + [(15, len(name) + 2), (5, 0x1000), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in entries)
    at = 64 + 2 * 56
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, at, 0x1000, 0x1000, len(strings), len(strings), 0x1000)
    place.write_bytes(
        header + load + struct.pack("<IIQQQQQQ", 2, 4, at + len(strings), 0x90000000, 0, len(dynamic), len(dynamic), 8)
        + strings + dynamic
    )  # fmt: skip
    return place


@pytest.mark.parametrize(
    ("needed", "name", "rpath"), [(8000, 1_000_000 * "x", ""), (3000, "libx.so", ":".join(f"/{n}" for n in range(30_000)))]
)
def test_files_that_need_endlessly_much(tmp_path: Path, needed: int, name: str, rpath: str) -> None:
    hostile(tmp_path / "library", needed, name, rpath)
    tree = DirectoryTree((LayerDirectory(tmp_path),))
    start = time.monotonic()
    assert needed_libraries(tree, tree.entry(b"/library"), b"") == []
    assert time.monotonic() - start < 5


def test_configurations_that_include_each_other(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("include /c/*.conf\n/found\n")
    for number in range(300):
        (tmp_path / f"c/{number}.conf").write_text("include /c/*.conf\n")
    (tmp_path / "found").mkdir()
    subprocess.run(["gcc", "-shared", "-nostdlib", "-o", tmp_path / "found/libx.so", "-x", "c", "/dev/null"], check=True)
    shutil.copy(tmp_path / "found/libx.so", tmp_path / "user")
    tree = DirectoryTree((LayerDirectory(tmp_path),))
    start = time.monotonic()
    caller = read_dynamic(tree, tree.entry(b"/user"))
    assert finder(tree, caller, b"")(b"libx.so") == b"/found/libx.so"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("note", [b"", b"{", b'{"soname": 1}', b'[{"soname": 7}]', b"[1]", b'[{"priority": []}]', 5000 * b"["])
def test_damaged_dlopen_notes_say_nothing(root: Root, tmp_path: Path, note: bytes) -> None:
    (root.path / "usr/lib").mkdir()
    shutil.copy(noted(tmp_path, "libuser.so", note), root.path / "usr/lib/libuser.so")
    assert "/usr/lib/libuser.so" in reasons(root, "/usr/bin/touch /usr/lib/libuser.so", "--widen", "dlopen")


def test_real_packages_of_an_image(tracestrip: Command, archive: Callable[[str], Path], tmp_path: Path) -> None:
    """Apache alone, then with all files of its package, as dpkg lists them."""

    def run(*options: str) -> Finished:
        return tracestrip(
            "run", f"docker-archive:{archive('httpd')}", "-e", "/usr/sbin/httpd", "--probe", "curl -fsS localhost >/dev/null",
            "-o", f"docker-archive:{tmp_path}/out.tar", "--force", *options,
        )  # fmt: skip

    finished = run("--keep-package", "apache2-bin", "--with", "shell", "--with", "terminfo")
    assert finished.code == 0, finished.stderr
    assert "of whole packages" in finished.stdout
    assert "of presets" in finished.stdout
    layer = stripped_layer(tmp_path / "out.tar")
    modules = {name for name in layer if name.startswith("usr/lib/apache2/modules/mod_")}
    assert len(modules) > 100
    assert "usr/bin/dash" in layer
    assert any(name.endswith("terminfo/x/xterm") for name in layer)
