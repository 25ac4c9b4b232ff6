"""Images made to break the tool that unpacks them: refused with one line, or unpacked inside of their root."""

import gzip
import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.conftest import Command, fails
from tests.hostile import Strip
from tests.images import CAPABILITY, stripped_layer
from tests.layers import Member, directory, docker_archive, hard_link, layer, member, symlink
from tests.layouts import Layout, layer_bytes
from tracestrip.image.image import LayerArchive
from tracestrip.image.platform import host_architecture

OTHER = {"amd64": "arm64"}.get(host_architecture(), "amd64")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the host that stays as it is."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "flag").write_text("untouched")
    return place


@pytest.fixture
def strip(tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path, outside: Path) -> Any:
    yield Strip(tracestrip, compiled("touch", "-static"), tmp_path)
    assert [path.name for path in outside.iterdir()] == ["flag"]
    assert (outside / "flag").read_text() == "untouched"
    assert not list(tmp_path.glob(".*"))


# Names and links.


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([member("../x")], ("'../x'", "leads out")),
        ([member("a/../../x")], ("leads out",)),
        ([hard_link("x", "../../etc/shadow")], ("../../etc/shadow",)),
        ([hard_link("x", "nothing")], ("nothing", "not there")),
        ([symlink(".", "/etc")], ("root",)),
        ([member(".wh.")], (".wh.", "names nothing")),
        ([member("d/.wh...")], (".wh...", "names nothing")),
        ([member(".wh.d/x")], ("below a whiteout",)),
        ([member("f"), member("f/below")], ("no directory",)),
        ([symlink("a", "b"), symlink("b", "a"), member("a/x")], ("loop",)),
        ([member("n" * 256)], ("256 bytes",)),
        ([member("/".join(["n" * 200] * 21))], ("4096 bytes", "4095 is the most")[1:]),
        ([symlink("s", "t" * 5000)], ("symlink",)),
        ([member("x", uid=2**32 - 1)], ("impossible owner",)),
        ([member("x", pax_headers={"uid": "root"})], ("uid", "root")),
        ([member("x", pax_headers={"mtime": "9" * 30})], ("impossible time",)),
        ([member("x", type=tarfile.CHRTYPE, devmajor=4096)], ("impossible device",)),
        ([member("x", type=b"Z")], ("unknown type",)),
    ],
)
def test_what_cannot_be_is_refused(strip: Strip, bad: list[Member], words: tuple[str, ...]) -> None:
    strip.refused(bad, words=("image.tar", "the layer sha256:", *words))


def test_absolute_name_lands_in_the_root(strip: Strip, outside: Path) -> None:
    name = f"{outside}/x"
    assert name.lstrip("/") in strip.kept([member(name, b"inside")], opens=name)


def test_write_through_an_absolute_symlink_stays_inside(strip: Strip, outside: Path) -> None:
    kept = strip.kept([symlink("way", str(outside)), member("way/x", b"inside")], opens="/way/x")
    assert kept["way"].issym()
    assert f"{outside}/x".lstrip("/") in kept


def test_write_through_a_relative_symlink_stays_inside(strip: Strip, outside: Path) -> None:
    up = "../" * 12 + str(outside).lstrip("/")
    kept = strip.kept([directory("deep/er"), symlink("deep/er/way", up), member("deep/er/way/x")], opens="/deep/er/way/x")
    assert f"{outside}/x".lstrip("/") in kept


def test_long_chain_of_links_stays_inside(strip: Strip, outside: Path) -> None:
    """CVE-2025-4517: realpath(3) gives up where the expanded path is longer than PATH_MAX, and the rest is taken as it is."""
    part, steps, path, members = "d" * 247, "abcdefghijklmnop", "", []
    for step in steps:
        members += [directory(f"{path}{part}"), symlink(f"{path}{step}", part)]
        path += part + "/"
    chain = "/".join(steps) + "/" + "l" * 254
    members += [symlink(chain, "../" * len(steps)), symlink("escape", chain + "/.." * 8 + str(outside))]
    attack = [hard_link("flaglink", "escape/flag"), member("flaglink", b"overwritten"), member("escape/new")]
    for bad in (attack[:2], attack[2:]):
        finished = strip([*members, *bad], options=("--force",))
        if finished.code:
            fails(finished, 3)


