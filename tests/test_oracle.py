"""The tree that tracestrip makes of layers against the one that umoci unpacks, and the one that an engine mounts."""

import os
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.images import CAPABILITY
from tests.layers import Member, directory, docker_archive, hard_link, layer, member, symlink
from tests.layouts import Layout, Seen, layer_bytes, look
from tests.test_tree import rich_members
from tracestrip.errors import ImageError
from tracestrip.image.reference import parse_reference
from tracestrip.image.room import Room
from tracestrip.image.transports import read_image
from tracestrip.rootfs.archive_tree import ArchiveTree
from tracestrip.rootfs.directory_tree import DirectoryTree
from tracestrip.rootfs.extract import extract

Look = dict[bytes, Seen]


def ours(reference: str, place: Path) -> Look:
    root = place / "ours"
    root.mkdir()
    image = read_image(parse_reference(reference), None, Room(place))
    extract(ArchiveTree(image.layers), root)  # type: ignore[arg-type]
    return look(root)


def umocis(layout: Path, place: Path) -> Look | None:
    """None where umoci refuses the image."""
    finished = subprocess.run(["umoci", "unpack", "--image", f"{layout}:x", place / "umoci"], capture_output=True, check=False)
    return None if finished.returncode else look(place / "umoci" / "rootfs")


def without_directory_times(found: Look) -> Look:
    """Where a layer changes what is in a directory without naming it, its time is that of the unpacking."""
    return {name: replace(seen, mtime=0) if seen.kind == stat.S_IFDIR else seen for name, seen in found.items()}


def without_setgid(given: dict[str, Any]) -> dict[str, Any]:
    """A directory that no header describes would inherit it from the one above, if the kernel makes it there."""
    return {**given, "mode": given["mode"] & ~0o2000}


def names(deepest: int = 3) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from("abc"), min_size=1, max_size=deepest).map("/".join)


targets = st.one_of(names(), names().map("/".__add__), names().map("../".__add__), st.just("/"), st.just("../../.."))
modes = st.sampled_from([0o644, 0o4755, 0o2750, 0o1777, 0o000, 0o6711])
owners = st.sampled_from([0, 1, 65534, 2**31 + 7, 2**32 - 2])
times = st.sampled_from(["0", "1", "-1", "1700000000", "1234567890.123456789", "-1.5", "4000000000"])
attributes = st.dictionaries(
    st.sampled_from(["user.one", "user.two", "trusted.three"]).map("SCHILY.xattr.".__add__),
    st.sampled_from(["", "text", "\udcff\udc80\n\0=x"]),
)
fields = st.builds(
    lambda mode, uid, gid, time, xattrs: {"mode": mode, "uid": uid, "gid": gid, "pax_headers": {"mtime": time, **xattrs}},
    modes, owners, owners, times, attributes,
)  # fmt: skip
no_user_attributes = fields.map(
    lambda given: {**given, "pax_headers": {key: value for key, value in given["pax_headers"].items() if ".user." not in key}}
)
fifos = no_user_attributes.map(lambda given: {**given, "type": tarfile.FIFOTYPE})
devices = no_user_attributes.map(lambda given: {**given, "type": tarfile.CHRTYPE, "devmajor": 5, "devminor": 300})
symlinks = st.builds(
    lambda given, target: {**given, "type": tarfile.SYMTYPE, "linkname": target}, no_user_attributes, targets
)
members = st.one_of(
    st.builds(lambda name, more: member(name, name.encode(), **more), names(), fields),
    st.builds(lambda name, more: directory(name, **more), names(), fields.map(without_setgid)),
    st.builds(lambda name, more: member(name, **more), names(), st.one_of(symlinks, fifos, devices)),
    st.builds(hard_link, names(), names()),
    st.builds(lambda name: member(os.path.join(os.path.dirname(name), ".wh." + os.path.basename(name))), names()),
    st.builds(lambda name: member(name + "/.wh..wh..opq"), names(2)),
)
stacks = st.lists(st.lists(members, min_size=1, max_size=7), min_size=1, max_size=4)


