"""Images in every form that strangers write, and what strangers make of the images that tracestrip writes."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.conftest import TOP, Command
from tests.formats import names, read, run, skopeo, three_layers
from tests.images import config_of, image_archive, stripped_layer
from tests.layers import docker_archive, layer, member
from tests.layouts import INDEX, Layout, layer_bytes, look, zipped
from tracestrip.errors import ImageError
from tracestrip.image.image import LayerArchive
from tracestrip.image.platform import Platform, host_architecture

MadeUp = Callable[..., Path]
OTHER = {"amd64": "arm64"}.get(host_architecture(), "amd64")


# Reading.


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("docker-archive:{}:made:up", ()),
        ("oci:{}:v1", ()),
        ("oci:{}:v1", ("--dest-compress-format", "zstd")),
        ("oci-archive:{}:v1", ("--dest-compress-format", "gzip")),
        ("oci-archive:{}", ()),
    ],
)
def test_what_skopeo_writes_is_read(tmp_path: Path, form: str, options: tuple[str, ...]) -> None:
    layers = three_layers(tmp_path)
    source = docker_archive(tmp_path / "source.tar", {"made:up": layers})
    target = form.format(tmp_path / "copied")
    skopeo("copy", *options, f"docker-archive:{source}", target)
    image = read(target, tmp_path)
    assert [part.diff_id for part in image.layers] == [part.diff_id for part in layers]  # type: ignore[union-attr]
    assert names(image) == [b"/", b"/a", b"/c"]


def test_what_umoci_writes_is_read(tmp_path: Path) -> None:
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    run("umoci", "init", "--layout", layout)
    run("umoci", "new", "--image", f"{layout}:v1")
    run("umoci", "unpack", "--image", f"{layout}:v1", bundle)
    (bundle / "rootfs" / "hello").write_text("hello")
    run("umoci", "repack", "--image", f"{layout}:v1", bundle)
    assert b"/hello" in names(read(f"oci:{layout}:v1", tmp_path))


@pytest.mark.parametrize("format_", ["docker-archive", "oci-archive"])
def test_what_podman_saves_is_read(podman: Callable[..., str], tmp_path: Path, format_: str) -> None:
    layers = three_layers(tmp_path)
    podman("load", "-i", docker_archive(tmp_path / "source.tar", {"made:up": layers}))
    podman("save", "--format", format_, "-o", tmp_path / "saved", "localhost/made:up")
    image = read(f"{format_}:{tmp_path}/saved:made:up", tmp_path)
    assert [part.diff_id for part in image.layers] == [part.diff_id for part in layers]  # type: ignore[union-attr]


def test_what_docker_saves_is_read_also_compressed(engine: docker.DockerClient, tmp_path: Path) -> None:
    layers = three_layers(tmp_path)
    engine.images.load(docker_archive(tmp_path / "source.tar", {"made:saved": layers}).read_bytes())
    try:
        saved = b"".join(engine.images.get("made:saved").save(named=True))
    finally:
        engine.images.remove("made:saved", force=True)
    for number, content in enumerate((saved, gzip.compress(saved))):
        file = tmp_path / f"saved{number}"
        file.write_bytes(content)
        image = read(f"docker-archive:{file}", tmp_path)
        assert (image.tag, names(image)) == ("made:saved", [b"/", b"/a", b"/c"])


def legacy_archive(file: Path, layers: list[LayerArchive]) -> Path:
    """As Docker 1.9 saved images: no manifest, each layer with its own JSON."""
    place = file.with_suffix(".d")
    parent = ""
    for number, part in enumerate(layers):
        identity = f"{number:064x}"
        (place / identity).mkdir(parents=True)
        config = {"id": identity, "parent": parent, "architecture": host_architecture(), "config": {"Cmd": ["/a"]}}
        (place / identity / "json").write_text(json.dumps(config))
        (place / identity / "VERSION").write_text("1.0")
        (place / identity / "layer.tar").write_bytes(part.file.read_bytes())
        parent = identity
    (place / "repositories").write_text(json.dumps({"old/made": {"1": parent}}))
    run("tar", "-C", place, "-cf", file, ".")
    return file


def test_archive_of_an_old_docker_is_read(tmp_path: Path) -> None:
    layers = three_layers(tmp_path)
    image = read(f"docker-archive:{legacy_archive(tmp_path / 'old.tar', layers)}", tmp_path)
    assert [part.diff_id for part in image.layers] == [part.diff_id for part in layers]  # type: ignore[union-attr]
    assert image.config.command == ("/a",)
    assert image.tag == "old/made:1"
    with pytest.raises(ImageError, match="old/made:1"):
        read(f"docker-archive:{tmp_path}/old.tar:other:2", tmp_path)


def test_archive_in_the_form_of_docker_25_is_read(tmp_path: Path) -> None:
    """It is an OCI layout and has a manifest.json too."""
    made = Layout(tmp_path / "layout")
    content = layer_bytes(tmp_path, [member("a")])
    image = made.image(content)
    made.index(**{"made:up": image})
    manifest = json.loads((made.place / "blobs" / image["digest"].replace(":", "/")).read_text())
    names_of = {key: "blobs/" + manifest[key]["digest"].replace(":", "/") for key in ("config",)}
    layers = ["blobs/" + part["digest"].replace(":", "/") for part in manifest["layers"]]
    saved = [{"Config": names_of["config"], "RepoTags": ["made:up"], "Layers": layers}]
    (made.place / "manifest.json").write_text(json.dumps(saved))
    run("tar", "-C", made.place, "-cf", tmp_path / "saved.tar", ".")
    for reference in (f"docker-archive:{tmp_path}/saved.tar", f"oci-archive:{tmp_path}/saved.tar"):
        found = read(reference, tmp_path)
        assert (found.tag, names(found)) == ("made:up", [b"/", b"/a"])


def test_archive_with_several_images(tmp_path: Path) -> None:
    images = {name: [layer(tmp_path / f"{name[0]}.tar", member(name[0]))] for name in ("a:1", "b:2")}
    file = docker_archive(tmp_path / "archive.tar", images)
    for chosen in ("b:2", "docker.io/library/b:2", "@1"):
        assert names(read(f"docker-archive:{file}:{chosen}", tmp_path)) == [b"/", b"/b"]
    with pytest.raises(ImageError, match="a:1, b:2"):
        read(f"docker-archive:{file}", tmp_path)
    for wrong in ("c:3", "@2"):
        with pytest.raises(ImageError, match="no image"):
            read(f"docker-archive:{file}:{wrong}", tmp_path)


def test_name_of_several_images_is_refused(tmp_path: Path) -> None:
    part = layer(tmp_path / "layer.tar", member("a"))
    images = {name: [part] for name in ("a:1", "docker.io/a:1", "a:2")}
    file = docker_archive(tmp_path / "archive.tar", images)
    assert read(f"docker-archive:{file}:a:1", tmp_path).tag == "a:1"
    with pytest.raises(ImageError, match="names several"):
        read(f"docker-archive:{file}:localhost/a:1", tmp_path)


def test_layout_with_several_images(tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    images = {name: made.image(layer_bytes(tmp_path, [member(name)])) for name in ("one", "two")}
    made.index(**images)
    assert names(read(f"oci:{made.place}:two", tmp_path)) == [b"/", b"/two"]
    assert names(read(f"oci:{made.place}:@0", tmp_path)) == [b"/", b"/one"]
    with pytest.raises(ImageError, match="one, two"):
        read(f"oci:{made.place}", tmp_path)
    with pytest.raises(ImageError, match="no image three"):
        read(f"oci:{made.place}:three", tmp_path)


def index_of_platforms(place: Path) -> Layout:
    """As buildx makes it: an index of an index, with an attestation, and one platform whose blobs are not here."""
    made = Layout(place)
    host = host_architecture()
    manifests = []
    for architecture, variant in ((OTHER, ""), (host, "v3"), (host, "")):
        name = f"{architecture}{variant}"
        image = made.image(layer_bytes(place, [member(name)]), config={"architecture": architecture, "variant": variant})
        manifests.append({**image, "platform": {"os": "linux", "architecture": architecture, "variant": variant}})
    attestation = made.image(layer_bytes(place, [member("attestation")]))
    manifests.append({**attestation, "platform": {"os": "unknown", "architecture": "unknown"}})
    absent = {**attestation, "digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "riscv64"}}
    made.index(app=made.blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": [*manifests, absent]}, INDEX))
    return made


def test_index_for_several_platforms(tmp_path: Path) -> None:
    made = index_of_platforms(tmp_path / "layout")
    reference, host = f"oci:{made.place}:app", host_architecture()
    assert names(read(reference, tmp_path)) == [b"/", b"/" + host.encode()]
    for wanted, name in ((Platform("linux", OTHER), OTHER), (Platform("linux", host, "v3"), host + "v3")):
        assert names(read(reference, tmp_path, wanted)) == [b"/", b"/" + name.encode()]
    with pytest.raises(ImageError, match=r"no image for linux/s390x, but for .*linux/riscv64"):
        read(reference, tmp_path, Platform("linux", "s390x"))
    with pytest.raises(ImageError, match="lacks blobs/sha256/0000"):
        read(reference, tmp_path, Platform("linux", "riscv64"))


def test_platform_is_chosen_on_the_command_line(tracestrip: Command, tmp_path: Path) -> None:
    made = index_of_platforms(tmp_path / "layout")
    finished = tracestrip(
        "run", f"oci:{made.place}", "--platform", f"linux/{OTHER}", "-e", "/x", "-o", f"oci:{tmp_path}/out"
    )
    assert (finished.code, finished.stdout) == (3, "")
    assert f"it is for linux/{OTHER}, this machine is linux/{host_architecture()}" in finished.stderr


@pytest.mark.skipif(host_architecture() != "amd64", reason="only these processors run programs of 386 images")
def test_image_for_386_runs_on_amd64(tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path) -> None:
    made = image_archive(tmp_path / "i.tar", compiled("touch", "-static", "-m32"), {}, "386")
    output = tmp_path / "out.tar"
    finished = tracestrip("run", f"docker-archive:{made}", "-e", "/bin/touch /data/suid", "-o", f"docker-archive:{output}")
    assert finished.code == 0, finished.stderr
    assert config_of(output)["architecture"] == "386"
    assert {"bin/touch", "data/suid"} <= set(stripped_layer(output))
    assert "data/unused" not in stripped_layer(output)


# What strangers make of what tracestrip writes.


@pytest.fixture
def podman_store() -> Iterator[tuple[str, ...]]:
    """Options that give Podman a store of its own; its paths must be short."""
    place = tempfile.mkdtemp(prefix="podman-")
    yield ("--root", f"{place}/root", "--runroot", f"{place}/run", "--storage-driver", "overlay")
    subprocess.run(["umount", f"{place}/root/overlay"], stderr=subprocess.DEVNULL, check=False)
    subprocess.run(["rm", "-rf", place], check=True)


@pytest.fixture
def podman(podman_store: tuple[str, ...]) -> Callable[..., str]:
    return lambda *arguments: run("podman", *podman_store, *arguments)


@pytest.fixture
def stripped(tracestrip: Command, made_up: MadeUp, tmp_path: Path) -> Callable[[str], str]:
    """The reference of a stripped image in any form."""
    source = made_up(Cmd=["/bin/touch", "/data/capable", "/data/second", "/data/first"], Labels={"mine": "1"})

    def strip(transport: str) -> str:
        reference = f"{transport}:{tmp_path}/stripped-{transport}:strange/name:1"
        finished = tracestrip("run", f"docker-archive:{source}", "-o", reference)
        assert finished.code == 0, finished.stderr
        assert finished.stdout.startswith(reference + "\n")
        return reference

    return strip


FORMS = ("docker-archive", "oci", "oci-archive")


@pytest.mark.parametrize("transport", FORMS)
def test_skopeo_inspects_and_copies_to_every_form(stripped: Callable[[str], str], tmp_path: Path, transport: str) -> None:
    reference = stripped(transport)
    inspected = json.loads(skopeo("inspect", reference))
    assert inspected["Labels"]["mine"] == "1"
    assert inspected["Labels"]["tracestrip.source.digest"].startswith("sha256:")
    (diff_id,) = json.loads(skopeo("inspect", "--config", reference))["rootfs"]["diff_ids"]
    for number, other in enumerate(FORMS):
        copied = f"{other}:{tmp_path}/copied{number}:x/y:2"
        skopeo("copy", reference, copied)
        again = read(copied, tmp_path)
        assert [part.diff_id for part in again.layers] == [diff_id]  # type: ignore[union-attr]


def test_umoci_unpacks_and_finds_everything(stripped: Callable[[str], str], tmp_path: Path) -> None:
    place = stripped("oci").removeprefix("oci:")
    run("umoci", "unpack", "--image", place, tmp_path / "bundle")
    seen = look(tmp_path / "bundle" / "rootfs")
    assert seen[b"/data/capable"].attributes[0][0] == "security.capability"
    assert seen[b"/data/second"].first_link == b"/data/first"
    assert seen[b"/data/first"].mtime == 1234567890_123456789
    assert b"/data/unused" not in seen
    assert run("umoci", "stat", "--image", place)


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_podman_loads(podman: Callable[..., str], stripped: Callable[[str], str], transport: str) -> None:
    reference = stripped(transport)
    assert "localhost/strange/name:1" in podman("load", "-i", reference.split(":")[1])
    (image,) = json.loads(podman("inspect", "localhost/strange/name:1"))
    assert image["Config"]["Labels"]["mine"] == "1"


def test_docker_loads_and_runs(engine: docker.DockerClient, stripped: Callable[[str], str]) -> None:
    reference = stripped("docker-archive")
    (image,) = engine.images.load(Path(reference.split(":")[1]).read_bytes())
    try:
        assert image.tags == ["strange/name:1"]
        engine.containers.run("strange/name:1", remove=True)
    finally:
        engine.images.remove("strange/name:1", force=True)


# Podman as the engine.


@pytest.fixture
def podman_socket(podman_store: tuple[str, ...], tmp_path: Path) -> Iterator[Path]:
    socket, log = tmp_path / "podman.sock", tmp_path / "service.log"
    command = ["podman", *podman_store, "system", "service", "--time", "0", f"unix://{socket}"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as service:
        try:
            deadline = time.monotonic() + 20
            while not socket.exists():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield socket
        finally:
            service.terminate()


def test_podman_is_found_and_used_in_place(
    podman: Callable[..., str], podman_socket: Path, made_up: MadeUp, tracestrip: Command, tmp_path: Path
) -> None:
    podman("load", "-i", made_up())
    arguments = ("run", "made:up", "-e", "/bin/touch /data/capable /data/second", "--report", tmp_path / "report")
    inside = f'mount -t tmpfs none /run && mkdir /run/podman && ln -s {podman_socket} /run/podman/podman.sock && exec "$@"'
    environment = {key: value for key, value in os.environ.items() if key not in ("DOCKER_HOST", "CONTAINER_HOST")}
    environment["PYTHONPATH"] = str(TOP)
    command = ["unshare", "--mount", "sh", "-c", inside, "sh", sys.executable, "-m", "tracestrip", *map(str, arguments)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    (image,) = json.loads(podman("inspect", "localhost/made:up-stripped"))
    report = json.loads((tmp_path / "report").read_text())
    assert f"sha256:{image['Id']}" == report["result"]["digest"]
    output = tmp_path / "same.tar"
    assert tracestrip(*arguments, "-o", f"docker-archive:{output}", DOCKER_HOST=f"unix://{podman_socket}").code == 0
    podman("save", "-o", tmp_path / "saved", "made:up")
    again = read(f"docker-archive:{tmp_path}/saved:made:up", tmp_path)
    assert again.digest == report["source"]["digest"]
    for name in ("capable", "second"):
        assert any(kept["path"] == f"/data/{name}" for kept in report["kept"])


def test_zipped_layout_keeps_its_digests(tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    content = layer_bytes(tmp_path, [member("a")])
    made.index(v1=made.image(content, compress=("+gzip", zipped)))
    image = read(f"oci:{made.place}", tmp_path)
    assert [part.diff_id for part in image.layers] == [f"sha256:{hashlib.sha256(content).hexdigest()}"]  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "layout.tar", "w") as archive:
        archive.add(made.place, ".")
    assert read(f"oci-archive:{tmp_path}/layout.tar", tmp_path).digest == image.digest
