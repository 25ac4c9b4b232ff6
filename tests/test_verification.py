"""The result is run before it is published: what is the same, what is not, what is repaired, what is refused."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TOP, Command, Finished
from tests.images import config_of, stripped_layer

PORT = 8080
FIRST, SECOND = f"curl -fsS localhost:{PORT}/first", f"curl -fsS localhost:{PORT}/second"


class Case:
    """Runs over this machine's root; what is served or read lies in a directory of the test."""

    def __init__(self, tracestrip: Command, place: Path) -> None:
        self.files, self.output, self.report = place / "files", place / "out.tar", place / "report.json"
        self.files.mkdir()
        for name in ("first", "second", "third"):
            (self.files / name).write_text(name)
        self.server = f"/usr/bin/python3 -m http.server {PORT} -d {self.files}"
        self._tracestrip = tracestrip

    def run(self, command: str, *options: object) -> Finished:
        return self._tracestrip(
            "run", "dir:/", "-e", command, "-o", f"docker-archive:{self.output}", "--force", "--report", self.report,
            "--probe-timeout", "2", *options,
        )

    def told(self) -> dict[str, Any]:
        return json.loads(self.report.read_text())

    def paths(self) -> set[str]:
        """All that stay."""
        return {kept["path"] for kept in self.told()["kept"]}

    def has(self, name: str) -> bool:
        """Whether the result has one of the test's files."""
        return str(self.files / name)[1:] in stripped_layer(self.output)

    def label(self) -> str:
        return config_of(self.output)["config"]["Labels"]["tracestrip.verified"]


@pytest.fixture
def case(tracestrip: Command, tmp_path: Path) -> Case:
    return Case(tracestrip, tmp_path)


def is_refused(case: Case, finished: Finished, *words: str) -> None:
    """With exit code 6, one line besides the differences, and no result."""
    assert finished.code == 6, finished.stderr
    assert finished.stdout == ""
    assert sum(line.startswith("tracestrip: ") for line in finished.stderr.splitlines()) == 1
    assert all(word in finished.stderr for word in words), finished.stderr
    assert not case.output.exists()
    report = case.told()
    assert (report["verified"], report["result"]) == (False, None)


def test_a_good_result_is_run_and_labelled(case: Case) -> None:
    finished = case.run(case.server, "--probe", FIRST)
    assert finished.code == 0, finished.stderr
    assert "verified: the result does the same" in finished.stdout
    report = case.told()
    assert report["verified"]
    assert [round_["faults"] for round_ in report["verification"]["rounds"]] == [[]]
    assert case.label() == "true"
    assert case.has("first")
    assert not case.has("second")


def test_held_out_probe_finds_what_is_missing_and_repair_adds_it(case: Case) -> None:
    finished = case.run(case.server, "--probe", FIRST, "--verify-probe", SECOND)
    assert finished.code == 0, finished.stderr
    assert case.has("second")
    assert not case.has("third")
    report = case.told()
    first, last = report["verification"]["rounds"]
    second = str(case.files / "second")
    assert SECOND in first["faults"][0]["what"]
    assert (second in first["missed"], second in first["added"], last["faults"]) == (True, True, [])
    (kept,) = (kept for kept in report["kept"] if kept["path"] == second)
    assert kept["round"] == 1
    assert kept["reasons"][0]["during"] == f"--verify-probe {SECOND}"
    assert "python3" in kept["reasons"][0]["first_used_by"]["program"]


def test_without_repair_the_difference_is_shown_and_nothing_published(case: Case) -> None:
    finished = case.run(case.server, "--probe", FIRST, "--verify-probe", SECOND, "--no-repair")
    is_refused(case, finished, SECOND, "exit code 22", f"  |   {case.files}/second", "404")


def test_held_out_probe_that_passes_adds_nothing(case: Case) -> None:
    assert case.run(case.server, "--probe", FIRST).code == 0
    alone = case.paths()
    finished = case.run(case.server, "--probe", FIRST, "--verify-probe", FIRST)
    assert finished.code == 0, finished.stderr
    assert "1 held-out probe passed" in finished.stdout
    assert case.paths() == alone


def test_held_out_probe_that_fails_on_the_original_is_wrong_itself(case: Case) -> None:
    finished = case.run(
        case.server, "--probe", FIRST, "--verify-probe", f"curl -fsS localhost:{PORT}/none", "--probe-timeout", "1"
    )
    assert finished.code == 5
    assert "on the original image, verify-probe" in finished.stderr
    assert not case.output.exists()


