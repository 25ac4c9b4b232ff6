"""The main job against a real engine, on real images."""

import json
import re
import tarfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors
import docker.models.containers
import pytest

from tests.conftest import Command

Name = Callable[[str], str]

APACHE_OWN = ("/etc/apache2", "/var/www", "/var/run/apache2", "/var/lock/apache2", "/var/log/apache2")


@contextmanager
def served(engine: docker.DockerClient, image: str, command: str | None = None) -> Iterator[int]:
    """The HTTP status of / of a container, asked over the engine's network."""
    container = engine.containers.run(image, command, detach=True)
    try:
        yield ask(container)
    finally:
        container.remove(force=True)


def ask(container: docker.models.containers.Container) -> int:
    deadline = time.monotonic() + 15
    while True:
        container.reload()
        address = container.attrs["NetworkSettings"]["IPAddress"]
        try:
            with urllib.request.urlopen(f"http://{address}/", timeout=2) as answer:
                return int(answer.status)
        except OSError:
            assert container.status == "running", container.logs()
            assert time.monotonic() < deadline, container.logs()
            time.sleep(0.1)


def test_stripped_httpd_serves(
    tracestrip: Command, engine: docker.DockerClient, image: Name, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    source, report = image("httpd"), tmp_path / "report.json"
    arguments = ("run", source, "-e", "/usr/sbin/httpd", "--probe", "curl -fsS localhost")
    assert tracestrip(*arguments).code == 0
    finished = tracestrip(*arguments, "--report", report)  # warm
    assert finished.code == 0, finished.stderr
    assert finished.seconds <= 6
    assert finished.peak_memory <= 150 * 10**6
    assert finished.stderr == ""
    assert "fixture:httpd-stripped" in finished.stdout
    with served(engine, "fixture:httpd-stripped", "/usr/sbin/httpd -DFOREGROUND") as status:
        assert status == 200

    stripped = engine.images.get("fixture:httpd-stripped")
    assert stripped.attrs["Size"] <= 6.5 * 10**6
    document = json.loads(report.read_text())
    assert document["schema_version"] == 2
    assert document["source"]["digest"] == engine.images.get(source).id
    assert document["result"]["digest"] == stripped.id
    assert document["result"]["bytes"] == pytest.approx(stripped.attrs["Size"], rel=0.001)  # it counts symlinks' targets
    kept = {row["path"]: row for row in document["kept"]}
    rules = {path: {reason["rule"] for reason in row["reasons"]} for path, row in kept.items()}
    assert "executed" in rules["/usr/sbin/apache2"]
    assert "symlink to" in rules["/usr/sbin/httpd"]
    assert "ldd of" in rules["/usr/lib/x86_64-linux-gnu/libapr-1.so.0.7.2"]
    assert {"always kept", "opened"} <= rules["/etc/passwd"]
    opened = next(reason for reason in kept["/var/www/html/index.html"]["reasons"] if reason["rule"] == "opened")
    assert opened["first_used_by"]["program"] == "/usr/sbin/apache2"
    assert not any(path.startswith("/usr/bin/") for path in kept)

    enabled = modules(archive("httpd"))
    assert len(enabled) >= 15
    assert enabled <= {Path(path).name for path in kept}


def modules(archive: Path) -> set[str]:
    """The modules that the image's configuration loads, by mods-enabled."""
    with tarfile.open(archive) as outer:
        layer = next(member for member in outer if len(member.name) > 64 and member.name.endswith(".tar"))
        found = set()
        with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
            links = {Path(member.linkname).name for member in inner if "/mods-enabled/" in member.name}
            for member in inner:
                if "/mods-available/" in member.name and Path(member.name).name in links:
                    file = inner.extractfile(member)
                    assert file is not None
                    found |= set(re.findall(rb"^LoadModule \S+ \S*/(mod_\w+\.so)", file.read(), re.MULTILINE))
    return {name.decode() for name in found}


def test_own_command_of_the_image(tracestrip: Command, engine: docker.DockerClient, image: Name) -> None:
    finished = tracestrip("run", image("httpd"), "--probe", "curl -fsS localhost", "--tag", "fixture:httpd-own")
    assert finished.code == 0, finished.stderr
    with served(engine, "fixture:httpd-own") as status:
        assert status == 200


def test_config_is_kept(tracestrip: Command, engine: docker.DockerClient, image: Name) -> None:
    source = image("httpd")
    assert tracestrip("run", source, "--probe", "curl -fsS localhost", "--tag", "fixture:httpd-config").code == 0
    before, after = (engine.images.get(name).attrs["Config"] for name in (source, "fixture:httpd-config"))
    for key in ("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts", "Volumes", "StopSignal"):
        assert after.get(key) == before.get(key), key
    assert after["Labels"]["tracestrip.fixture"] == "httpd"
    assert after["Labels"]["tracestrip.source.digest"] == engine.images.get(source).id


def test_ldd_alone_loses_the_modules(tracestrip: Command, engine: docker.DockerClient, image: Name) -> None:
    """`httpd -v` loads what ldd names and no module: with all of the configuration httpd still cannot start."""
    finished = tracestrip(
        "run", image("httpd"), "-e", "/usr/sbin/httpd -v", "--tag", "fixture:httpd-ldd",
        *(word for path in APACHE_OWN for word in ("--include", path)),
    )  # fmt: skip
    assert finished.code == 0, finished.stderr
    with pytest.raises(docker.errors.ContainerError) as failure:
        engine.containers.run("fixture:httpd-ldd", "/usr/sbin/httpd -DFOREGROUND", remove=True, stderr=True)
    assert re.search(rb"Cannot load \S*mod_\w+\.so", failure.value.stderr)


def test_seed_command(tracestrip: Command, engine: docker.DockerClient, image: Name) -> None:
    finished = tracestrip("run", image("bash"), "-e", "/bin/bash")
    assert finished.code == 0, finished.stderr
    assert engine.images.get("fixture:bash-stripped").attrs["Size"] <= 4 * 10**6
    worked = engine.containers.run("fixture:bash-stripped", ["/bin/bash", "-c", "echo it worked"], remove=True)
    assert worked == b"it worked\n"
    with pytest.raises(docker.errors.ContainerError, match="127"):
        engine.containers.run("fixture:bash-stripped", ["/bin/bash", "-c", "ls"], remove=True)


def test_stripped_nginx_serves(tracestrip: Command, engine: docker.DockerClient, image: Name) -> None:
    """It logs through symlinks to /dev/stdout and /dev/stderr, which lead out of the image."""
    finished = tracestrip("run", image("nginx"), "--probe", "curl -fsS localhost")
    assert finished.code == 0, finished.stderr
    with served(engine, "fixture:nginx-stripped") as status:
        assert status == 200


def test_engine_and_archive_give_the_same_layer(
    tracestrip: Command, image: Name, archive: Callable[[str], Path], tmp_path: Path
) -> None:
    digests = set()
    for number, source in enumerate((image("bash"), f"docker-archive:{archive('bash')}")):
        output = f"docker-archive:{tmp_path}/{number}.tar"
        finished = tracestrip("run", source, "-e", "/bin/bash -c true", "-o", output, "--format", "json")
        assert finished.code == 0, finished.stderr
        digests.add(json.loads(finished.stdout)["result"]["layer"]["digest"])
    assert len(digests) == 1


def test_missing_image_is_told_with_a_close_name(tracestrip: Command, image: Name) -> None:
    image("httpd")
    finished = tracestrip("run", "fixture:htpd")
    assert finished.code == 3
    assert "did you mean" in finished.stderr
    assert "fixture:httpd" in finished.stderr
    assert finished.stderr.count("\n") == 1
