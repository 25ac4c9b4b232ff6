"""Results: what they say of themselves, the same bytes twice, and how they come to their place."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.image import memory_directory
from tests.conftest import Command
from tests.formats import read, run
from tests.layouts import Layout
from tracestrip.rootfs.archive_tree import ArchiveTree
from tracestrip.whole_directory import whole_directory

MadeUp = Callable[..., Path]


def manifest_of(layout: Path) -> dict[str, Any]:
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    return dict(json.loads((layout / "blobs" / entry["digest"].replace(":", "/")).read_text()))


def test_annotations_and_labels_name_the_source(tracestrip: Command, made_up: MadeUp, tmp_path: Path) -> None:
    run("tar", "-C", tmp_path, "-xf", made_up(), "layer.tar")
    given = {"org.opencontainers.image.base.name": "debian", "org.opencontainers.image.title": "mine"}
    made = Layout(tmp_path / "source")
    made.index(v1=made.image((tmp_path / "layer.tar").read_bytes(), annotations=given, config={"config": {"Labels": given}}))
    source = read(f"oci:{made.place}", tmp_path)
    finished = tracestrip(
        "run", f"oci:{made.place}", "-e", "/bin/touch", "-o", f"oci:{tmp_path}/out", "--report", tmp_path / "report"
    )
    assert finished.code == 0, finished.stderr
    manifest = manifest_of(tmp_path / "out")
    expected = {
        "org.opencontainers.image.title": "mine", "tracestrip.source.digest": source.digest,
        "tracestrip.source.name": f"oci:{made.place}", "tracestrip.version": "0.1.0",
    }  # fmt: skip
    assert manifest["annotations"] == expected
    image = read(f"oci:{tmp_path}/out:v1-stripped", tmp_path)
    assert image.config.document["config"]["Labels"] == expected | {"tracestrip.verified": "true"}
    report = json.loads((tmp_path / "report").read_text())
    assert report["source"]["manifest"] == source.manifest_digest
    assert report["result"]["manifest"] == image.manifest_digest


@pytest.mark.parametrize("transport", ["docker-archive", "oci", "oci-archive"])
def test_same_run_gives_the_same_bytes_and_no_later_times(
    tracestrip: Command, made_up: MadeUp, tmp_path: Path, transport: str
) -> None:
    source = made_up()
    arguments = ("run", f"docker-archive:{source}", "-e", "/bin/touch /data/first /data/suid", "--force")
    written = []
    for epoch in (None, None, 1_300_000_000, 1_300_000_000):
        output = tmp_path / f"out{len(written)}"
        environment = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
        finished = tracestrip(*arguments, "-o", f"{transport}:{output}:x:1", **environment)
        assert finished.code == 0, finished.stderr
        content = b"".join(path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file())
        written.append(content if output.is_dir() else output.read_bytes())
        image = read(f"{transport}:{output}", tmp_path)
        entries = {entry.path: entry for entry in ArchiveTree(image.layers).walk()}  # type: ignore[arg-type]
        assert entries[b"/data/first"].mtime == 1234567890_123456789
        if epoch is not None:
            assert max(entry.mtime for entry in entries.values()) == epoch * 10**9
            assert image.config.document["created"] == "2011-03-13T07:06:40Z"
            assert image.config.document["history"][0]["created"] == "2011-03-13T07:06:40Z"
    assert written[0] == written[1]
    assert written[2] == written[3]
    assert written[0] != written[2]


@pytest.mark.parametrize("value", ["", "now", "1.5", " 1", "+1", "01", "1e9", "999999999999999"])
def test_malformed_source_date_epoch_is_refused(tracestrip: Command, tmp_path: Path, value: str) -> None:
    finished = tracestrip("run", "dir:/", "-e", "/bin/true", "-o", f"oci:{tmp_path}/out", SOURCE_DATE_EPOCH=value)
    assert finished.code == 2
    assert "SOURCE_DATE_EPOCH" in finished.stderr
    assert not (tmp_path / "out").exists()


def test_existing_layout_is_added_to_only_with_force(tracestrip: Command, made_up: MadeUp, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # an empty directory is as good as none
    source = made_up()

    def strip(name: str, *options: str) -> int:
        arguments = ("run", f"docker-archive:{source}", "-e", "/bin/touch", "-o", f"oci:{out}:{name}", *options)
        return int(tracestrip(*arguments).code)

    assert strip("one") == 0
    before = sorted(out.rglob("*"))
    assert strip("two") == 2
    assert sorted(out.rglob("*")) == before
    assert strip("two", "--force") == 0
    assert strip("two", "--force") == 0
    manifests = json.loads((out / "index.json").read_text())["manifests"]
    assert [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in manifests] == ["one", "two"]
    assert not list(out.rglob(".*"))
    run("umoci", "unpack", "--image", f"{out}:one", tmp_path / "bundle")
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").write_text("data")
    finished = tracestrip("run", "dir:/", "-e", "/bin/true", "-o", f"oci:{other}", "--force")
    assert (finished.code, sorted(other.iterdir())) == (2, [other / "precious"])


def test_layout_is_added_to_by_one_at_a_time(tmp_path: Path) -> None:
    lock = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (tmp_path / "there").touch()
    script = f"""
from pathlib import Path
from tracestrip.whole_directory import whole_directory
with whole_directory(Path({str(tmp_path)!r})) as write:
    write("a/b", [b"content"])
"""
    with subprocess.Popen([sys.executable, "-c", script]) as other:
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(1)
        assert [path.name for path in tmp_path.iterdir()] == ["there"]
        os.close(lock)
        assert other.wait(10) == 0
    assert (tmp_path / "a" / "b").read_bytes() == b"content"


def test_layout_in_an_empty_mount_point() -> None:
    with memory_directory() as place:
        with whole_directory(place) as write:
            write("a/b", [b"content"])
        assert (place / "a" / "b").read_bytes() == b"content"
