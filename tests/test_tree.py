"""The merged view of layers, from archives and from overlayfs directories; its extraction and packing."""

import os
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.images import CAPABILITY
from tests.layers import directory, hard_link, layer, member, symlink, tree
from tracestrip.errors import ImageError
from tracestrip.image.image import LayerArchive, LayerDirectory
from tracestrip.rootfs.archive_tree import ArchiveTree
from tracestrip.rootfs.directory_tree import DirectoryTree
from tracestrip.rootfs.extract import extract
from tracestrip.rootfs.pack import pack
from tracestrip.rootfs.tree import Kind, Tree
from tracestrip.rootfs.walk import walk


def paths(view: Tree) -> list[bytes]:
    return [entry.path for entry in view.walk()]


def content(view: Tree, path: bytes) -> bytes:
    entry = view.entry(path)
    assert entry is not None
    return view.read(entry)


def test_upper_layer_wins(tmp_path: Path) -> None:
    view = tree(tmp_path, [member("a/x", b"old"), member("a/y", b"stays")], [member("a/x", b"new")])
    assert content(view, b"/a/x") == b"new"
    assert content(view, b"/a/y") == b"stays"


def test_whiteout_hides_a_lower_name_with_all_below(tmp_path: Path) -> None:
    view = tree(tmp_path, [member("a/b/c"), member("a/d")], [member("a/.wh.b")])
    assert paths(view) == [b"/", b"/a", b"/a/d"]


def test_whiteout_of_a_name_of_the_same_layer_leaves_it(tmp_path: Path) -> None:
    view = tree(tmp_path, [member("a", b"old")], [member("a", b"new"), member(".wh.a")])
    assert content(view, b"/a") == b"new"


@pytest.mark.parametrize("marker_first", [True, False])
def test_opaque_marker_hides_lower_siblings_only(tmp_path: Path, *, marker_first: bool) -> None:
    upper = [member("d/.wh..wh..opq"), member("d/new")]
    view = tree(tmp_path, [member("d/old/deep")], upper if marker_first else upper[::-1])
    assert paths(view) == [b"/", b"/d", b"/d/new"]


def test_file_becomes_directory_and_back(tmp_path: Path) -> None:
    view = tree(tmp_path, [member("a"), member("b/c")], [member("a/new"), member("b")][1:], [directory("a"), member("a/new")])
    assert paths(view) == [b"/", b"/a", b"/a/new", b"/b"]


def test_directory_of_an_upper_layer_keeps_lower_files_and_sets_metadata(tmp_path: Path) -> None:
    view = tree(tmp_path, [directory("d"), member("d/f")], [directory("d", mode=0o1777, uid=7)])
    entry = view.entry(b"/d")
    assert entry is not None
    assert (entry.mode, entry.uid) == (0o1777, 7)
    assert view.entry(b"/d/f") is not None


def test_name_below_a_symlink_lands_where_it_leads(tmp_path: Path) -> None:
    lower = [directory("run"), symlink("var/run", "../../run"), symlink("abs", "/run")]
    view = tree(tmp_path, lower, [member("var/run/a"), member("abs/b")])
    assert {b"/run/a", b"/run/b"} <= set(paths(view))
    assert view.entry(b"/var/run").kind is Kind.SYMLINK  # type: ignore[union-attr]


def test_directory_that_is_replaced_after_use(tmp_path: Path) -> None:
    view = tree(tmp_path, [directory("d"), member("d/a"), directory("e"), symlink("d", "e"), member("d/b")])
    assert paths(view) == [b"/", b"/d", b"/e", b"/e/b"]


def test_whiteout_behind_a_loop_of_symlinks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="loop"):
        tree(tmp_path, [symlink("a", "b"), symlink("b", "a"), member("a/.wh.x")])


def test_global_headers_are_not_obeyed(tmp_path: Path) -> None:
    """As by Go's reader; git archive writes one with a comment."""
    part = tmp_path / "layer.tar"
    headers = {"uid": "7", "mtime": "77", "SCHILY.xattr.user.a": "b", "path": "elsewhere"}
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        archive.addfile(member("a", mtime=5)[0])
    view = ArchiveTree((LayerArchive(part, 0, part.stat().st_size, "sha256:"),))
    assert paths(view) == [b"/", b"/a"]
    found = view.entry(b"/a")
    assert found is not None
    assert (found.uid, found.mtime, found.xattrs) == (0, 5 * 10**9, ())


def test_empty_attribute_is_none(tmp_path: Path) -> None:
    """pax(1p): an empty value says that what it names is not said; Go's reader takes it so too."""
    headers = {"SCHILY.xattr.user.empty": "", "SCHILY.xattr.user.full": "1"}
    found = tree(tmp_path, [member("a", pax_headers=headers)]).entry(b"/a")
    assert found is not None
    assert found.xattrs == ((b"user.full", b"1"),)


