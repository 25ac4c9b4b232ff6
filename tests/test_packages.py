"""Package databases: dpkg's, apk's, and rpm's in all its forms, made by the real tools where Debian has them."""

import json
import resource
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType

import pytest

from tests.conftest import Command, fails
from tests.images import image_archive
from tracestrip.errors import ImageError, Interrupted
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


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def refused(root: Path, words: str) -> None:
    with pytest.raises(ImageError, match="leave out --keep-package and --widen package") as told:
        installed_packages(tree(root))
    assert words in str(told.value)


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


def berkeley(root: Path, rpms: list[Path], order: str = "little") -> Path:
    """As CentOS 7 has it: rpm of today cannot write it, Berkeley DB's own tool can."""
    database = sqlite(root, rpms)
    rows = emptied(database)
    lines = ["VERSION=3", "format=bytevalue", "type=hash", "db_pagesize=4096"]
    lines += [f"db_lorder={1234 if order == 'little' else 4321}", "HEADER=END"]
    lines += [f" {bytes(4).hex()}", f" {(len(rows) + 1).to_bytes(4, order).hex()}"]
    for number, blob in rows:
        lines += [f" {number.to_bytes(4, order).hex()}", f" {blob.hex()}"]
    text = "\n".join([*lines, "DATA=END", ""])
    subprocess.run(["db5.3_load", database / "Packages"], input=text.encode(), check=True)
    return database


def big_endian(root: Path, rpms: list[Path]) -> Path:
    """As CentOS 7 on s390x has it."""
    return berkeley(root, rpms, "big")


@pytest.fixture(params=[sqlite, ndb, berkeley, big_endian])
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


def made_sqlite(root: Path, *statements: str) -> Path:
    """A database in small pages, as somebody made it by hand."""
    write(root, {"var/lib/rpm/rpmdb.sqlite": ""})
    file = root / "var/lib/rpm/rpmdb.sqlite"
    with sqlite3.connect(file) as connection:
        for statement in ("PRAGMA page_size = 512", *statements):
            connection.execute(statement)
    connection.close()
    return file


@pytest.mark.parametrize(("statement", "words"), [
    ("CREATE VIEW Packages(hnum, blob) AS WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i FROM n) SELECT i, x'' FROM n",
     "no table"),
    ("CREATE VIRTUAL TABLE Packages USING fts5(hnum, blob)", "no table"),
    ("CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, a, blob AS (zeroblob(1000000000)))", "other columns"),
    ("CREATE TABLE Packages AS SELECT 1 AS hnum, 3000000000000 AS blob", "no blob"),
    ("CREATE TABLE Packages AS SELECT 1 AS hnum, 'text' AS blob", "no blob"),
])  # fmt: skip
def test_sqlite_that_is_no_table_of_headers(tmp_path: Path, statement: str, words: str) -> None:
    made_sqlite(tmp_path, "CREATE TABLE other(a)", statement)
    refused(tmp_path, words)


def multiplied(content: bytearray, child: int) -> int:
    """Adds pages of SQLite that lead to *child* by 60 ** 12 ways; the number of the topmost one."""
    for _ in range(12):
        cells = [struct.pack(">IB", child, number) for number in range(60)]
        content += struct.pack(">BHHHBI60H", 5, 0, 60, 212, 0, child, *range(212, 512, 5)) + bytes(80) + b"".join(cells)
        child = len(content) // 512
    content[28:32] = struct.pack(">I", child)
    return child


def test_sqlite_pages_that_are_met_again_and_again(tmp_path: Path) -> None:
    file = made_sqlite(tmp_path, "CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, blob)")
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO Packages VALUES(1, ?)", (rpm_header(b"/usr/", [b"a"]),))
    connection.close()
    content = bytearray(file.read_bytes())
    content += content[512:1024]
    content[512:1024] = content[(multiplied(content, 3) - 1) * 512 :]
    file.write_bytes(content)
    refused(tmp_path, "longer than the file")


def endless_schema(root: Path) -> Path:
    """The schema's last page has indexes that SQLite makes by itself, and reads without a fault however often they come."""
    file = made_sqlite(root, f"CREATE TABLE a({','.join(f'a{number} UNIQUE' for number in range(60))})")
    content = bytearray(file.read_bytes())
    (last,) = struct.unpack_from(">I", content, 108)
    struct.pack_into(">I", content, 108, multiplied(content, last))
    file.write_bytes(content)
    return file


