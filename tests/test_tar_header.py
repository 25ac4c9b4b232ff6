"""Our quick reader of tar headers says what tarfile says."""

import tarfile
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tracestrip.image.tar_header import Header

FIELDS = {  # ustar Interchange Format, pax(1p): where each field starts, and how long it is
    "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12), "mtime": (136, 12),
    "checksum": (148, 8), "type": (156, 1), "target": (157, 100), "magic": (257, 8), "uname": (265, 32),
    "gname": (297, 32), "major": (329, 8), "minor": (337, 8), "prefix": (345, 155),
}  # fmt: skip
SAID = (
    "name", "mode", "uid", "gid", "size", "mtime", "chksum", "type", "linkname", "uname", "gname", "devmajor", "devminor",
)  # fmt: skip

numbers = st.one_of(
    st.from_regex(rb"\A[ \0]{0,2}[0-9 ]{0,11}[ \0]{0,3}\Z"),
    st.from_regex(rb"\A0[0-7]{0,10}[ \0x]\Z"),
    st.binary(max_size=12),
    st.sampled_from([b"\x80" + bytes(10) + b"\1", b"\xff" * 12, b"-7", b"+7", b"0o7", b"0_7", b"7\x0b", b"\xc2\xb2"]),
)
changes = st.dictionaries(
    st.sampled_from(sorted(FIELDS)),
    st.one_of(numbers, st.binary(max_size=155), st.sampled_from([b"ustar\x0000", b"ustar  \0", b"5", b"L", b"dir/", b"\0"])),
    max_size=4,
)


@given(
    kind=st.sampled_from([b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S"]),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]),
    name=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60),
    edits=changes,
    right_sum=st.booleans(),
)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_as_tarfile(kind: bytes, form: int, name: str, edits: dict[str, bytes], right_sum: bool) -> None:
    written = tarfile.TarInfo(f"{'d/' * 40}{name}" if form == tarfile.USTAR_FORMAT else name)
    written.type, written.size, written.mtime, written.uid = kind, 123, 1700000000, 1000
    try:
        block = bytearray(written.tobuf(form, "utf-8", "surrogateescape")[-512:])
    except ValueError:  # a name that ustar has no room for
        assume(False)
    for field, content in edits.items():
        start, length = FIELDS[field]
        block[start : start + length] = content[:length].ljust(length, b"\0")
    if right_sum or "checksum" not in edits:
        block[148:156] = b"%06o\0 " % tarfile.calc_chksums(block)[0]
    assume(bytes(block[257:265]) != tarfile.GNU_MAGIC or not any(block[345:500]))  # times there, not a prefix
    assert said(Header, block) == said(tarfile.TarInfo, block)


def said(reader: type[tarfile.TarInfo], block: bytearray) -> Any:
    try:
        header = reader.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError) as error:
        return type(error)
    return {field: getattr(header, field) for field in SAID}


def test_usual_headers_are_read_without_tarfile(monkeypatch: Any) -> None:
    block = tarfile.TarInfo("a/b").tobuf(tarfile.USTAR_FORMAT)
    monkeypatch.setattr(tarfile.TarInfo, "frombuf", None)
    assert Header.frombuf(block, "utf-8", "surrogateescape").name == "a/b"