def test_all_held_out_probes_are_tried_in_each_round(case: Case) -> None:
    third = SECOND.replace("second", "third")
    finished = case.run(case.server, "--probe", FIRST, "--verify-probe", SECOND, "--verify-probe", third)
    assert finished.code == 0, finished.stderr
    assert [len(round_["faults"]) for round_ in case.told()["verification"]["rounds"]] == [2, 0]


def test_failed_exec_is_a_difference_too(case: Case) -> None:
    finished = case.run(case.server, "--probe", FIRST, "--exec", "/bin/true", "--exclude", "/usr/bin/true")
    is_refused(case, finished, "--exec '/bin/true'", "/usr/bin/true")


def test_what_the_user_excludes_is_not_repaired(case: Case) -> None:
    finished = case.run(f"/bin/cat {case.files}/first", "--exclude", f"{case.files}/first")
    is_refused(case, finished, "the target failed (exit code 1)", f"  |   {case.files}/first")


def test_target_that_cannot_even_start_is_told(case: Case) -> None:
    finished = case.run("/bin/true", "--exclude", "/usr/bin/true")
    is_refused(case, finished, "cannot execute", "/usr/bin/true")


def test_listed_directory_gets_its_entries_where_nothing_else_helps(case: Case) -> None:
    """ls only lists: no lookup fails, neither in the result nor in another run of the original."""
    finished = case.run(f"/bin/ls {case.files}", "--compare-output")
    assert finished.code == 0, finished.stderr
    assert all(map(case.has, ("first", "second", "third")))
    rules = {kept["path"]: {reason["rule"] for reason in kept["reasons"]} for kept in case.told()["kept"]}
    assert rules[str(case.files / "third")] == {"entry of"}


def test_listing_that_nobody_compares_stays_empty(case: Case) -> None:
    assert case.run(f"/bin/ls {case.files}").code == 0
    assert not case.has("first")


@pytest.mark.parametrize(
    "options", [("/bin/date", "+%N"), ("/bin/sleep", "1000", "--wait", "0", "--probe", "date +%N")], ids=["job", "probe"]
)
def test_outputs_are_compared_but_for_what_is_ignored(case: Case, options: tuple[str, ...]) -> None:
    command, *others = " ".join(options[:2]), *options[2:]
    finished = case.run(command, *others, "--compare-output")
    is_refused(case, finished, "output", "  | --- original", "--ignore")
    finished = case.run(command, *others, "--compare-output", "--ignore", r"^\d+$")
    assert finished.code == 0, finished.stderr
    assert "the outputs are equal" in finished.stdout
    assert case.run(command, *others).code == 0


def test_what_is_ignored_may_be_any_bytes(case: Case) -> None:
    finished = case.run('/bin/bash -c "printf \'\\377%s\' $(date +%N)"', "--compare-output", "--ignore", "\udcff.*")
    assert finished.code == 0, finished.stderr


def test_output_of_a_probe_is_its_stdout(case: Case) -> None:
    finished = case.run("/bin/sleep 1000", "--wait", "0", "--probe", "date +%N >&2; echo same", "--compare-output")
    assert finished.code == 0, finished.stderr


def test_output_of_a_job_is_what_its_children_write_too(case: Case) -> None:
    finished = case.run(f"/bin/bash -c '(sleep 0.3; ls {case.files}) & exit 0'", "--compare-output", "--no-repair")
    is_refused(case, finished, "the target's output is another one", "-first")


def test_difference_of_long_outputs_begins_where_they_differ(case: Case) -> None:
    finished = case.run(f"/bin/sh -c 'seq 900; ls {case.files}; seq 900'", "--compare-output", "--no-repair")
    is_refused(case, finished, "  |  900", "  | -first")


LONG = "seq 3000000"
"""Writes 22.9 MB, more than is kept of any output."""


