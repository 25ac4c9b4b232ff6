"""The table of calls against two witnesses: this machine's kernel headers, and strace's idea of what names a file."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.observing import observed
from tracestrip.observer.client import Sandbox
from tracestrip.observer.syscalls import AUDIT_ARCH_AARCH64, AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, Call, calls_of

HEADERS = {
    AUDIT_ARCH_X86_64: ("asm/unistd_64.h", ()),
    AUDIT_ARCH_I386: ("asm/unistd_32.h", ()),
    AUDIT_ARCH_AARCH64: ("asm-generic/unistd.h", ("-D__ARCH_WANT_RENAMEAT", "-D__ARCH_WANT_NEW_STAT")),
}


def numbers_in(header: str, defines: tuple[str, ...]) -> dict[str, int]:
    """Name to number, as the preprocessor sees them."""
    listed = subprocess.run(
        ["gcc", "-E", "-dM", *defines, "-include", header, "-xc", "/dev/null"], capture_output=True, text=True, check=True
    ).stdout
    macros = dict(re.findall(r"#define (__NR\w*) (\w+)", listed))
    found = {}
    for name, value in macros.items():
        while value in macros:
            value = macros[value]  # noqa: PLW2901 - one macro names another
        if value.isdigit():
            found[name.removeprefix("__NR_")] = int(value)
    found.pop("syscalls", None)
    return found


@pytest.mark.parametrize("architecture", HEADERS)
def test_numbers_are_the_kernel_headers(architecture: int) -> None:
    numbers = numbers_in(*HEADERS[architecture])
    newest = max(numbers.values())
    assert len(numbers) > 250
    table = {call.name: number for number, call in calls_of(architecture).items()}
    assert {name: number for name, number in table.items() if numbers.get(name) != number and number <= newest} == {}


def test_newer_calls_have_one_number_everywhere() -> None:
    """Since Linux 5.1 new calls are numbered alike on all architectures, from 424 on; i386's *_time64 are older in kind."""
    columns = [calls_of(architecture) for architecture in HEADERS]
    for column in columns:
        for number, call in column.items():
            if number >= 424:
                assert all(other[number].name == call.name for other in columns)


@pytest.mark.parametrize(("architecture", "arguments"), [(AUDIT_ARCH_X86_64, []), (AUDIT_ARCH_I386, ["old"])])
def test_whatever_strace_calls_a_file_call_is_in_the_table(
    architecture: int, arguments: list[str], compiled: Callable[..., Path], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    program = compiled("every-call")
    subprocess.run(["strace", "-e", "trace=%file", "-o", log, program, *arguments], check=True)
    text = log.read_text().partition("/begin")[2]
    seen = set(re.findall(r"^(?!syscall_)(\w+)\(", text, re.MULTILINE))
    known = {call.name for call in calls_of(architecture).values()}
    assert len(seen) > 60
    assert seen - known == {"getcwd"}  # it asks for a name, and gives none


def test_calls_that_move_names_are_told() -> None:
    def moves(call: Call) -> bool:
        return call.moves_names

    names = {call.name for call in filter(moves, calls_of(AUDIT_ARCH_X86_64).values())}
    assert names == {
        "rename", "renameat", "renameat2", "symlink", "symlinkat", "link", "linkat",
        "mount", "umount2", "pivot_root", "move_mount", "mount_setattr", "quotactl", "fsconfig",
    }  # fmt: skip


def call_of_each(architecture: int, listed: Path) -> tuple[str, dict[bytes, str]]:
    """A C program that makes each call once, and the kind of use of each name that it gives.

    Only directories exist: those that are listed by a descriptor. They are made in *listed*.
    """
    lines, expected = [], {}
    for number, call in calls_of(architecture).items():
        words = ["0"] * 6
        for argument in call.paths:
            if argument.form == "f":
                (listed / call.name).mkdir(parents=True)
                expected[os.fsencode(listed / call.name)] = argument.kind
                words[argument.address] = f'open("{listed}/./{call.name}", O_RDONLY | O_DIRECTORY)'
                continue
            if argument.form != "p":
                break
            name = f"/nowhere/{call.name}-{argument.address}"
            expected[name.encode()] = argument.kind
            words[argument.address] = f'"{name}"'
            if argument.directory is not None:
                words[argument.directory] = "AT_FDCWD"
            if argument.follow == "how":
                words[argument.follow_argument], words[argument.follow_argument + 1] = "how", "sizeof how"
            if argument.follow == "config":
                words[argument.follow_argument] = "3"
        else:
            lines.append(f"    syscall({number}, {', '.join(words)});" if call.paths else "")
    head = "#include <fcntl.h>\n#include <unistd.h>\nint main(void) {\n    long long how[3] = {0};\n"
    return head + "\n".join(lines) + "\n    return 0;\n}\n", expected


@pytest.mark.parametrize(("architecture", "flags"), [(AUDIT_ARCH_X86_64, []), (AUDIT_ARCH_I386, ["-m32"])])
def test_each_call_of_the_table_is_told(architecture: int, flags: list[str], unconfined: Sandbox, tmp_path: Path) -> None:
    text, expected = call_of_each(architecture, tmp_path / "listed")
    (tmp_path / "each.c").write_text(text)
    program = tmp_path / "each"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-w", "-o", program, tmp_path / "each.c", *flags], check=True)
    places = (b"/nowhere/", os.fsencode(tmp_path / "listed") + b"/")
    uses = [use for use in observed(unconfined, program).uses if use.path.startswith(places) and b"/./" not in use.path]
    seen = {use.path: use.kind for use in uses}
    assert len(expected) > 80
    assert seen == expected
