"""From archives and directories to archives, with no engine in reach."""

import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Command
from tests.images import CAPABILITY, config_of, image_archive, stripped_layer

NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent/docker.sock"}

def test_archive_to_archive_serves_the_seed_command(
    tracestrip: Command, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / "bash.tar"
    source = f"docker-archive:{archive('bash')}"
    command = "/bin/bash -c 'echo it worked'"
    finished = tracestrip("run", source, "-e", command, "-o", f"docker-archive:{output}", **NO_ENGINE)
    assert finished.code == 0, finished.stderr
    assert output.stat().st_size <= 4 * 10**6
    layer = stripped_layer(output)
    assert "usr/bin/bash" in layer
    assert "usr/bin/ls" not in layer
    assert config_of(output)["config"]["Cmd"] == ["/bin/bash", "-c", "echo it worked"]


def test_host_directory_to_archive(tracestrip: Command, tmp_path: Path) -> None:
    output = tmp_path / "bash.tar"
    finished = tracestrip("run", "dir:/", "-e", "/bin/bash -c 'echo it worked'", "-o", f"docker-archive:{output}", **NO_ENGINE)
    assert finished.code == 0, finished.stderr
    root = tmp_path / "root"
    root.mkdir()
    with tarfile.open(output) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))
        subprocess.run(["tar", "-C", root, "-xf", "-"], input=outer.extractfile(manifest[0]["Layers"][0]).read(), check=True)
    worked = subprocess.run(["chroot", root, "/bin/bash", "-c", "echo it worked; ls"], capture_output=True, check=False)
    assert worked.stdout == b"it worked\n"
    assert b"ls: command not found" in worked.stderr


def test_metadata_survives(tracestrip: Command, made_up: Callable[..., Path], tmp_path: Path) -> None:
    output = tmp_path / "out.tar"
    command = "/bin/touch /link/suid /data/capable /data/first /data/second"
    finished = tracestrip("run", f"docker-archive:{made_up()}", "-e", command, "-o", f"docker-archive:{output}", **NO_ENGINE)
    assert finished.code == 0, finished.stderr
    layer = stripped_layer(output)
    assert (layer["data/suid"].mode, layer["data/suid"].uid, layer["data/suid"].gid) == (0o4711, 33, 44)
    capability = layer["data/capable"].pax_headers["SCHILY.xattr.security.capability"]
    assert capability.encode("utf-8", "surrogateescape") == CAPABILITY
    assert layer["data/second"].islnk()
    assert layer["data/second"].linkname == "data/first"
    assert layer["data/first"].pax_headers["mtime"] == "1234567890.123456789"
    assert layer["link"].linkname == "/data"
    assert "data/unused" not in layer


def test_capability_is_restored_by_tar(tracestrip: Command, made_up: Callable[..., Path], tmp_path: Path) -> None:
    output, root = tmp_path / "out.tar", tmp_path / "root"
    root.mkdir()
    tracestrip("run", f"docker-archive:{made_up()}", "-e", "/bin/touch /data/capable", "-o", f"docker-archive:{output}")
    with tarfile.open(output) as outer:
        layer = json.load(outer.extractfile("manifest.json"))[0]["Layers"][0]
        subprocess.run(
            ["tar", "--xattrs", "--xattrs-include=*", "-C", root, "-xf", "-"], input=outer.extractfile(layer).read(), check=True
        )
    assert os.getxattr(root / "data/capable", "security.capability") == CAPABILITY