@pytest.mark.parametrize(
    "kind",
    [
        lambda command: (f"/bin/sh -c '{command}'",),
        lambda command: ("/bin/sleep 1000", "--wait", "0", "--exec", f"/bin/sh -c '{command}'"),
        lambda command: ("/bin/sleep 1000", "--wait", "0", "--probe", command),
    ],
    ids=["job", "exec", "probe"],
)
def test_outputs_are_compared_from_their_beginning_on(case: Case, kind: Callable[[str], tuple[str, ...]]) -> None:
    """However long they are; what --ignore matches can be left out only where all of them is kept."""
    finished = case.run(*kind(LONG), "--compare-output")
    assert finished.code == 0, finished.stderr
    case.output.unlink()
    for options in ((), ("--ignore", r"^\d+$")):
        finished = case.run(*kind(f"date +%N; {LONG}"), "--compare-output", "--no-repair", *options)
        is_refused(case, finished, "is another one", "bytes in the original")


def test_unverified_result_says_so_everywhere(case: Case) -> None:
    finished = case.run("/bin/cat", "--no-verify", "--exclude", "/usr/bin/cat")
    assert finished.code == 0, finished.stderr
    assert "UNPROVEN" in finished.stdout
    assert "warning: the result is unproven" in finished.stderr
    report = case.told()
    assert (report["verified"], report["verification"]) == (False, None)
    assert case.label() == "false"


def test_failed_lookups_that_do_no_harm_are_told(case: Case) -> None:
    """The second file is only looked at: with --keep opened it goes, and the shell does not mind."""
    finished = case.run(f"/bin/sh -c 'test -e {case.files}/second; true'", "--keep", "opened")
    assert finished.code == 0, finished.stderr
    assert "asked for in vain, without harm" in finished.stdout
    assert str(case.files / "second") in case.told()["verification"]["rounds"][-1]["missed"]


def test_repair_keeps_what_is_only_looked_at_where_that_matters(case: Case) -> None:
    finished = case.run(f"/bin/sh -c 'test -e {case.files}/second'", "--keep", "opened")
    assert finished.code == 0, finished.stderr
    assert case.has("second")


def test_service_that_ends_by_itself_when_stripped(case: Case) -> None:
    """It waits for the first file to go, which --exclude has done already."""
    script = f"while test -e {case.files}/first; do sleep 0.05; done"
    finished = case.run(f"/bin/sh -c '{script}'", "--wait", "0.3", "--exclude", f"{case.files}/first")
    is_refused(case, finished, "ended by itself after 0.", "unlike the original's")


@pytest.mark.parametrize(
    "exercise",
    [("--wait", "0.4", "--probe", "sleep 1.5"), ("--wait", "0", "--exec", "/bin/sleep 1.5")],
    ids=["probe", "exec"],
)
def test_service_that_ends_by_itself_when_nobody_looks(case: Case, exercise: tuple[str, ...]) -> None:
    """Beside a probe, and a command, that do without it."""
    script = f"sleep 0.5; test -e {case.files}/first || exit 0; exec sleep 1000"
    finished = case.run(f"/bin/sh -c '{script}'", *exercise, "--exclude", f"{case.files}/first")
    is_refused(case, finished, "ended by itself after 0.", "unlike the original's")


@pytest.mark.parametrize("seconds", ["0.9", "1.1"])
def test_end_that_comes_with_the_end_of_the_exercise_is_chance(case: Case, seconds: str) -> None:
    finished = case.run(f"/bin/sleep {seconds}", "--wait", "1")
    assert finished.code == 0, finished.stderr


def test_failing_result_does_not_take_a_probes_whole_time(case: Case) -> None:
    finished = case.run(case.server, "--probe", FIRST, "--verify-probe", SECOND, "--no-repair", "--probe-timeout", "120")
    assert finished.code == 6
    assert finished.seconds < 30


def test_report_is_no_place_for_the_result(case: Case) -> None:
    finished = case.run("/bin/true", "--report", case.output)
    assert finished.code == 2
    assert "--report" in finished.stderr
    assert not case.output.exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--ignore", "x"), "--compare-output"),
        (("--compare-output", "--ignore", "("), "regular expression"),
        (("--compare-output", "--ignore", "a{99999999999}"), "regular expression"),
        (("--compare-output", "--ignore", 5000 * "(" + 5000 * ")"), "regular expression"),
        (("--probe-timeout", "inf"), "--probe-timeout"),
        (("--stop-timeout", "nan"), "--stop-timeout"),
        (("--no-verify", "--verify-probe", "true"), "--no-verify"),
        (("--no-verify", "--compare-output"), "--no-verify"),
        (("--verify-probe", "@/none"), "no such script"),
    ],
)
def test_checks_that_cannot_be_are_refused_before_anything_runs(case: Case, options: tuple[str, ...], word: str) -> None:
    finished = case.run("/none", *options)
    assert finished.code == 2, finished.stderr
    assert word in finished.stderr