def test_hard_links_to_absolute_names_and_to_lower_layers(strip: Strip) -> None:
    kept = strip.kept([hard_link("one", "/data/file"), hard_link("two", "data/file")], opens="/one /two /data/file")
    assert kept["data/file"].isreg()
    assert (kept["one"].linkname, kept["two"].linkname) == ("data/file", "data/file")


def test_hard_link_to_a_symlink_links_the_symlink(strip: Strip) -> None:
    kept = strip.kept([symlink("first", "data/file"), hard_link("second", "first")], opens="/first /second")
    assert kept["first"].issym()
    assert (kept["second"].type, kept["second"].linkname) == (tarfile.LNKTYPE, "first")


# Layers on layers.


def test_opaque_directory_hides_lower_names_only(strip: Strip) -> None:
    upper = [member("data/new"), member("data/.wh..wh..opq")]
    strip.kept(upper, opens="/data/new")
    fails(strip(upper, opens="/data/file", options=("--force",)), 4)


def test_whiteout_of_a_name_of_the_same_layer_leaves_it(strip: Strip) -> None:
    kept = strip.kept([member("data/file", b"of this layer"), member("data/.wh.file")], opens="/data/file")
    assert kept["data/file"].size == len(b"of this layer")


def test_same_name_twice_is_told_and_the_last_wins(strip: Strip, tmp_path: Path) -> None:
    report = tmp_path / "report"
    twice = [member("data/twice", b"1"), member("data/twice", b"22")]
    finished = strip(twice, opens="/data/twice", options=("--report", report))
    assert finished.code == 0
    assert "/data/twice" in finished.stderr
    assert any("/data/twice" in warning for warning in json.loads(report.read_text())["warnings"])
    assert stripped_layer(strip.output)["data/twice"].size == 2


def test_file_becomes_directory_and_back(strip: Strip) -> None:
    assert strip.kept([directory("data/file"), member("data/file/below")], opens="/data/file/below")["data/file"].isdir()
    assert strip.kept([member("data", b"now a file")], opens="/data", options=("--force",))["data"].isreg()


# Bombs and damage.


def test_gzip_bomb_stops_at_the_limit(strip: Strip, tmp_path: Path) -> None:
    packed = tmp_path / "bomb.gz"
    with gzip.open(packed, "wb", 1) as bomb:
        for _ in range(1000):
            bomb.write(bytes(1 << 20))
    bomb = docker_archive(tmp_path / "i.tar", {"a:1": [LayerArchive(packed, 0, packed.stat().st_size, "sha256:" + "0" * 64)]})
    finished = strip.archive(bomb, options=("--max-image-size", "100M"))
    fails(finished, 3, "104857600 bytes", "--max-image-size")
    assert finished.peak_memory < 100 * 10**6
    assert finished.seconds < 20
    whole = tmp_path / "whole.gz"  # the archive itself
    whole.write_bytes(packed.read_bytes())
    fails(strip.archive(whole, options=("--max-image-size", "100M")), 3, "whole.gz", "--max-image-size")


def sparse(name: str, size: int) -> Member:
    """An empty file of *size* bytes that takes one block, in PAX's form (GNU.sparse.1.0)."""
    headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name, "GNU.sparse.realsize": str(size),
    }  # fmt: skip
    return member(f"GNUSparseFile.0/{name}", b"0\n".ljust(512, b"\0"), pax_headers=headers)


def test_huge_sparse_file(strip: Strip) -> None:
    strip.refused([sparse("huge", 1 << 50)], words=("--max-image-size",))
    strip.refused([sparse("large", 200 << 20)], words=("--max-image-size",), options=("--max-image-size", "100M"))
    finished = strip([sparse("large", 200 << 20)], opens="/large")
    assert finished.code == 0, finished.stderr
    assert stripped_layer(strip.output)["large"].size == 200 << 20
    assert finished.peak_memory < 150 * 10**6


def test_truncated_archives(strip: Strip, tmp_path: Path) -> None:
    content = layer_bytes(tmp_path, [member("a", os.urandom(5000))])
    for number, bad in enumerate((content[:3000], gzip.compress(content)[:-6], gzip.compress(content)[:100])):
        part = tmp_path / f"bad{number}"
        part.write_bytes(bad)
        digest = f"sha256:{hashlib.sha256(bad if number == 0 else content).hexdigest()}"
        file = docker_archive(tmp_path / f"i{number}.tar", {"a:1": [LayerArchive(part, 0, len(bad), digest)]})
        fails(strip.archive(file), 3, "the layer")
        file.write_bytes(file.read_bytes()[:2000])
        fails(strip.archive(file), 3, file.name)


