"""Whole images as docker-archives: made up, and looked into."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tracestrip.image.platform import host_architecture

CAPABILITY = b"\x01\x00\x00\x02\x00\x04\x00\x00\xff\xfe\xfd\xfc" + bytes(8)


def stripped_layer(archive: Path) -> dict[str, tarfile.TarInfo]:
    """The members of a one-layer docker-archive's layer, by name."""
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))
        (layer,) = manifest[0]["Layers"]
        with tarfile.open(fileobj=outer.extractfile(layer), errors="surrogateescape") as inner:
            return {member.name: member for member in inner}


def config_of(archive: Path) -> dict:
    with tarfile.open(archive) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))
        return json.load(outer.extractfile(manifest[0]["Config"]))


def image_archive(
    path: Path, program: Path, config: dict, architecture: str | None = None, prepare: Callable[[Path], None] | None = None
) -> Path:
    """An image whose files have all that is easily lost, and a program that opens what it is told to.

    *prepare* adds to its root directory.
    """
    root = path.with_suffix(".root")
    for directory in ("etc", "bin", "tmp", "data"):
        (root / directory).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/data:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nweb:x:44:\nextra:x:55:web\n")
    (root / "bin/touch").write_bytes(program.read_bytes())
    (root / "bin/touch").chmod(0o755)
    for name in ("suid", "capable", "first", "unused"):
        (root / "data" / name).write_text(name)
    os.link(root / "data/first", root / "data/second")
    os.chown(root / "data/suid", 33, 44)
    (root / "data/suid").chmod(0o4711)
    os.setxattr(root / "data/capable", "security.capability", CAPABILITY)
    os.utime(root / "data/first", ns=(0, 1234567890_123456789))
    os.symlink("/data", root / "link")
    if prepare is not None:
        prepare(root)
    layer = path.with_suffix(".layer")
    subprocess.run(
        ["tar", "--xattrs", "--xattrs-include=*", "--format=posix", "--sort=name", "-C", root, "-cf", layer, "."], check=True
    )
    content = layer.read_bytes()
    diff_id = hashlib.sha256(content).hexdigest()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    document = {"architecture": architecture or host_architecture(), "os": "linux", "config": config, "rootfs": rootfs}
    manifest = [{"Config": "config.json", "RepoTags": ["made:up"], "Layers": ["layer.tar"]}]
    texts = {"config.json": json.dumps(document).encode(), "manifest.json": json.dumps(manifest).encode()}
    files = {"layer.tar": content, **texts}
    with tarfile.open(path, "w") as outer:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            outer.addfile(member, io.BytesIO(data))
    return path