def test_verify_alone(case: Case, tracestrip: Command) -> None:
    assert case.run(case.server, "--probe", FIRST).code == 0
    images = ("verify", "dir:/", f"docker-archive:{case.output}")
    finished = tracestrip(*images, "--probe", FIRST)
    assert finished.code == 0, finished.stderr
    assert "does what dir:/ does" in finished.stdout
    finished = tracestrip(*images, "--probe", FIRST, "--format", "json")
    assert json.loads(finished.stdout)["verified"]
    finished = tracestrip(*images, "--probe", FIRST, "--verify-probe", SECOND, "--probe-timeout", "2")
    assert finished.code == 6
    assert f"  |   {case.files}/second" in finished.stderr
    assert "published" not in finished.stderr
    finished = tracestrip(*images, "--probe", f"curl -fsS localhost:{PORT}/none", "--probe-timeout", "1")
    assert finished.code == 5


def test_verify_alone_tries_once_more(case: Case, tracestrip: Command) -> None:
    condition, mount = counting(case)
    command = f"/bin/sh -c '{condition.format('-ne 2')}'"
    assert case.run(command, *mount, "--no-verify").code == 0
    (case.files / "state/count").write_text("")
    finished = tracestrip("verify", "dir:/", f"docker-archive:{case.output}", "-e", command, *mount)
    assert finished.code == 0, finished.stderr
    assert "at the second try" in finished.stdout


STEPS = """
import sys, time
from pathlib import Path
from tracestrip.destination import Place
from tracestrip.exercise.plan import Plan
from tracestrip.pipeline import Subject, Wanted, run
from tracestrip.trial import Scenario

image, output = sys.argv[1:]
scenario = Scenario("/usr/sbin/httpd", Plan(probes=("curl -fsS -o /dev/null localhost",)))
wanted = Wanted(Place(output=f"docker-archive:{output}"))
run(Subject(image), scenario, wanted, lambda text: print(time.monotonic(), text.split()[0], flush=True))
"""
"""A caller of the pipeline that tells when each step begins."""