def test_sqlite_schema_without_an_end(tmp_path: Path) -> None:
    endless_schema(tmp_path)
    refused(tmp_path, "more steps than its size explains")


def test_signal_while_sqlite_is_at_work(tmp_path: Path) -> None:
    with endless_schema(tmp_path).open("r+b") as file:
        file.truncate(128 << 20)  # a long file may take long

    def interrupt(number: int, _: FrameType | None) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
        with pytest.raises(Interrupted):
            installed_packages(tree(tmp_path))
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def test_sqlite_with_an_unfinished_log(rpms: list[Path], tmp_path: Path) -> None:
    log = sqlite(tmp_path, rpms) / "rpmdb.sqlite-wal"
    assert not log.exists() or not log.stat().st_size
    log.write_bytes(b"\x37\x7f\x06\x82")
    refused(tmp_path, "write-ahead log that was not closed")


def test_ndb_slots_that_share_a_blob(rpms: list[Path], tmp_path: Path) -> None:
    file = ndb(tmp_path, rpms) / "Packages.db"
    content = bytearray(file.read_bytes())
    content[32:4096] = content[32:48] * 254
    file.write_bytes(content)
    refused(tmp_path, "share")


def test_berkeley_chain_that_leads_to_itself(rpms: list[Path], tmp_path: Path) -> None:
    file = berkeley(tmp_path, rpms) / "Packages"
    content = bytearray(file.read_bytes())
    for page in range(0, len(content), 4096):
        if content[page + 25] == 7:
            content[page + 16 : page + 20] = content[page + 8 : page + 12]
    file.write_bytes(content)
    refused(tmp_path, "share a page")


