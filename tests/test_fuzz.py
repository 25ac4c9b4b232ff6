"""Damaged and nonsensical images, by chance: each is refused as the image's fault, or taken; nothing else happens."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, currently_in_test_context, event, given, settings
from hypothesis import strategies as st

from tests.layers import directory, hard_link, member, symlink
from tests.layouts import CONFIG, INDEX, LAYER, MANIFEST, layer_bytes
from tests.test_tree import rich_members
from tracestrip.errors import ImageError, TargetError
from tracestrip.image.config import Config, origin
from tracestrip.image.platform import host_architecture
from tracestrip.image.reference import parse_reference
from tracestrip.image.room import Room
from tracestrip.image.transports import read_image
from tracestrip.rootfs.accounts import find_account
from tracestrip.rootfs.archive_tree import ArchiveTree
from tracestrip.rootfs.extract import extract
from tracestrip.rootfs.pack import pack

LIMIT = 32 << 20
bounded = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "150")), deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip


def take(reference: str, place: Path) -> bool:
    """Whether the image is taken, up to a root directory and a new layer; False when it is refused as bad."""
    try:
        image = read_image(parse_reference(reference), None, Room(place, LIMIT))
        use(image.config)
        tree = ArchiveTree(image.layers, LIMIT)  # type: ignore[arg-type]
        (place / "root").mkdir()
        extract(tree, place / "root")
        pack(tree.walk(), place / "packed")
        find_account(tree, image.config.user)
    except ImageError:
        if currently_in_test_context():
            event("refused")
        return False
    except TargetError as error:  # a user or group that the image does not know
        return "not in the image's" in str(error)
    if currently_in_test_context():
        event("taken")
    return True


def use(config: Config) -> None:
    """All that a run asks of a config."""
    assert isinstance(config.environment, tuple)
    assert isinstance(config.command, tuple)
    assert isinstance(config.user + config.workdir + config.stop_signal, str)
    assert isinstance(config.exposed_ports, frozenset)
    assert isinstance(config.volumes, tuple)
    assert config.stripped("sha256:x", None, origin("name", "sha256:y"), None).to_bytes()


# Bytes.


ODD_BYTES = [b"\xff" * 12, b"\x80" + b"\xff" * 11, b"\0" * 12, b"7" * 11]
edits = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["flip", "set", "insert", "delete", "double", "zero", "cut"]),
        st.one_of(st.binary(min_size=1, max_size=16), st.sampled_from(ODD_BYTES)),
    ),
    min_size=1, max_size=6,
)  # fmt: skip


def edited(content: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    data = bytearray(content)
    for where, change, value in changes:
        at = int(where * max(1, len(data)))
        match change:
            case "flip" if at < len(data):
                data[at] ^= value[0] or 1
            case "set":
                data[at : at + len(value)] = value
            case "insert":
                data[at:at] = value
            case "delete":
                del data[at : at + len(value)]
            case "double":
                data[at:at] = data[at - at % 512 : at - at % 512 + 512]
            case "zero":
                data[at - at % 512 : at - at % 512 + 512] = bytes(512)
            case "cut":
                del data[at:]
    return bytes(data)


def with_checksums(data: bytes) -> bytes:
    """Every block that could be a header gets a right checksum, so that what is behind that is reached."""
    blocks = []
    for start in range(0, len(data), 512):
        block = bytearray(data[start : start + 512])
        if block[257:262] == b"ustar" and len(block) == 512:
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
        blocks.append(bytes(block))
    return b"".join(blocks)


def made_layer() -> bytes:
    """A layer of about 20 KB with everything that a header can say."""
    xattr = {"SCHILY.xattr.user.x": "y" * 300, "mtime": "1.5", "path": "long/" + "n" * 120}
    sparse = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes", "GNU.sparse.realsize": "9000",
    }  # fmt: skip
    members = [
        *ACCOUNTS, *(made for made in rich_members() if made[0].name != "d/big"), symlink("s", "d/suid"),
        hard_link("h", "etc/passwd"), member("etc/.wh.gone"), member("d/.wh..wh..opq"),
        member("p", b"z" * 700, pax_headers=xattr),
        member("GNUSparseFile.0/holes", b"1\n100\n5\n".ljust(512, b"\0") + b"bytes", pax_headers=sparse),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        return layer_bytes(Path(place), members)


ACCOUNTS = [
    directory("etc"), member("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"), member("etc/group", b"root:x:0:\n"),
]  # fmt: skip


def packed(files: dict[str, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return output.getvalue()


def config_of(diff_id: str) -> dict[str, Any]:
    return {
        "architecture": host_architecture(), "os": "linux", "created": "2020-01-01T00:00:00Z",
        "config": {
            "Env": ["A=b"], "User": "root:root", "WorkingDir": "/tmp", "Cmd": ["/x"], "Entrypoint": None,
            "StopSignal": "SIGTERM", "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "Labels": {"a": "b"},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "history": [{"created": "2020-01-01T00:00:00Z"}],
    }  # fmt: skip


def archive_of(layer: bytes, stored: bytes | None = None) -> bytes:
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    manifest = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l/layer.tar"]}]
    documents = {"c.json": json.dumps(config_of(diff_id)).encode(), "manifest.json": json.dumps(manifest).encode()}
    return packed({"l/layer.tar": stored or layer, **documents})


LAYER_BYTES = made_layer()
WHOLE = archive_of(LAYER_BYTES)


with tempfile.TemporaryDirectory() as made:
    ACCOUNTS_LAYER = layer_bytes(Path(made), ACCOUNTS)


def in_a_place(check: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        inside = Path(place) / "inside"
        inside.mkdir()
        check(inside)
        assert [path.name for path in Path(place).iterdir()] == ["inside"]


@bounded
@given(changes=edits, zipped=st.booleans())
def test_edited_archives(changes: list[tuple[float, str, bytes]], zipped: bool) -> None:
    def check(place: Path) -> None:
        content = gzip.compress(WHOLE, mtime=0) if zipped else WHOLE
        (place / "i.tar").write_bytes(edited(content, changes))
        take(f"docker-archive:{place}/i.tar", place)

    in_a_place(check)


@bounded
@given(changes=edits)
def test_edited_layers_with_right_digests(changes: list[tuple[float, str, bytes]]) -> None:
    def check(place: Path) -> None:
        (place / "i.tar").write_bytes(archive_of(with_checksums(edited(LAYER_BYTES, changes))))
        take(f"docker-archive:{place}/i.tar", place)

    in_a_place(check)


# Documents.


ODD_TEXTS = ["", "\0", "../../x", "/proc/self/fd/7", "\ud800", "9" * 400, "sha256:" + "0" * 64, "@0", "8-99999999999/tcp"]
odd_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8),
        st.sampled_from(ODD_TEXTS),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)  # fmt: skip
choices = st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=6), odd_values, st.booleans()), max_size=3)


def changed(document: Any, changes: list[tuple[list[int], Any, bool]]) -> Any:
    """*document* with some of its values replaced by others, or left out."""
    document = json.loads(json.dumps(document))
    for way, value, leave_out in changes:
        here, above, key = document, None, None
        for step in way:
            if not isinstance(here, dict | list) or not here:
                break
            above, key = here, sorted(here)[step % len(here)] if isinstance(here, dict) else step % len(here)
            here = above[key]
        if above is None:
            continue
        if leave_out:
            del above[key]  # type: ignore[arg-type]
        else:
            above[key] = value  # type: ignore[index]
    return document


def written(document: Any) -> bytes:
    return json.dumps(document).encode()


@bounded
@given(config=choices, manifest=choices)
def test_nonsense_in_docker_archives(config: Any, manifest: Any) -> None:
    def check(place: Path) -> None:
        layer = ACCOUNTS_LAYER
        documents = {
            "c.json": written(changed(config_of(f"sha256:{hashlib.sha256(layer).hexdigest()}"), config)),
            "manifest.json": written(changed([{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l"]}], manifest)),
        }
        (place / "i.tar").write_bytes(packed({"l": layer, **documents}))
        take(f"docker-archive:{place}/i.tar", place)

    in_a_place(check)


@bounded
@given(repositories=choices, description=choices)
def test_nonsense_in_old_docker_archives(repositories: Any, description: Any) -> None:
    def check(place: Path) -> None:
        documents = {
            "repositories": written(changed({"a": {"1": "x"}}, repositories)),
            "x/json": written(changed({"id": "x", "parent": "y", **config_of("")}, description)),
            "y/json": written({"id": "y"}),
        }
        layers = {"x/layer.tar": packed({"a": b"text"}), "y/layer.tar": packed({"b": b"text"})}
        (place / "i.tar").write_bytes(packed({**layers, **documents}))
        take(f"docker-archive:{place}/i.tar", place)

    in_a_place(check)


@bounded
@given(config=choices, manifest=choices, index=choices, top=choices)
def test_nonsense_in_layouts(config: Any, manifest: Any, index: Any, top: Any) -> None:
    """Every document has a right digest, unless the change is of the digest."""

    def check(place: Path) -> None:
        blobs: dict[str, bytes] = {}

        def blob(content: bytes, media_type: str) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            blobs[f"blobs/sha256/{digest}"] = content
            return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

        layer = ACCOUNTS_LAYER
        settings_ = blob(written(changed(config_of(f"sha256:{hashlib.sha256(layer).hexdigest()}"), config)), CONFIG)
        image = {"mediaType": MANIFEST, "config": settings_, "layers": [blob(layer, LAYER)], "annotations": {"a": "b"}}
        platform = {"architecture": host_architecture(), "os": "linux"}
        entry = {**blob(written(changed(image, manifest)), MANIFEST), "platform": platform}
        inner = blob(written(changed({"schemaVersion": 2, "manifests": [entry, entry]}, index)), INDEX)
        named = {**inner, "annotations": {"org.opencontainers.image.ref.name": "v"}}
        outer = changed({"schemaVersion": 2, "manifests": [named]}, top)
        files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": written(outer), **blobs}
        (place / "i.tar").write_bytes(packed(files))
        take(f"oci-archive:{place}/i.tar", place)

    in_a_place(check)


def test_what_is_not_edited_is_taken() -> None:
    for content in (WHOLE, gzip.compress(WHOLE), archive_of(with_checksums(LAYER_BYTES), gzip.compress(LAYER_BYTES))):
        in_a_place(lambda place, content=content: taken(place, content))  # type: ignore[misc]


def taken(place: Path, content: bytes) -> None:
    (place / "i.tar").write_bytes(content)
    assert take(f"docker-archive:{place}/i.tar", place)
