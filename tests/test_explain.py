"""Why a path stayed or went, as `tracestrip explain` says it of a real report."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TOP, Command, fails


@pytest.fixture(scope="module")
def report(archive: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("explained")
    subprocess.run(
        [sys.executable, "-m", "tracestrip", "run", f"docker-archive:{archive('httpd')}", "-e", "/usr/sbin/httpd",
         "--probe", "curl -fsS localhost >/dev/null", "--exclude", "/etc/apache2/envvars", "--exclude", "/etc/debian_version",
         "--include", "/etc/debian_version", "-o", f"docker-archive:{place}/out.tar", "--report", place / "report.json"],
        check=True, cwd=TOP, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return place / "report.json"


@pytest.fixture
def explain(tracestrip: Command, report: Path) -> Callable[[str], str]:
    def run(path: str) -> str:
        finished = tracestrip("explain", report, path)
        assert finished.code == 0, finished.stderr
        return finished.stdout

    return run


def test_first_process_and_first_probe_of_a_used_file(explain: Callable[[str], str]) -> None:
    told = explain("/var/www/html/index.html")
    assert told.startswith("/var/www/html/index.html stayed:\n")
    assert "first by /usr/sbin/apache2 (pid " in told
    assert "during --probe curl -fsS localhost >/dev/null" in told


def test_chain_of_reasons_down_to_what_was_run(explain: Callable[[str], str]) -> None:
    """A library by its usual name: the directory /lib is a symlink."""
    told = explain("/lib/x86_64-linux-gnu/libpcre2-8.so.0")
    assert told.startswith("/usr/lib/x86_64-linux-gnu/libpcre2-8.so.0 stayed:\n")
    assert "it is a symlink on the way to /usr/lib/x86_64-linux-gnu/libpcre2-8.so.0." in told
    assert "it is a library that /usr/sbin/apache2 needs" in told
    assert "    /usr/sbin/apache2 stayed:\n" in told
    assert "it was executed, first by tracestrip" in told


def test_what_is_always_there(explain: Callable[[str], str]) -> None:
    assert "every result has it" in explain("/etc/passwd")


def test_what_went_and_the_options_that_keep_it(explain: Callable[[str], str]) -> None:
    told = explain("/usr/bin/apt-get")
    assert told.startswith("/usr/bin/apt-get went:\n")
    assert "neither the command nor the 1 probes" in told
    assert "--include /usr/bin/apt-get" in told
    assert "--keep-package apt" in told
    assert "--with" not in told
    assert "--with terminfo" in explain("/lib/terminfo/l/linux")
    assert "--widen directory" in explain("/etc/apache2/magic")


def test_what_an_option_took_away(explain: Callable[[str], str]) -> None:
    assert "--exclude /etc/debian_version says so" in explain("/etc/debian_version")


def test_path_that_the_image_never_had(tracestrip: Command, report: Path) -> None:
    fails(tracestrip("explain", report, "/no/such"), 2, "/no/such")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 1, "kept": []}'])
def test_file_that_is_no_report(tracestrip: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    fails(tracestrip("explain", tmp_path / "file", "/etc"), 2, "file", "--report")
    fails(tracestrip("explain", tmp_path / "none", "/etc"), 2, "none")


def test_removed_paths_and_kept_ones_are_the_whole_image(report: Path) -> None:
    told = json.loads(report.read_text())
    assert len(told["kept"]) + len(told["removed"]) == told["source"]["entries"]