def spoilt(place: Path, number: int, change: Callable[[bytearray], None]) -> Path:
    """An image whose layer has a header that *change* has spoilt, checksum mended, and a right diff ID."""
    content = bytearray(layer_bytes(place, [member("a", b"text"), member("b", b"more")]))
    change(content)
    for start in (0, 1024):
        header = content[start : start + 512]
        header[148:156] = b" " * 8
        content[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    part = place / f"spoilt{number}"
    part.write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return docker_archive(place / f"i{number}.tar", {"a:1": [LayerArchive(part, 0, len(content), digest)]})


def put(start: int, value: bytes) -> Callable[[bytearray], None]:
    def change(content: bytearray) -> None:
        content[start : start + len(value)] = value

    return change


@pytest.mark.parametrize(
    ("number", "start", "value"),
    [
        (0, 124, b"\xff" * 12),  # size -1
        (1, 124, b"\xff" * 10 + b"\xfc\x00"),  # size -1024, which led tarfile back to the same header for ever
        (2, 124, b"\x80" + b"\xff" * 11),  # size 2^88
        (3, 124, b"77777777777\0"),
        (4, 108, b"\xff" * 8),  # uid -1
        (5, 108, b"garbage\0"),
        (6, 1024 + 124, b"zzzz"),
        (7, 1024, b"\0" * 512 * 2),  # the end, but then more
    ],
)
def test_damaged_headers(strip: Strip, tmp_path: Path, number: int, start: int, value: bytes) -> None:
    def change(content: bytearray) -> None:
        put(start, value)(content)
        if number == 7:
            content[1024 : 1024 + 512] = bytes(512)
            content[1536 : 1536 + 512] = b"x" * 512

    file = spoilt(tmp_path, number, change)
    finished = strip.archive(file)
    fails(finished, 3, "the layer sha256:")
    assert finished.seconds < 5


def test_headers_that_ask_for_memory(strip: Strip, tmp_path: Path) -> None:
    """PAX records of a gigabyte, and a chain of headers about headers."""
    for number, size in enumerate((1 << 28, 512)):
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, size
        block = header.tobuf(tarfile.USTAR_FORMAT)
        part = tmp_path / f"pax{number}"
        with part.open("wb") as file:
            for _ in range(1 if number == 0 else 5000):
                file.write(block)
                file.write(b"512 comment=".ljust(511, b"x") + b"\n" if number else b"")
            file.truncate(file.tell() + (size + 1024 if number == 0 else 0))
        with part.open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        bad = docker_archive(tmp_path / f"i{number}.tar", {"a:1": [LayerArchive(part, 0, part.stat().st_size, digest)]})
        finished = strip.archive(bad)
        fails(finished, 3, "the layer")
        assert finished.peak_memory < 100 * 10**6


def test_archive_with_endless_members(strip: Strip, tmp_path: Path) -> None:
    block = tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    archive = tmp_path / "i.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as output:
        for _ in range(1000):
            output.write(block * 1000)
    finished = strip.archive(archive)
    fails(finished, 3, str(archive), "more than 100000 files")
    assert finished.peak_memory < 100 * 10**6


# What must come through.


def test_odd_names_are_exact(strip: Strip) -> None:
    odd = ["new\nline", "caf\udce9", "\udcff\udcfe", " space ", "back\\slash", "*?[", "n" * 255]
    names = [f"odd/{name}" for name in odd]
    kept = strip.kept([member(name, b"odd") for name in names], options=("--include", "/odd/**"))
    assert set(names) <= set(kept)


def test_extreme_times_and_owners_are_exact(strip: Strip) -> None:
    odd = [
        member("odd/before", mtime=-1), member("odd/half", pax_headers={"mtime": "-0.5"}),
        member("odd/late", pax_headers={"mtime": str(2**62)}), member("odd/owner", uid=2**32 - 2, gid=2**31),
    ]  # fmt: skip
    kept = strip.kept(odd, opens="/odd/before /odd/half /odd/late /odd/owner")
    assert kept["odd/before"].mtime == -1
    assert kept["odd/half"].pax_headers["mtime"] == "-0.5"
    assert int(kept["odd/late"].mtime) == 2**62
    assert (kept["odd/owner"].uid, kept["odd/owner"].gid) == (2**32 - 2, 2**31)


def test_setuid_capabilities_and_devices_come_through(strip: Strip) -> None:
    xattr = {"SCHILY.xattr.security.capability": CAPABILITY.decode("utf-8", "surrogateescape")}
    odd = [
        member("odd/suid", mode=0o6755, uid=9, gid=8), member("odd/capable", pax_headers=xattr),
        member("odd/device", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("odd/pipe", type=tarfile.FIFOTYPE),
    ]  # fmt: skip
    kept = strip.kept(odd, opens="/odd/suid /odd/capable /odd/device", options=("--include", "/odd/pipe"))
    assert (kept["odd/suid"].mode, kept["odd/suid"].uid, kept["odd/suid"].gid) == (0o6755, 9, 8)
    assert xattr.items() <= kept["odd/capable"].pax_headers.items()
    assert (kept["odd/device"].devmajor, kept["odd/device"].devminor) == (1, 3)
    assert kept["odd/pipe"].isfifo()


def test_fifo_as_passwd_does_not_hang(strip: Strip) -> None:
    finished = strip([member("etc/passwd", type=tarfile.FIFOTYPE)], [], opens="/data/file")
    assert finished.code == 0, finished.stderr
    assert finished.seconds < 10


def test_kernels_directories_as_symlinks_leave_the_host_alone(strip: Strip, outside: Path) -> None:
    links = [symlink(name, str(outside)) for name in ("dev", "proc", "sys")]
    kept = strip.kept(links, opens="/dev/null /proc/self/status /sys/kernel")
    assert "bin/touch" in kept


@pytest.mark.parametrize("workdir", ["/proc/self/fd/7", "/tmp/../proc/self/cwd", "proc/1/root"])
def test_workdir_in_proc_is_refused(strip: Strip, workdir: str) -> None:
    fails(strip(WorkingDir=workdir), 3, "working directory", "--workdir")


def test_overlays_own_attributes_are_not_obeyed(strip: Strip) -> None:
    notes = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/etc"}
    kept = strip.kept([directory("data", pax_headers=notes)], opens="/data/file")
    assert kept["data"].pax_headers == {}


def test_image_for_another_architecture_says_so(strip: Strip, tmp_path: Path) -> None:
    made = Layout(tmp_path / "layout")
    made.index(v1=made.image(layer_bytes(tmp_path, strip.base), config={"architecture": OTHER}))
    fails(strip.reference(f"oci:{made.place}"), 3, f"linux/{OTHER}", f"this machine is linux/{host_architecture()}")


def test_absent_image_says_what_is_close(tracestrip: Command, image: Callable[[str], str], engine: docker.DockerClient) -> None:
    assert engine.ping()
    image("bash")
    fails(tracestrip("run", "fixture:bsh"), 3, "fixture:bsh", "did you mean fixture:bash")


def test_500_layers_with_200000_files(strip: Strip, tmp_path: Path) -> None:
    """Headers are made by hand: tarfile would need a minute."""
    template = tarfile.TarInfo("x")
    template.mtime = 1700000000

    def block(name: bytes) -> bytes:
        header = bytearray(template.tobuf(tarfile.USTAR_FORMAT))
        header[: len(name)] = name
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        return bytes(header)

    layers = []
    for number in range(499):
        content = b"".join(block(b"many/%d/%d" % (number, file)) for file in range(401)) + bytes(1024)
        part = tmp_path / f"many{number}.tar"
        part.write_bytes(content)
        layers.append(LayerArchive(part, 0, len(content), f"sha256:{hashlib.sha256(content).hexdigest()}"))
    base = layer(tmp_path / "base.tar", *strip.base)
    finished = strip.archive(docker_archive(tmp_path / "i.tar", {"a:1": [base, *layers]}), "/many/0/0 /many/498/400")
    assert finished.code == 0, finished.stderr
    assert {"many/0/0", "many/498/400"} <= set(stripped_layer(strip.output))
    assert finished.peak_memory <= 400 * 10**6