@settings(max_examples=int(os.environ.get("ORACLE_EXAMPLES", "60")), deadline=None, suppress_health_check=list(HealthCheck))
@given(stack=stacks)
def test_made_up_stacks_unpack_as_umoci_unpacks_them(stack: list[list[Member]]) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        top = Path(place)
        layout = Layout(top / "layout")
        layout.index(x=layout.image(*(layer_bytes(top, part) for part in stack)))
        theirs = umocis(layout.place, top)
        if theirs is None:
            with pytest.raises(ImageError):
                ours(f"oci:{layout.place}:x", top)
        else:
            mine = ours(f"oci:{layout.place}:x", top)
            assert without_directory_times(mine) == without_directory_times(theirs)


@pytest.mark.parametrize("name", ["bash", "httpd", "nginx", "programs"])
def test_real_images_unpack_as_umoci_unpacks_them(archive: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    file = archive(name)
    layout = Layout(tmp_path / "layout")
    with tarfile.open(file) as outer:
        (part,) = [member for member in outer if member.name.endswith(".tar")]
        stream = outer.extractfile(part)
        assert stream is not None
        layout.index(x=layout.image(stream.read()))
    assert ours(f"docker-archive:{file}", tmp_path) == umocis(layout.place, tmp_path)


LAYERS = (
    [
        directory("."), *rich_members(), directory("gone", mtime=3), member("gone/deep", b"x"), directory("opaque", mtime=3),
        member("opaque/old"), member("file-then-directory", b"f"), directory("directory-then-file", mtime=3),
        member("directory-then-file/below"), symlink("link", "d"),
    ],
    [
        member(".wh.gone"), directory("opaque", mtime=5), member("opaque/.wh..wh..opq"), member("opaque/new", b"new", mtime=9),
        directory("file-then-directory", mtime=6), member("file-then-directory/below", mtime=6),
        member("directory-then-file", b"now a file", mode=0o6755, uid=9, mtime=6),
    ],
    [directory("d", mode=0o2755, uid=2**31, mtime=8), member("d/.wh.suid"), member("d/capable", b"no more", mtime=4)],
)  # fmt: skip


@contextmanager
def mounted(description: dict[str, Any], place: Path) -> Iterator[Path]:
    """An image as its engine mounts it for a container, read-only."""
    data = description["GraphDriver"]["Data"]
    layers = ":".join([data["UpperDir"], *filter(None, data.get("LowerDir", "").split(":"))])
    place.mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={layers}", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def test_layers_merge_as_the_engine_merges_them(engine: docker.DockerClient, tmp_path: Path) -> None:
    layers = [layer(tmp_path / f"{number}.tar", *part) for number, part in enumerate(LAYERS)]
    file = docker_archive(tmp_path / "image.tar", {"oracle:merged": layers})
    engine.images.load(file.read_bytes())
    try:
        description = engine.images.get("oracle:merged").attrs
        with mounted(description, tmp_path / "engine") as root:
            theirs = look(root)
        mine = ours(f"docker-archive:{file}", tmp_path)
        in_place = read_image(parse_reference("oracle:merged"), None, Room(tmp_path))
        names_in_place = [entry.path for entry in DirectoryTree(in_place.layers).walk()]  # type: ignore[arg-type]
    finally:
        engine.images.remove("oracle:merged", force=True)
    assert mine[b"/d/capable"].attributes == ()
    assert mine[b"/d/second"].first_link == b""
    # Docker has no times before 1970, and the root's it does not set.
    assert mine[b"/d/ancient"].mtime < 0
    assert mine | {name: replace(mine[name], mtime=theirs[name].mtime) for name in (b"/", b"/d/ancient")} == theirs
    assert names_in_place == [entry.path for entry in ArchiveTree(tuple(layers)).walk()]


def test_file_capabilities_are_restored(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "layout")
    layout.index(x=layout.image(layer_bytes(tmp_path, [directory("."), *rich_members()])))
    mine = ours(f"oci:{layout.place}:x", tmp_path)
    assert mine[b"/d/capable"].attributes == (("security.capability", CAPABILITY),)
    assert mine == umocis(layout.place, tmp_path)