def test_verification_costs_the_exercise_and_half_a_second(archive: Callable[[str], Path], tmp_path: Path) -> None:
    """On Apache. Both run in one process, one after the other."""
    told = subprocess.run(
        [sys.executable, "-c", STEPS, f"docker-archive:{archive('httpd')}", tmp_path / "out.tar"],
        env=os.environ | {"PYTHONPATH": str(TOP)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    begins = [(float(line.split()[0]), line.split()[1]) for line in told.stdout.splitlines()]
    seconds = {name: later - begun for (begun, name), (later, _) in pairwise(begins)}
    assert seconds["verifying"] < seconds["running"] + 0.5, seconds


def counting(case: Case) -> tuple[str, tuple[str, ...]]:
    """A shell's condition on how often the target has been run, with {} for the number; and the options that make it work."""
    state = case.files / "state"
    state.mkdir()
    (state / "count").write_text("")
    return "echo >> /mnt/count; test $(wc -l < /mnt/count) {}", ("--mount", f"type=bind,src={state},dst=/mnt")


def test_exercise_that_cannot_be_repeated_is_told(case: Case) -> None:
    """It fails from its second run on, also on the original."""
    condition, mount = counting(case)
    command = f"/bin/sh -c '{condition.format('-lt 2')}'"
    finished = case.run(command, *mount)
    assert finished.code == 5, finished.stderr
    assert "when it is run again" in finished.stderr
    assert "--no-verify" in finished.stderr
    assert not case.output.exists()
    report = case.told()
    assert (report["verified"], report["result"]) == (False, None)
    assert report["verification"]["rounds"][0]["faults"]
    (case.files / "state/count").write_text("")
    assert case.run(command, *mount, "--no-verify").code == 0


def test_original_is_asked_again_before_the_result_is_blamed(case: Case, tracestrip: Command) -> None:
    """Also where it was run a second time before that, where nothing may be repaired, and by verify."""
    condition, mount = counting(case)
    service = f"/bin/sh -c '{condition.format('-lt 3')} && exec sleep 1000'"
    finished = case.run(service, *mount, "--wait", "0.2", "--verify-probe", "true")
    assert finished.code == 5, finished.stderr
    job = f"/bin/sh -c '{condition.format('-lt 2')}'"
    (case.files / "state/count").write_text("")
    assert case.run(job, *mount, "--no-repair").code == 5
    (case.files / "state/count").write_text("")
    assert case.run(job, *mount, "--no-verify").code == 0
    (case.files / "state/count").write_text("")
    assert tracestrip("verify", "dir:/", f"docker-archive:{case.output}", "-e", job, *mount).code == 5


def test_original_that_fails_once_more_is_told_with_the_result(case: Case) -> None:
    """It fails in runs two to four, which are the result's, the result's once more, and the original's."""
    condition, mount = counting(case)
    script = f"ls {case.files} > /dev/null; {condition.format('-lt 2 -o $(wc -l < /mnt/count) -gt 4')}"
    finished = case.run(f"/bin/sh -c '{script}'", *mount)
    assert finished.code == 0, finished.stderr
    assert "warning: the original failed when it was run again" in finished.stderr
    assert "exit code 1" in case.told()["verification"]["original_failed_again"]


def test_chance_adds_nothing(case: Case) -> None:
    """What the target lists is not taken for what it lacks before it has failed twice."""
    condition, mount = counting(case)
    finished = case.run(f"/bin/sh -c 'ls {case.files} /usr/bin > /dev/null; {condition.format('-ne 2')}'", *mount)
    assert finished.code == 0, finished.stderr
    assert not case.has("first")


@pytest.mark.parametrize("options", [(), ("--no-repair",)])
def test_result_that_fails_for_chance_is_tried_once_more(case: Case, options: tuple[str, ...]) -> None:
    condition, mount = counting(case)
    finished = case.run(f"/bin/sh -c '{condition.format('-ne 2')}'", *mount, *options)
    assert finished.code == 0, finished.stderr
    assert "warning: the result failed once, with nothing missing" in finished.stderr
    assert [bool(round_["faults"]) for round_ in case.told()["verification"]["rounds"]] == [True, False]


def test_result_that_is_repaired_is_not_called_chance(case: Case) -> None:
    """Nothing fails to be found, so it is run again as it is before what it lists is added."""
    finished = case.run(f"/bin/ls {case.files}", "--compare-output")
    assert finished.code == 0, finished.stderr
    assert [bool(round_["faults"]) for round_ in case.told()["verification"]["rounds"]] == [True, True, False]
    assert "repaired in 1 round" in finished.stdout
    assert "second try" not in finished.stdout
    assert finished.stderr == ""


def test_result_that_fails_twice_with_nothing_missing_is_refused(case: Case) -> None:
    condition, mount = counting(case)
    command = f"/bin/sh -c '{condition.format('-ne 2 && test $(wc -l < /mnt/count) -ne 3')}'"
    is_refused(case, case.run(command, *mount), "the target failed (exit code 1)")


def test_result_without_its_user_is_a_difference(case: Case) -> None:
    """The sandbox itself cannot be made then."""
    finished = case.run("/bin/true", "--user", "nobody", "--exclude", "/etc/passwd")
    is_refused(case, finished, "nobody", "/etc/passwd")


def test_listed_entries_come_without_what_is_excluded(case: Case) -> None:
    """The excluded file is asked for in vain in each round: that is nothing new."""
    script = f"test -e {case.files}/first; ls {case.files}"
    options = ("--exclude", f"{case.files}/first", "--compare-output", "--ignore", r"^first\n")
    finished = case.run(f"/bin/sh -c '{script}'", *options)
    assert finished.code == 0, finished.stderr
    assert not case.has("first")
    assert case.has("second")


def test_what_only_the_stripped_run_asked_for_is_repaired(case: Case) -> None:
    """The target counts its runs, and uses another file in each second one, which are those of the result."""
    state = case.files / "state"
    state.mkdir()
    (state / "count").write_text("")
    (case.files / "sourced").write_text(":\n")
    script = f"echo >> /mnt/count; [ $(( $(wc -l < /mnt/count) % 2 )) = 1 ] || . {case.files}/sourced"
    finished = case.run(f"/bin/sh -c '{script}'", "--mount", f"type=bind,src={state},dst=/mnt")
    assert finished.code == 0, finished.stderr
    first, _ = case.told()["verification"]["rounds"]
    assert str(case.files / "sourced") in first["missed"]
    assert case.has("sourced")
