"""Tar headers that say nothing unusual, read several times faster than tarfile reads them; it reads all others itself."""

import struct
import tarfile
import zlib

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")  # ustar Interchange Format, pax(1p)
_HALF = tarfile.BLOCKSIZE // 2
_USUAL_TYPES = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.XHDTYPE)
_MAGIC = slice(257, 265)
_NO_DEVICES = (bytes(8), b"0000000\0", b"000000 \0")


class Header(tarfile.TarInfo):
    """A TarInfo; the same for every header, but for GNU tar's own, which have times where ustar has the name's prefix."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        """The header in a block. Raises what tarfile raises."""
        usual = _usual(cls(), buf, encoding, errors) if len(buf) == tarfile.BLOCKSIZE else None
        if usual is not None:
            return usual
        header = super().frombuf(buf, encoding, errors)
        if buf[_MAGIC] == tarfile.GNU_MAGIC and header.type not in tarfile.GNU_TYPES and all(map(_is_time, _times(buf))):
            header.name = bytes(buf[:100]).partition(b"\0")[0].decode(encoding, errors)
            header.name = header.name.rstrip("/") if header.isdir() else header.name
        return header


def _usual(header: Header, block: bytes | bytearray, encoding: str, errors: str) -> Header | None:
    """Fills in *header*; None where anything asks for tarfile's own care."""
    name, mode, uid, gid, size, mtime, checksum, kind, target, magic, uname, gname, major, minor, prefix = _HEADER.unpack(block)
    numbers = [field.partition(b"\0")[0].strip(b" ") for field in (mode, uid, gid, size, mtime, checksum)]
    if kind not in _USUAL_TYPES or major not in _NO_DEVICES or minor not in _NO_DEVICES or not all(map(bytes.isdigit, numbers)):
        return None
    try:
        header.mode, header.uid, header.gid, header.size, header.mtime, header.chksum = (int(number, 8) for number in numbers)
    except ValueError:
        return None  # an 8 or a 9
    if prefix[0] and magic == tarfile.GNU_MAGIC:
        return None
    if header.chksum != _sum(block[:_HALF]) + _sum(block[_HALF:]) - sum(checksum) + 8 * ord(" "):
        return None
    header.name, header.linkname, header.uname, header.gname = (
        field.partition(b"\0")[0].decode(encoding, errors) for field in (name, target, uname, gname)
    )
    header.type = kind
    if kind == tarfile.DIRTYPE:
        header.name = header.name.rstrip("/")
    if prefix[0]:
        header.name = prefix.partition(b"\0")[0].decode(encoding, errors) + "/" + header.name
    return header


def _times(block: bytes | bytearray) -> tuple[bytes, bytes]:
    """Access and change time of a GNU header (tar's "Basic Tar Format")."""
    return bytes(block[345:357]), bytes(block[357:369])


def _is_time(field: bytes) -> bool:
    """A number or nothing. Where it is none, a writer took it for the prefix after all; Go's was one, before 1.8."""
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    return field[0] in (0, 0x80, 0xFF) or (bool(digits) and set(digits) <= set(b"01234567"))


def _sum(half: bytes | bytearray) -> int:
    """Of half a block's bytes: Adler-32 is 1 plus that in its lower 16 bits, modulo 65521, which 256 bytes cannot reach."""
    return (zlib.adler32(half) & 0xFFFF) - 1