@pytest.mark.parametrize(("entries", "words"), [(2000, "overlap"), (2040, "than room")])
def test_berkeley_page_whose_entries_are_one(rpms: list[Path], tmp_path: Path, entries: int, words: str) -> None:
    file = berkeley(tmp_path, rpms) / "Packages"
    content = file.read_bytes()
    page = struct.pack("<8xIIIHHBB", len(content) // 4096, 0, 0, entries, 26, 0, 13)
    page += struct.pack("<2000H", *[4084] * 2000) + bytes(58)
    file.write_bytes(content + page + bytes([1]) * 12)
    refused(tmp_path, words)


def rpm_header(directory: bytes, names: list[bytes]) -> bytes:
    """A package "a" with files in one directory."""
    tags = [
        (1000, 6, 1, b"a\0"),
        (1118, 8, 1, directory + b"\0"),
        (1117, 8, len(names), b"".join(name + b"\0" for name in names)),
        (1116, 4, len(names), bytes(4 * len(names))),
    ]
    index, data = b"", b""
    for tag, form, count, value in tags:
        index += struct.pack(">iIiI", tag, form, len(data), count)
        data += value
    return struct.pack(">II", len(tags), len(data)) + index + data


def test_small_rpm_database_with_gigabytes_of_paths(tmp_path: Path) -> None:
    file = made_sqlite(tmp_path, "CREATE TABLE Packages(hnum INTEGER PRIMARY KEY, blob)")
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO Packages VALUES(1, ?)", (rpm_header(b"/" + b"d" * 30000, [b"a"] * 20000),))
    connection.close()
    refused(tmp_path, "/var/lib/rpm/rpmdb.sqlite of the image: damaged (the image's package databases have more than")


@pytest.mark.parametrize(("name", "content", "what"), [
    ("lib/apk/db/installed", b"P:a\nF:" + b"d" * 30000 + b"\n" + b"R:a\n" * 20000, "bytes"),
    ("lib/apk/db/installed", b"P:a\n\n" * 410_000, "packages"),
    ("var/lib/dpkg/info/a.list", b"/a\n" * 9_000_000, "lines"),
    ("var/lib/dpkg/info/a.list", b"/a\n" * 4_200_000, "paths"),
    ("var/lib/dpkg/status.d/a.md5sums", b"0 a\n" * 9_000_000, "lines"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_database_that_lists_more_than_an_image_has(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    write(tmp_path, {"var/lib/dpkg/info/b.list": "/b\n", name: content})
    with pytest.raises(ImageError, match=rf"^/{name} of the image: .* {what} with it"):
        installed_packages(tree(tmp_path))


def test_database_that_takes_more_memory_than_there_is(tmp_path: Path) -> None:
    write(tmp_path, {"lib/apk/db/installed": ""})
    with (tmp_path / "lib/apk/db/installed").open("r+b") as file:
        file.truncate(250 << 20)
    program = """if True:
        import sys
        from pathlib import Path
        from tests.test_packages import refused
        refused(Path(sys.argv[1]), "/lib/apk/db/installed of the image: damaged (it takes more memory than there is)")
    """
    limit = (400 << 20, 400 << 20)
    command = [sys.executable, "-c", program, tmp_path]
    subprocess.run(command, check=True, timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit))


def test_paths_that_no_file_can_have(tmp_path: Path) -> None:
    impossible = ["/usr/a\0b", "/usr/" + "n" * 256, "/usr" * 1024, "/..", "/usr/../a", "/./usr", "/usr/.", "usr/relative", ""]
    possible = ["/usr/..a", "/usr/.b", "/usr/" + "n" * 255, "/usr" * 1023, "/usr/with\rreturn"]
    lines = "\n".join(impossible + possible)
    write(tmp_path, {
        "var/lib/dpkg/info/a.list": lines,
        "var/lib/dpkg/info/.list": lines,
        "lib/apk/db/installed": "P:b\nF:usr/..\nR:x\nF:usr\nR:..\nR:a/../b\nR:a\0\nR:c\n\nP:\nF:d\n",
        "var/lib/dpkg/status.d/c.md5sums": "0 ../etc/d\n0  ./usr/./e\n0  ./usr/f\n0\n",
        "usr/with\rreturn": "",
    })  # fmt: skip
    packages = installed_packages(tree(tmp_path))
    paths = tuple(path.encode() for path in possible)
    assert packages == {"a": paths, "b": (b"/usr", b"/usr/c"), "c": (b"/usr/f",)}
    assert path_index(tree(tmp_path), packages) == {b"/usr/with\rreturn": "a"}


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


def test_dpkg_removed_for_one_architecture(tmp_path: Path) -> None:
    states = {"tool:amd64": "installed", "tool:i386": "config-files", "lib:amd64": "config-files", "lib:i386": "installed"}
    states |= {"gone:amd64": "config-files", "gone:i386": "not-installed"}
    status = (
        f"Package: {full.partition(':')[0]}\nStatus: install ok {state}\nArchitecture: {full.partition(':')[2]}\n"
        for full, state in states.items()
    )
    lists = ("tool", "lib:amd64", "lib:i386", "gone")
    write(tmp_path, {
        "var/lib/dpkg/status": "\n".join(status),
        **{f"var/lib/dpkg/info/{full}.list": f"/usr/{full}\n" for full in lists},
    })  # fmt: skip
    found = installed_packages(tree(tmp_path))
    assert found == {"tool": (b"/usr/tool",), "lib": (b"/usr/lib:i386",), "lib:i386": (b"/usr/lib:i386",)}


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


def test_apk_by_two_names_is_read_once(tmp_path: Path) -> None:
    write(tmp_path, {"usr/lib/apk/db/installed": "P:a\nF:usr\n\n"})
    (tmp_path / "lib").symlink_to("usr/lib")
    assert installed_packages(tree(tmp_path)) == {"a": (b"/usr",)}


def test_damaged_database_matters_only_to_who_asks_for_packages(
    tracestrip: Command, compiled: Callable[..., Path], tmp_path: Path
) -> None:
    def damage(root: Path) -> None:
        write(root, {"var/lib/rpm/rpmdb.sqlite": "garbage"})

    image = image_archive(tmp_path / "image.tar", compiled("touch", "-static"), {}, prepare=damage)
    report = tmp_path / "report.json"
    run = (
        "run", f"docker-archive:{image}", "-e", "/bin/touch /data/first", "--report", report, "--force",
        "-o", f"docker-archive:{tmp_path}/out.tar",
    )  # fmt: skip
    finished = tracestrip(*run)
    assert finished.code == 0, finished.stderr
    assert "warning: the report tells no packages: /var/lib/rpm/rpmdb.sqlite of the image" in finished.stderr
    assert json.loads(report.read_text())["removed"]
    fails(tracestrip(*run, "--widen", "package"), 3, "/var/lib/rpm/rpmdb.sqlite", "--widen package")


def test_image_without_a_database(tmp_path: Path) -> None:
    assert installed_packages(tree(tmp_path)) == {}
