"""Why a path stayed or went, as `tracestrip explain` says it of a real report."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.conftest import TOP, Command, fails
from tests.images import image_archive
from tracestrip.errors import UsageError
from tracestrip.report.document import read_report
from tracestrip.report.explain import explanation


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
    assert "neither the command nor the 1 probe, and" in told
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


ODD = ("a[1]*?.txt", "it's $HOME `x` \\", "new\nline\x1b[31m", "\udcff\u202e")
"""Names that a pattern, a shell or a terminal reads otherwise."""


class Small:
    """An image of two programs, and what is told of it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._reports: dict[tuple[str, ...], Path] = {}
        self.output = place / "out.tar"
        for name in ("touch", "find"):
            source = TOP / "tests" / "programs" / f"{name}.c"
            subprocess.run(["gcc", "-static", "-D_GNU_SOURCE", "-o", place / name, source], check=True)
        self.image = image_archive(place / "small.tar", place / "touch", {}, prepare=self._prepare)

    def _prepare(self, root: Path) -> None:
        (root / "usr").mkdir()
        (root / "bin").rename(root / "usr/bin")
        (root / "bin").symlink_to("usr/bin")
        (root / "usr/bin/find").write_bytes((self._place / "find").read_bytes())
        (root / "usr/bin/find").chmod(0o755)
        tool = "/usr/share/tool/data\n/etc/tool.conf\n/usr/share/tool/sub\n/usr/share/doc/tool/README\n"
        for name, content in {
            "usr/bin/sh": "", "file0": "", "file299": "", "usr/share/tool/data": "", "usr/share/tool/other": "",
            "usr/share/tool/sub/x": "", "usr/share/doc/tool/README": "", "usr/share/doc/tool/other": "", "etc/tool.conf": "",
            "etc/dir/x": "", "dev/inside": "", "data/a1bc.txt": "", "var/lib/dpkg/info/tool.list": tool,
            "var/lib/dpkg/info/idle.list": "/data/unused\n", **{f"data/{name}": "" for name in ODD},
        }.items():  # fmt: skip
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tracestrip", "run", f"docker-archive:{self.image}", "--force",
             "-o", f"docker-archive:{self.output}", *options],
            check=False, cwd=TOP, capture_output=True, text=True, errors="surrogateescape",
        )  # fmt: skip

    def report(self, *options: str) -> Path:
        """Of a run with these options; the same one runs once."""
        if options not in self._reports:
            path = self._place / f"{len(self._reports)}.json"
            finished = self.run("--report", str(path), *options)
            assert finished.returncode == 0, finished.stderr
            self._reports[options] = path
        return self._reports[options]

    def told(self, path: str, *options: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "tracestrip", "explain", self.report(*options), path],
            check=True, cwd=TOP, capture_output=True, text=True,
        ).stdout  # fmt: skip


OPENS = ("-e", "/usr/bin/touch /usr/share/tool/data /usr/share/doc/tool/README")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


def test_path_that_was_looked_up_and_never_opened(small: Small) -> None:
    told = small.told("/file0", "-e", "/usr/bin/find", "--keep", "opened", "--no-verify")
    assert "it was looked up (stat, access), first by /usr/bin/find (pid " in told
    assert "but never opened: --keep opened leaves it out" in told
    assert "to keep it: leave out --keep opened, or --include /file0" in told
    assert "nothing" not in told


def test_path_that_the_original_used_in_the_verification_alone(small: Small, tmp_path: Path) -> None:
    document = json.loads(small.report(*OPENS).read_text())
    document["verification"]["held_out"] = ["curl localhost"]
    document["verification"]["rounds"][-1]["unasked"] = ["/etc/tool.conf"]
    (tmp_path / "report.json").write_text(json.dumps(document))
    told = explanation(read_report(tmp_path / "report.json"), "/etc/tool.conf")
    assert "the original used it in the verification's exercise (--verify-probe curl localhost)" in told
    assert "nothing" not in told


@pytest.mark.parametrize(
    ("path", "options", "offered"),
    [
        ("/usr/share/tool/other", (), {"directory"}),
        ("/usr/share/tool/other", ("--widen", "package"), {"directory"}),
        ("/etc/tool.conf", (), {"package"}),  # the others of /etc are kept in every result
        ("/etc/tool.conf", ("--widen", "directory"), {"package"}),
        ("/usr/share/tool/sub", (), set()),  # a directory
        ("/usr/share/doc/tool/other", (), set()),  # documentation
        ("/data/unused", (), set()),
    ],
)
def test_widening_is_offered_where_it_helps(small: Small, path: str, options: tuple[str, ...], offered: set[str]) -> None:
    told = small.told(path, *OPENS, *options)
    assert {word for word in ("directory", "package") if f"or --widen {word}" in told} == offered


