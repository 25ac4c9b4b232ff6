"""Observations in files, and images from the union of several; exercises that are repeated until nothing new comes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import TOP, Command, Finished, fails
from tests.images import config_of, stripped_layer
from tests.stripping import Root

MadeUp = Callable[..., Path]


@pytest.fixture
def image(made_up: MadeUp) -> str:
    return f"docker-archive:{made_up(Cmd=['/bin/touch', '/data/unused'])}"


@pytest.fixture
def observed(tracestrip: Command, image: str, tmp_path: Path) -> Callable[..., Path]:
    """The file that `observe` writes; by its name, and the path that the target opens."""

    def observe(name: str, path: str, *options: object) -> Path:
        output = tmp_path / name
        finished = tracestrip("observe", image, "-e", f"/bin/touch {path}", "-o", output, *options)
        assert finished.code == 0, finished.stderr
        assert f"{output}: the command ended by itself" in finished.stdout
        return output

    return observe


@pytest.fixture
def strip(tracestrip: Command, image: str, tmp_path: Path) -> Callable[..., Finished]:
    def run(*options: object, source: str = image) -> Finished:
        return tracestrip("strip", source, "-o", f"docker-archive:{tmp_path}/out.tar", "--force", *options)

    return run


def files(tmp_path: Path) -> set[str]:
    layer = stripped_layer(tmp_path / "out.tar")
    return {name for name in layer if name.startswith("data/")}


def test_result_has_what_any_observation_used(
    observed: Callable[..., Path], strip: Callable[..., Finished], tmp_path: Path
) -> None:
    first, second = observed("a.json", "/data/first"), observed("b.json", "/data/capable")
    report = tmp_path / "report.json"
    finished = strip("--observation", first, "--observation", second, "-e", "/bin/touch /data/first", "--report", report)
    assert finished.code == 0, finished.stderr
    assert files(tmp_path) == {"data/first", "data/capable"}
    told = json.loads(report.read_text())
    assert [exercise["command"][1] for exercise in told["exercises"]] == ["/data/first", "/data/capable"]
    assert told["verified"]
    assert config_of(tmp_path / "out.tar")["config"]["Cmd"] == ["/bin/touch", "/data/first"]


def test_strip_of_one_observation_is_what_run_makes(
    observed: Callable[..., Path], strip: Callable[..., Finished], tracestrip: Command, image: str, tmp_path: Path
) -> None:
    assert strip("--observation", observed("a.json", "/data/first")).code == 0
    from_file = (tmp_path / "out.tar").read_bytes()
    run = tracestrip("run", image, "-e", "/bin/touch /data/first", "-o", f"docker-archive:{tmp_path}/out.tar", "--force")
    assert run.code == 0, run.stderr
    assert (tmp_path / "out.tar").read_bytes() == from_file


def test_all_exercises_are_verified_again(
    observed: Callable[..., Path], strip: Callable[..., Finished], tmp_path: Path
) -> None:
    first, second = observed("a.json", "/data/first"), observed("b.json", "/data/suid")
    options = ("--observation", first, "--observation", second, "-e", "/bin/touch /data/first", "--exclude", "/data/suid")
    finished = strip(*options)
    assert finished.code == 6, finished.stderr
    assert "  |   /data/suid" in finished.stderr
    assert strip(*options, "--no-verify").code == 0
    assert files(tmp_path) == {"data/first"}


def test_outputs_of_recordings_are_compared_with_a_run_of_the_original(
    tracestrip: Command, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("x")
    recording, output = tmp_path / "a.json", f"docker-archive:{tmp_path}/out.tar"
    assert tracestrip("observe", "dir:/", "-e", f"/bin/ls {place}", "-o", recording).code == 0
    finished = tracestrip("strip", "dir:/", "--observation", recording, "-o", output, "--compare-output", "--no-repair")
    assert finished.code == 6, finished.stderr
    assert "  | -file" in finished.stderr
    finished = tracestrip("strip", "dir:/", "--observation", recording, "-o", output, "--compare-output")
    assert finished.code == 0, finished.stderr


def test_recording_keeps_the_surroundings_and_the_probes(tracestrip: Command, tmp_path: Path) -> None:
    """They are run again when the result is verified: else the variable, the mount and the script would be missing."""
    mounted, script, recording = tmp_path / "mounted", tmp_path / "probe.sh", tmp_path / "a.json"
    mounted.write_text("x")
    script.write_text(f"echo ran >> {tmp_path}/log\n")
    command = "/bin/sh -c 'test $A = 1 && test -e /mnt/it && exec sleep 1000'"
    options = ("--env", "A=1", "--mount", f"type=bind,src={mounted},dst=/mnt/it,ro", "--wait", "0", "--probe", f"@{script}")
    finished = tracestrip("observe", "dir:/", "-e", command, *options, "-o", recording)
    assert finished.code == 0, finished.stderr
    finished = tracestrip("strip", "dir:/", "--observation", recording, "-o", f"docker-archive:{tmp_path}/out.tar")
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "log").read_text() == "ran\nran\n"


def test_observation_of_another_image_is_refused(
    observed: Callable[..., Path], strip: Callable[..., Finished], made_up: MadeUp, tmp_path: Path
) -> None:
    recording = observed("a.json", "/data/first")
    digest = json.loads(recording.read_text())["image"]["digest"]
    (tmp_path / "other").mkdir()
    other = (tmp_path / "made-up.tar").rename(tmp_path / "other" / "image.tar")
    (tmp_path / "made-up.root").rename(tmp_path / "other" / "root")
    assert strip("--observation", recording, source=f"docker-archive:{other}").code == 0
    fails(strip("--observation", recording, source=f"docker-archive:{made_up(Env=['A=1'])}"), 2, str(recording), digest)


def test_what_strip_and_observe_cannot_do(
    observed: Callable[..., Path], strip: Callable[..., Finished], tracestrip: Command, image: str, tmp_path: Path
) -> None:
    fails(strip(), 2, "--observation")
    fails(strip("--observation", tmp_path / "none"), 2, "none")
    first, second = observed("a.json", "/data/first"), observed("b.json", "/data/suid")
    fails(strip("--observation", first, "--observation", second), 2, "-e")
    fails(tracestrip("observe", image, "-o", first), 2, "--force")
    fails(tracestrip("observe", image, "-e", "/none", "-o", tmp_path / "new"), 4)
    assert not (tmp_path / "new").exists()


def test_names_of_any_bytes_come_through_a_file(
    tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/touch").write_bytes(compiled("touch", "-static").read_bytes())
    (root / "bin/touch").chmod(0o755)
    name = b"/\xff\n\xf0"
    Path(str(root) + name.decode("utf-8", "surrogateescape")).write_bytes(b"x")
    command = "/bin/touch '" + name.decode("utf-8", "surrogateescape") + "'"
    recording = tmp_path / "a.json"
    finished = tracestrip("observe", f"dir:{root}", "-e", command, "-o", recording)
    assert finished.code == 0, finished.stderr
    strip = ("strip", f"dir:{root}", "--observation", recording, "-o", f"docker-archive:{tmp_path}/out.tar")
    fails(tracestrip(*strip), 2, "UTF-8")
    finished = tracestrip(*strip, "-e", "/bin/touch", "--no-verify")
    assert finished.code == 0, finished.stderr
    assert name[1:].decode("utf-8", "surrogateescape") in stripped_layer(tmp_path / "out.tar")


def test_exercise_is_repeated_until_nothing_new_comes(tracestrip: Command, tmp_path: Path) -> None:
    """The target uses one of two files, whichever chance says: ten runs in a row with the same one are hardly ever."""
    for name in "01":
        (tmp_path / name).write_text(name)
    report, output = tmp_path / "report.json", tmp_path / "out.tar"
    command = f"/bin/bash -c 'cat {tmp_path}/$((RANDOM % 2))'"
    finished = tracestrip(
        "run", "dir:/", "-e", command, "--until-stable", "10", "-o", f"docker-archive:{output}", "--report", report
    )
    assert finished.code == 0, finished.stderr
    (exercise,) = json.loads(report.read_text())["exercises"]
    assert exercise["runs"] > 10
    assert f"in each of {exercise['runs']} runs" in finished.stdout
    assert {str(tmp_path / name)[1:] for name in "01"} <= stripped_layer(output).keys()


def test_a_stable_exercise_is_repeated_as_often_as_asked(tracestrip: Command, image: str, tmp_path: Path) -> None:
    finished = tracestrip("observe", image, "--until-stable", "2", "-o", tmp_path / "a.json")
    assert finished.code == 0, finished.stderr
    assert json.loads((tmp_path / "a.json").read_text())["runs"] == 3


def test_runs_that_add_nothing_must_follow_one_another(tracestrip: Command, tmp_path: Path) -> None:
    """The target counts its runs: of five the third uses a new file."""
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted/count").write_text("")
    for name in ("early", "late"):
        (tmp_path / name).write_text(name)
    script = f"echo >> /mnt/count; read -r x < {tmp_path}/early; [ $(wc -l < /mnt/count) -lt 3 ] || cat {tmp_path}/late"
    finished = tracestrip(
        "observe", "dir:/", "-e", f"/bin/bash -c '{script}; true'", "--until-stable", "2",
        "--mount", f"type=bind,src={tmp_path}/mounted,dst=/mnt", "-o", tmp_path / "a.json",
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    assert json.loads((tmp_path / "a.json").read_text())["runs"] == 5


def test_a_command_that_was_not_observed_is_not_called_verified(
    observed: Callable[..., Path], strip: Callable[..., Finished], tmp_path: Path
) -> None:
    recording = observed("a.json", "/data/first")
    fails(strip("--observation", recording, "-e", "/bin/touch /data/suid"), 2, "/bin/touch /data/suid", "--no-verify")
    fails(strip("--observation", recording, "-e", ""), 2, "-e")
    fails(strip("--observation", recording, "--report", recording), 2, "--report")
    assert strip("--observation", recording, "-e", "/bin/touch  '/data/first'").code == 0
    assert strip("--observation", recording, "-e", "/bin/touch /data/suid", "--no-verify").code == 0
    assert config_of(tmp_path / "out.tar")["config"]["Labels"]["tracestrip.verified"] == "false"


def test_order_of_observations_does_not_matter(tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path) -> None:
    """One has a mount over what the other one uses, one a path for libraries."""
    root = Root(tracestrip, compiled, tmp_path)
    root.program("touch")
    root.files("data/first", "data/second")
    (tmp_path / "empty").mkdir()
    mount = f"type=bind,src={tmp_path}/empty,dst=/data"
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    for output, command, *options in (
        (first, "/touch /data/first", "--env", "LD_LIBRARY_PATH=/data"),
        (second, "/touch /touch", "--mount", mount),
    ):
        finished = tracestrip("observe", f"dir:{root.path}", "-e", command, "-o", output, *options)
        assert finished.code == 0, finished.stderr
    results = []
    for order in ((first, second), (second, first)):
        finished = tracestrip(
            "strip", f"dir:{root.path}", "--observation", order[0], "--observation", order[1], "-e", "/touch /touch",
            "--include", "/data/second", "-o", f"docker-archive:{root.output}", "--force",
        )  # fmt: skip
        assert finished.code == 0, finished.stderr
        results.append(stripped_layer(root.output).keys())
    assert results[0] == results[1]
    assert {"touch", "data/first", "data/second"} <= results[0]


def test_libraries_by_the_path_of_each_observation(tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path) -> None:
    """A program that is only looked at in one run, and needs a library where the other run's loader looks."""
    root = Root(tracestrip, compiled, tmp_path)
    root.program("touch")
    root.libraries(Path("/bin/true"))
    (root.path / "hidden").mkdir()
    (tmp_path / "needed.c").write_text("int needed(void) { return 0; }")
    (tmp_path / "needs.c").write_text("int needed(void); int main(void) { return needed(); }")
    library = root.path / "hidden/libneeded.so"
    subprocess.run(["gcc", "-shared", "-Wl,-soname,libneeded.so", "-o", library, tmp_path / "needed.c"], check=True)
    subprocess.run(["gcc", "-o", root.path / "needs", tmp_path / "needs.c", f"-L{library.parent}", "-lneeded"], check=True)
    (tmp_path / "mounted").mkdir()
    mount = ("--mount", f"type=bind,src={tmp_path}/mounted,dst=/hidden")
    recordings = []
    for name, options in {"plain": (), "mounted": mount, "path": ("--env", "LD_LIBRARY_PATH=/hidden")}.items():
        recordings += ["--observation", tmp_path / f"{name}.json"]
        finished = tracestrip("observe", f"dir:{root.path}", "-e", "/touch /needs", "-o", recordings[-1], *options)
        assert finished.code == 0, finished.stderr
    for order in (recordings, [*recordings[4:], *recordings[:4]]):
        finished = tracestrip("strip", f"dir:{root.path}", *order, "-o", f"docker-archive:{root.output}", "--force")
        assert finished.code == 0, finished.stderr
        assert "hidden/libneeded.so" in stripped_layer(root.output)


def test_probes_are_run_again_where_they_were(tracestrip: Command, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    for directory in (place, elsewhere):
        directory.mkdir()
    (place / "check").write_text("test -e check && echo x >> ran")
    command = [sys.executable, "-m", "tracestrip"]
    environment = os.environ | {"PYTHONPATH": str(TOP)}
    options = ("-e", "/bin/sleep 1000", "--wait", "0", "--probe", "sh check")
    subprocess.run([*command, "observe", "dir:/", *options, "-o", tmp_path / "a.json"], cwd=place, env=environment, check=True)
    strip = ("strip", "dir:/", "--observation", tmp_path / "a.json", "-o", f"docker-archive:{tmp_path}/out.tar")
    (elsewhere / "mine").write_text("x")
    strip = (*strip, "--verify-probe", "test -e mine")
    subprocess.run([*command, *strip], cwd=elsewhere, env=environment, check=True)
    assert (place / "ran").read_text() == "x\nx\nx\n"  # observed, with the held-out probe, and verified
