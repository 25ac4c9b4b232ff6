"""An engine that keeps layers in another form than overlayfs: the image is saved instead of read in place."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.conftest import Command


@pytest.fixture
def plain_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """DOCKER_HOST of an engine with the vfs storage driver and no network.

    It has a network namespace of its own: with ``--bridge none`` an engine deletes the ``docker0`` of the others.
    """
    place = tmp_path_factory.mktemp("engine")
    host = f"unix://{place}/docker.sock"
    command = ["unshare", "--net", "dockerd", "--host", host, "--data-root", place / "data", "--exec-root", place / "exec"]
    options = ["--pidfile", place / "pid", "--storage-driver", "vfs", "--bridge", "none", "--iptables=false"]
    with (place / "log").open("wb") as log, subprocess.Popen([*command, *options], stdout=log, stderr=log) as engine:
        try:
            deadline = time.monotonic() + 30
            while subprocess.run(["docker", "--host", host, "version"], capture_output=True, check=False).returncode:
                assert time.monotonic() < deadline, (place / "log").read_text()
                time.sleep(0.1)
            yield host
        finally:
            engine.terminate()


def test_image_is_saved_and_the_result_loaded(
    tracestrip: Command, archive: Callable[[str], Path], plain_engine: str
) -> None:
    client = docker.DockerClient(base_url=plain_engine)
    with archive("bash").open("rb") as file:
        client.images.load(file)
    assert client.images.get("fixture:bash").attrs["GraphDriver"]["Name"] == "vfs"
    finished = tracestrip("run", "fixture:bash", "-e", "/bin/bash", DOCKER_HOST=plain_engine)
    assert finished.code == 0, finished.stderr
    stripped = client.images.get("fixture:bash-stripped")
    assert stripped.attrs["Size"] <= 4 * 10**6
    assert stripped.attrs["Config"]["Cmd"] == ["/bin/bash"]
    client.close()