def test_advice_may_be_copied_for_any_name(small: Small) -> None:
    """Each keeps its path, and no other one."""
    advised = []
    for name in ODD:
        told = small.told(f"/data/{name}", *OPENS)
        assert told.count("\n") == len(told.splitlines())
        assert all(line.isprintable() for line in told.splitlines())
        (advice,) = (line.removeprefix("  to keep it: ") for line in told.splitlines() if "to keep it" in line)
        advised.append(advice)
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(advised)}"], capture_output=True, check=True).stdout
    options = words.decode("utf-8", "surrogateescape").split("\0")[:-1]
    kept = {kept["path"] for kept in json.loads(small.report(*OPENS, *options).read_text())["kept"]}
    assert {path for path in kept if path.startswith("/data/")} == {f"/data/{name}" for name in ODD}


def test_exclusion_of_a_directory_is_told_of_what_is_below(small: Small) -> None:
    options = (*OPENS, "--exclude", "/usr/share/t*", "--exclude", "/etc/dir", "--no-verify")
    used, unused = small.told("/usr/share/tool/data", *options), small.told("/etc/dir/x", *options)
    assert "it would have stayed, but --exclude '/usr/share/t*' says so" in used
    assert "to keep it: leave out --exclude '/usr/share/t*'\n" in used
    assert "nothing used it" in unused
    assert "--exclude /etc/dir takes it away, whatever uses it" in unused
    assert "to keep it: leave out --exclude /etc/dir, and --include /etc/dir/x\n" in unused


def test_symlinks_that_went_lead_on(small: Small) -> None:
    assert small.told("/bin", *OPENS).startswith("/bin went:\n")
    assert small.told("/bin/sh", *OPENS).startswith("/usr/bin/sh went:\n")
    assert small.told("/bin/touch", *OPENS).startswith("/usr/bin/touch stayed:\n")


def test_preset_is_found_behind_symlinks(small: Small) -> None:
    assert "or --with shell" in small.told("/usr/bin/sh", *OPENS)


def test_refusal_names_the_exclusion_that_is_to_blame(small: Small) -> None:
    finished = small.run("-e", "/usr/bin/touch /data/first", "--exclude", "/data")
    assert finished.returncode == 6
    last = finished.stderr.splitlines()[-1]
    assert last.endswith("leave out --exclude /data")


def anywhere(random: Random, value: Any) -> tuple[Any, Any]:
    """Some (container, key) of a JSON document; each part of it is about as likely, however long it is."""
    while True:
        key = random.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if not (isinstance(value[key], dict | list) and value[key] and random.random() < 0.8):
            return value, key
        value = value[key]


def test_edited_reports_explain_or_are_refused(small: Small, tmp_path: Path) -> None:
    document = json.loads(small.report("-e", "/usr/bin/find", "--keep", "opened", "--no-repair", "--no-verify").read_text())
    document["verification"] = {"held_out": ["x"], "rounds": [{"missed": ["/file0"], "unasked": ["/bin"]}]}
    document["removed"] = [gone for gone in document["removed"] if gone["path"] in ("/bin", "/file0", "/usr/bin/sh", "/data")]
    random, file = Random(1), tmp_path / "report.json"
    others = (None, True, -1, 0.5, "", "x", "/", "\ud800", "/\ud800", "{}", [], [[]], [None], {}, {"path": 1}, 10**30)
    answers = []
    for _ in range(400):
        edited = copy.deepcopy(document)
        container, key = anywhere(random, edited)
        if random.random() < 0.3:
            del container[key]
        else:
            container[key] = random.choice(others)
        file.write_text(json.dumps(edited))
        answers += [answer(file, path) for path in ("/file0", "/bin/sh", "/usr/bin/find", "/etc/passwd", "/../x/", "")]
    known = ("it is no report of this version", "stayed:\n", "went:\n", "had no such path", "is not in the result:\n")
    assert all(any(word in answer for answer in answers) for word in known[:3])
    assert all(any(word in answer for word in known) for answer in answers)


def answer(report: Path, path: str) -> str:
    try:
        return explanation(read_report(report), path)
    except UsageError as error:
        return str(error)


def test_image_that_was_a_directory_tells_what_can_be_known(small: Small, tmp_path: Path) -> None:
    """Nobody has counted what went."""
    document = json.loads(small.report(*OPENS).read_text()) | {"removed": None}
    document["rules"] |= {"exclude": ["/etc/*"], "keep": "opened"}
    (tmp_path / "report.json").write_text(json.dumps(document))
    told = answer(tmp_path / "report.json", "/etc/tool.conf")
    assert "--exclude '/etc/*' takes it away, whatever uses it" in told
    assert "nothing" not in told
    assert "nothing opened it" in answer(tmp_path / "report.json", "/file0")


@pytest.mark.parametrize("content", ["[" * 10**5, '{"schema_version": 2, "kept": ' + "[" * 10**5, b"\xff", "7", "null", '"x"'])
def test_damaged_report_is_refused(tracestrip: Command, tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / "file").write_bytes(content if isinstance(content, bytes) else content.encode())
    fails(tracestrip("explain", tmp_path / "file", "/etc"), 2, "it is no report of this version of tracestrip")


def test_what_an_engine_mounts_over(small: Small) -> None:
    told = small.told("/dev/inside", *OPENS)
    assert "an engine mounts its own /dev over it" in told
    assert "--include" not in told
