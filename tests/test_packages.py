"""Package databases: dpkg's, apk's, and rpm's in all its forms, made by the real tools where Debian has them."""

import sqlite3
import struct
import subprocess
from pathlib import Path
from random import Random

import pytest

from tracestrip.errors import ImageError
from tracestrip.image.image import LayerDirectory
from tracestrip.keep.packages import installed_packages, path_index
from tracestrip.rootfs.directory_tree import DirectoryTree

SPEC = """
Name: {name}
Version: 1
Release: 1
Summary: x
License: x
BuildArch: noarch
%description
x
%install
mkdir -p %{{buildroot}}/usr/bin %{{buildroot}}/etc/{name}
for number in $(seq 300); do echo > %{{buildroot}}/etc/{name}/a-rather-long-name-$number; done
echo > %{{buildroot}}/usr/bin/{name}
%files
/usr/bin/{name}
/etc/{name}
"""


def tree(root: Path) -> DirectoryTree:
    return DirectoryTree((LayerDirectory(root),))


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.fixture(scope="module")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two packages with files."""
    place = tmp_path_factory.mktemp("rpms")
    for name in ("hello", "world"):
        (place / f"{name}.spec").write_text(SPEC.format(name=name))
        build = ["rpmbuild", "-bb", "--define", f"_topdir {place}", place / f"{name}.spec"]
        subprocess.run(build, check=True, capture_output=True)
    return sorted(place.glob("RPMS/*/*.rpm"))


def sqlite(root: Path, rpms: list[Path]) -> Path:
    """A root where rpm has installed the packages; the directory of its database."""
    database = root / "var/lib/rpm"
    database.mkdir(parents=True)
    rpm = ["rpm", "--define", "_db_backend sqlite", "--dbpath", "/var/lib/rpm", "--root", root]
    subprocess.run([*rpm, "-i", "--nodeps", "--noscripts", "--ignoreos", *rpms], check=True, capture_output=True)
    return database


def emptied(database: Path) -> list[tuple[int, bytes]]:
    """The numbers and headers of its packages, of which nothing is left there."""
    with sqlite3.connect(database / "rpmdb.sqlite") as connection:
        rows = connection.execute("SELECT hnum, blob FROM Packages").fetchall()
    connection.close()
    for file in database.iterdir():
        file.unlink()
    return rows


def ndb(root: Path, rpms: list[Path]) -> Path:
    """As openSUSE has it. Debian's rpm cannot write it: laid out here as rpm's lib/backend/ndb/rpmpkg.c does."""
    database = sqlite(root, rpms)
    slots, blobs, block = b"", b"", 256
    for number, blob in emptied(database):
        written = struct.pack("<4sIII", b"BlbS", number, 1, len(blob)) + blob
        written += bytes(-(len(written) + 12) % 16) + struct.pack("<II4s", 0, len(blob), b"BlbE")
        slots += struct.pack("<4sIII", b"Slot", number, block, len(written) // 16)
        blobs, block = blobs + written, block + len(written) // 16
    slots += struct.pack("<4sIII", b"Slot", 0, 0, 0) * ((4096 - 32 - len(slots)) // 16)
    header = struct.pack("<4sIIII12x", b"RpmP", 0, 1, 1, 9)
    (database / "Packages.db").write_bytes(header + slots + blobs)
    return database


def berkeley(root: Path, rpms: list[Path]) -> Path:
    """As CentOS 7 has it: rpm of today cannot write it, Berkeley DB's own tool can."""
    database = sqlite(root, rpms)
    rows = emptied(database)
    lines = ["VERSION=3", "format=bytevalue", "type=hash", "db_pagesize=4096", "HEADER=END"]
    lines += [f" {bytes(4).hex()}", f" {(len(rows) + 1).to_bytes(4, 'little').hex()}"]
    for number, blob in rows:
        lines += [f" {number.to_bytes(4, 'little').hex()}", f" {blob.hex()}"]
    text = "\n".join([*lines, "DATA=END", ""])
    subprocess.run(["db5.3_load", database / "Packages"], input=text.encode(), check=True)
    return database


@pytest.fixture(params=[sqlite, ndb, berkeley])
def database(request: pytest.FixtureRequest, rpms: list[Path], tmp_path: Path) -> Path:
    return request.param(tmp_path / "root", rpms)