def test_same_run_gives_the_same_bytes(tracestrip: Command, made_up: Callable[..., Path], tmp_path: Path) -> None:
    source = made_up()
    outputs = [tmp_path / "one.tar", tmp_path / "two.tar"]
    for output in outputs:
        arguments = (f"docker-archive:{source}", "-e", "/bin/touch /data/first", "-o", f"docker-archive:{output}")
        finished = tracestrip("run", *arguments)
        assert finished.code == 0, finished.stderr
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_config_is_kept_and_labelled(tracestrip: Command, made_up: Callable[..., Path], tmp_path: Path) -> None:
    config = {
        "Env": ["A=b"], "User": "web", "WorkingDir": "/data", "Cmd": ["/bin/touch"], "StopSignal": "SIGQUIT",
        "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "Healthcheck": {"Test": ["NONE"]},
        "Labels": {"mine": "1", "org.opencontainers.image.base.name": "debian"},
    }  # fmt: skip
    output = tmp_path / "out.tar"
    finished = tracestrip("run", f"docker-archive:{made_up(**config)}", "-o", f"docker-archive:{output}", "--wait", "0")
    assert finished.code == 0, finished.stderr
    document = config_of(output)
    labels = document["config"].pop("Labels")
    assert document["config"] == {key: value for key, value in config.items() if key != "Labels"}
    assert labels["mine"] == "1"
    assert labels["tracestrip.source.digest"].startswith("sha256:")
    assert not any(key.startswith("org.opencontainers.image.base.") for key in labels)
    assert document["history"]
    assert "data" in stripped_layer(output)


def test_user_groups_and_workdir_are_the_images(
    tracestrip: Command, tmp_path: Path, compiled: Callable[..., Path]
) -> None:
    program = compiled("who", "-static")
    source = image_archive(tmp_path / "who.tar", program, {"User": "web", "WorkingDir": "/data", "Env": ["A=b"]})
    finished = tracestrip("run", f"docker-archive:{source}", "-e", "/bin/touch", "-o", f"docker-archive:{tmp_path}/o.tar")
    assert finished.code == 0, finished.stderr


def test_included_program_brings_its_libraries(tracestrip: Command, tmp_path: Path) -> None:
    output = tmp_path / "out.tar"
    finished = tracestrip(
        "run", "dir:/", "-e", "/bin/true", "--include", "/usr/bin/curl", "-o", f"docker-archive:{output}", **NO_ENGINE
    )
    assert finished.code == 0, finished.stderr
    names = set(stripped_layer(output))
    asked = subprocess.run(["ldd", "/usr/bin/curl"], capture_output=True, text=True, check=True).stdout
    libraries = {os.path.realpath(word).lstrip("/") for word in asked.split() if word.startswith("/")}
    assert len(libraries) > 10
    assert libraries <= names


def test_excluded_paths_are_dropped(tracestrip: Command, made_up: Callable[..., Path], tmp_path: Path) -> None:
    output = tmp_path / "out.tar"
    command = "/bin/touch /data/first /data/suid"
    finished = tracestrip(
        "run", f"docker-archive:{made_up()}", "-e", command, "--exclude", "/data/s*", "-o", f"docker-archive:{output}",
        "--no-verify",
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    assert "data/first" in stripped_layer(output)
    assert "data/suid" not in stripped_layer(output)


def test_what_the_run_writes_is_not_published(tracestrip: Command, tmp_path: Path) -> None:
    output, place = tmp_path / "out.tar", tmp_path / "place"
    place.mkdir()
    (place / "kept").write_text("original")
    command = f"/bin/sh -c 'echo changed > {place}/kept; echo new > {place}/new; cat {place}/new'"
    finished = tracestrip("run", "dir:/", "-e", command, "-o", f"docker-archive:{output}")
    assert finished.code == 0, finished.stderr
    layer = stripped_layer(output)
    assert layer[f"{place}/kept".lstrip("/")].size == len("original")
    assert f"{place}/new".lstrip("/") not in layer
    assert (place / "kept").read_text() == "original"


def test_report_names_no_program_of_the_host(tracestrip: Command, tmp_path: Path) -> None:
    output = f"docker-archive:{tmp_path}/out.tar"
    finished = tracestrip("run", "dir:/", "-e", "/bin/true", "-o", output, "--report", tmp_path / "report")
    assert finished.code == 0, finished.stderr
    kept = json.loads((tmp_path / "report").read_text())["kept"]
    programs = {reason["first_used_by"]["program"] for one in kept for reason in one["reasons"] if "first_used_by" in reason}
    assert programs == {"tracestrip", "/usr/bin/true"}