def test_same_name_twice_the_last_wins(tmp_path: Path) -> None:
    assert content(tree(tmp_path, [member("a", b"1"), member("a", b"2")]), b"/a") == b"2"


def test_hard_links_to_lower_layers_symlinks_and_absolute_names(tmp_path: Path) -> None:
    lower = [member("f", b"text"), symlink("s", "nowhere")]
    view = tree(tmp_path, lower, [hard_link("x", "f"), hard_link("y", "/f"), hard_link("z", "s")])
    first, second, linked = (view.entry(path) for path in (b"/x", b"/y", b"/z"))
    assert first is not None
    assert second is not None
    assert linked is not None
    assert first.inode == second.inode == view.entry(b"/f").inode  # type: ignore[union-attr]
    assert content(view, b"/y") == b"text"
    assert (linked.kind, linked.target) == (Kind.SYMLINK, b"nowhere")


@pytest.mark.parametrize(
    "bad",
    [
        [member("../x")],
        [member("a/../../x")],
        [symlink(".", "/etc")],
        [member(".wh.")],
        [member("d/.wh...")],
        [hard_link("x", "../../etc/shadow")],
        [hard_link("x", "nothing")],
        [symlink("a", "a"), member("a/x")],
        [member("x", uid=2**32 - 1)],
        [member("x", gid=2**33)],
        [member("f"), member("f/below")],
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, bad: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    with pytest.raises(ImageError):
        tree(tmp_path, bad)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    whole = layer(tmp_path / "whole.tar", member("a", os.urandom(3000)), member("b", os.urandom(3000)))
    text = whole.file.read_bytes()
    for number, damaged in enumerate((text[:700], text[:512] + b"\xff" * 4000 + text[4512:])):
        file = tmp_path / f"damaged{number}.tar"
        file.write_bytes(damaged)
        with pytest.raises(ImageError, match="damaged"):
            ArchiveTree((LayerArchive(file, 0, len(damaged), "sha256:x"),))


def rich_members() -> list[tuple[tarfile.TarInfo, bytes]]:
    """All that is easily lost."""
    xattr = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
    return [
        directory("d", mode=0o1777, uid=1, gid=2, mtime=5),
        member("d/suid", b"s" * 1000, mode=0o6755, uid=33, gid=44),
        member("d/capable", b"c", pax_headers=xattr),
        member("d/times", pax_headers={"mtime": "1234567890.123456789"}),
        member("d/ancient", mtime=-86400),
        hard_link("d/second", "d/suid", mode=0o6755, uid=33, gid=44),
        symlink("d/link", "caf\udce9"),
        member("d/caf\udce9\n", b"odd"),
        member("d/" + "n" * 200, b"long"),
        member("d/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("d/pipe", type=tarfile.FIFOTYPE),
        member("d/big", b"b" * 3_000_000, uid=2**31 + 5),
    ]


def test_metadata_survives_extraction_and_packing(tmp_path: Path) -> None:
    view = tree(tmp_path, rich_members())
    root = tmp_path / "root"
    root.mkdir()
    extract(view, root)
    top = os.fsencode(root)
    suid = os.lstat(top + b"/d/suid")
    assert (stat.S_IMODE(suid.st_mode), suid.st_uid, suid.st_gid, suid.st_nlink) == (0o6755, 33, 44, 2)
    assert os.getxattr(top + b"/d/capable", "security.capability") == CAPABILITY
    assert os.lstat(top + b"/d/times").st_mtime_ns == 1234567890123456789
    assert os.lstat(top + b"/d/ancient").st_mtime == -86400
    assert os.lstat(top + b"/d/null").st_rdev == os.makedev(1, 3)
    assert os.readlink(top + b"/d/link") == b"caf\xe9"

    again = DirectoryTree((LayerDirectory(root),))
    assert paths(again) == paths(view)
    packed = [pack(source.walk(), tmp_path / f"{number}.tar") for number, source in enumerate((view, again))]
    assert packed[0].diff_id == packed[1].diff_id
    reread = ArchiveTree((packed[0],))
    for entry in view.walk():
        other = reread.entry(entry.path)
        assert other is not None
        same = ("path", "kind", "mode", "uid", "gid", "size", "mtime", "target", "device", "xattrs")
        assert all(getattr(entry, name) == getattr(other, name) for name in same), entry


def test_tar_reads_what_is_packed(tmp_path: Path) -> None:
    packed = pack(tree(tmp_path, rich_members()).walk(), tmp_path / "packed.tar")
    root = tmp_path / "root"
    root.mkdir()
    command = ["tar", "--xattrs", "--xattrs-include=*", "-C", root, "-xf", packed.file]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert os.getxattr(root / "d/capable", "security.capability") == CAPABILITY
    assert os.lstat(root / "d/suid").st_ino == os.lstat(root / "d/second").st_ino
    assert stat.S_IMODE(os.lstat(root / "d/suid").st_mode) == 0o6755
    assert os.path.lexists(os.fsencode(root) + b"/d/caf\xe9\n")


def test_packing_does_not_depend_on_the_order(tmp_path: Path) -> None:
    entries = list(tree(tmp_path, rich_members()).walk())
    first = pack(entries, tmp_path / "one.tar")
    second = pack(reversed(entries), tmp_path / "two.tar")
    assert first.diff_id == second.diff_id


def test_sparse_files_are_read_whole(tmp_path: Path) -> None:
    source, archive = tmp_path / "holes", tmp_path / "sparse.tar"
    with source.open("wb") as file:
        file.seek(200_000)
        file.write(b"middle")
        file.truncate(1_000_000)
    subprocess.run(["tar", "--sparse", "--format=posix", "-C", tmp_path, "-cf", archive, "holes"], check=True)
    assert archive.stat().st_size < 100_000
    view = ArchiveTree((LayerArchive(archive, 0, archive.stat().st_size, "sha256:x"),))
    assert content(view, b"/holes") == source.read_bytes()
    root = tmp_path / "root"
    root.mkdir()
    extract(view, root)
    assert (root / "holes").read_bytes() == source.read_bytes()


def overlay_layers(tmp_path: Path) -> tuple[Path, Path]:
    """Two layers in overlayfs's form: a whiteout, an opaque directory, a symlink that leads out."""
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    for path in (lower / "d/old", lower / "e/gone", upper / "d/new", upper / "e"):
        path.mkdir(parents=True)
    (lower / "file").write_text("lower")
    (lower / "hidden").write_text("hidden")
    os.mknod(upper / "hidden", stat.S_IFCHR, 0)
    os.setxattr(upper / "e", "trusted.overlay.opaque", b"y")
    os.symlink("/etc", upper / "out")
    return lower, upper


def test_directories_merge_as_overlayfs_merges_them(tmp_path: Path) -> None:
    lower, upper = overlay_layers(tmp_path)
    view = DirectoryTree((LayerDirectory(lower), LayerDirectory(upper)))
    assert paths(view) == [b"/", b"/d", b"/d/new", b"/d/old", b"/e", b"/file", b"/out"]
    assert view.entry(b"/out/passwd") is None
    assert view.entry(b"/e").xattrs == ()  # type: ignore[union-attr]


def test_extraction_replaces_nothing_outside(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    extract(tree(tmp_path, [symlink("way", str(outside)), symlink("way2", "way")], [member("way/x"), member("way2/y")]), root)
    assert list(outside.iterdir()) == []
    assert (root / str(outside).lstrip("/") / "y").exists()


def test_very_deep_paths(tmp_path: Path) -> None:
    deep = "/".join("d" * 1500)
    view = tree(tmp_path, [member(deep)], [member(".wh.d")])
    assert paths(view) == [b"/"]
    assert len(paths(tree(tmp_path, [member(deep)]))) == 1501


def test_opaque_markers_that_come_again_and_again(tmp_path: Path) -> None:
    own = [member(f"d/{number}") for number in range(5000)]
    start = time.monotonic()
    view = tree(tmp_path, [member("d/lower")], [*own, *(member("d/.wh..wh..opq") for _ in range(5000))])
    assert time.monotonic() - start < 10
    assert len(paths(view)) == 5002


def test_walk_follows_links_and_remembers_them(tmp_path: Path) -> None:
    members = [member("real/file"), symlink("one", "two"), symlink("two", "/real"), symlink("real/self", "../one/file")]
    view = tree(tmp_path, [*members, symlink("loop", "loop"), symlink("dangling", "nowhere")])
    found = walk(view, b"/one/../real/./self")
    assert found.entry is not None
    assert found.entry.path == b"/real/file"
    assert [link.path for link in found.links] == [b"/one", b"/two", b"/real/self", b"/one", b"/two"]
    assert set(found.directories) == {b"/real"}
    assert walk(view, b"/loop").entry is None
    assert walk(view, b"/one", follow=False).entry.kind is Kind.SYMLINK  # type: ignore[union-attr]
    assert walk(view, b"/one/", follow=False).entry.path == b"/real"  # type: ignore[union-attr]
    assert walk(view, b"/real/file/x").entry is None
    created = walk(view, b"/two/new")
    assert created.entry is None
    assert created.directory is not None
    assert created.directory.path == b"/real"
    assert walk(view, b"/none/new").directory is None
    assert [link.path for link in walk(view, b"/dangling").links] == [b"/dangling"]


def test_only_names_of_the_directory_itself_are_found(tmp_path: Path) -> None:
    (tmp_path / "root/in").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    view = DirectoryTree((LayerDirectory(tmp_path / "root"),))
    assert view.entry(b"/in") is not None
    bad = (b"/../secret", b"/in/../../secret", b"/in/..", b"/in/.", b"/in/", b"//in", b"in", b"", b"/a\0", b"/" + 300 * b"x")
    for name in bad:
        assert view.entry(name) is None, name
        assert view.names(name) == []