def test_rpm_packages(database: Path, tmp_path: Path) -> None:
    packages = installed_packages(tree(tmp_path / "root"))
    assert packages.keys() == {"hello", "world"}
    expected = {b"/usr/bin/hello", b"/etc/hello", *(b"/etc/hello/a-rather-long-name-%d" % number for number in range(1, 301))}
    assert set(packages["hello"]) == expected
    assert path_index(tree(tmp_path / "root"), packages)[b"/usr/bin/world"] == "world"
    assert any(path.name.startswith(("rpmdb", "Packages")) for path in database.iterdir())


def test_damaged_rpm_database_is_told(database: Path, tmp_path: Path) -> None:
    """Whatever bytes are there: packages, or one error that names the file; and soon."""
    (file,) = (path for path in database.iterdir() if path.name in ("rpmdb.sqlite", "Packages.db", "Packages"))
    good, random, told = file.read_bytes(), Random(0), 0
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(random.choice((1, 4, 64))):
            bad[random.randrange(len(bad) if random.random() < 0.5 else 4096)] = random.randrange(256)
        file.write_bytes(bad[: random.randrange(len(bad))] if random.random() < 0.2 else bad)
        try:
            installed_packages(tree(tmp_path / "root"))
        except ImageError as error:
            told += f"/var/lib/rpm/{file.name}" in str(error)
    assert told > 10


def test_dpkg_of_this_machine() -> None:
    packages = installed_packages(tree(Path("/")))
    assert b"/bin/bash" in packages["bash"] or b"/usr/bin/bash" in packages["bash"]
    listed = subprocess.run(["dpkg-query", "-L", "libc6"], capture_output=True, text=True, check=True).stdout.split("\n")
    assert {name.encode() for name in listed if name.startswith("/") and name != "/."} <= set(packages["libc6"])
    index = path_index(tree(Path("/")), packages)
    assert index[b"/usr/bin/bash"] == "bash"


def test_dpkg_multiarch_removed_and_diverted(tmp_path: Path) -> None:
    write(tmp_path, {
        "var/lib/dpkg/info/a:amd64.list": "/.\n/usr\n/usr/a\n",
        "var/lib/dpkg/info/a:i386.list": "/.\n/usr/a32\n",
        "var/lib/dpkg/info/gone.list": "/usr/gone\n",
        "var/lib/dpkg/info/b.list": "/usr/tool\n",
        "var/lib/dpkg/info/c.list": "/usr/tool\n",
        "var/lib/dpkg/diversions": "/usr/tool\n/usr/tool.real\nc\n",
        "var/lib/dpkg/status": "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\n\n"
        "Package: a\nStatus: install ok installed\nArchitecture: amd64\n\n",
    })  # fmt: skip
    packages = installed_packages(tree(tmp_path))
    assert packages.keys() == {"a", "a:amd64", "a:i386", "b", "c"}
    assert set(packages["a"]) == {b"/", b"/usr", b"/usr/a", b"/usr/a32"}
    assert packages["a:i386"] == (b"/", b"/usr/a32")
    assert (packages["b"], packages["c"]) == ((b"/usr/tool.real",), (b"/usr/tool",))


def test_distroless(tmp_path: Path) -> None:
    write(tmp_path, {"var/lib/dpkg/status.d/base.md5sums": f"{32 * '0'}  usr/.hidden\n{32 * '0'}  etc/a b\n"})
    assert installed_packages(tree(tmp_path)) == {"base": (b"/usr/.hidden", b"/etc/a b")}


@pytest.mark.parametrize("place", ["lib/apk/db", "usr/lib/apk/db"])
def test_apk(tmp_path: Path, place: str) -> None:
    text = "C:Q1x=\nP:musl\nV:1\nF:lib\nR:ld-musl-x86_64.so.1\na:0:0:755\nR:libc.so\n\n"
    text += "P:base\nF:\nR:root-file\nF:etc\nR:issue\n\n"
    write(tmp_path, {f"{place}/installed": text})
    assert installed_packages(tree(tmp_path)) == {
        "musl": (b"/lib", b"/lib/ld-musl-x86_64.so.1", b"/lib/libc.so"),
        "base": (b"/", b"/root-file", b"/etc", b"/etc/issue"),
    }


def test_image_without_a_database(tmp_path: Path) -> None:
    assert installed_packages(tree(tmp_path)) == {}
