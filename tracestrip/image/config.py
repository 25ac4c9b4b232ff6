"""An image's config: the JSON that says how to run it (OCI image-spec, config.md; Docker's has the same shape)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracestrip import __version__
from tracestrip.errors import ImageError
from tracestrip.image.damage import damage, parse_object
from tracestrip.image.platform import Platform, platform_of

SOURCE_DIGEST = "tracestrip.source.digest"
SOURCE_NAME = "tracestrip.source.name"
VERSION = "tracestrip.version"
VERIFIED = "tracestrip.verified"
_BASE = "org.opencontainers.image.base."
"""These annotations name an image that the result shares layers with. It shares none."""

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Config:
    """A read-only view of the config's JSON object."""

    document: Mapping[str, Any]

    @classmethod
    def parse(cls, content: bytes, name: str) -> "Config":
        """Raises ImageError; *name* is the image, for the message."""
        with damage(f"{name}: its config", "build or save the image again"):
            config = cls(parse_object(content))
            config.to_bytes()  # what cannot be written again
        config._check(name)
        return config

    @classmethod
    def empty(cls, architecture: str) -> "Config":
        """The config of a root file system that has none."""
        return cls({"architecture": architecture, "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}})

    def _check(self, name: str) -> None:
        run = self._run
        lists = [run.get(key) or [] for key in ("Env", "Cmd", "Entrypoint")]
        texts = [run.get(key) or "" for key in ("User", "WorkingDir", "StopSignal")]
        objects = [run.get(key) or {} for key in ("Labels", "ExposedPorts", "Volumes")]
        rootfs = self.document.get("rootfs")
        diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        fits = (
            all(isinstance(value, list) and all(map(_is_text, value)) for value in [*lists, diff_ids])
            and all(map(_is_text, texts))
            and all(isinstance(value, dict) and all(map(_is_text, value)) for value in objects)
        )
        if not fits:
            raise ImageError(f"{name}: its config does not have the shape that the OCI image-spec gives: build it again")

    @property
    def _run(self) -> Mapping[str, Any]:
        run = self.document.get("config") or {}
        return run if isinstance(run, dict) else {}

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests of the uncompressed layers, the lowest first."""
        return tuple(self.document["rootfs"]["diff_ids"])

    @property
    def platform(self) -> Platform:
        return platform_of(self.document)

    @property
    def environment(self) -> tuple[str, ...]:
        """NAME=VALUE; with a PATH, as an engine adds one."""
        given = tuple(self._run.get("Env") or ())
        return given if any(pair.startswith("PATH=") for pair in given) else (DEFAULT_PATH, *given)

    @property
    def command(self) -> tuple[str, ...]:
        """ENTRYPOINT followed by CMD."""
        return tuple(self._run.get("Entrypoint") or ()) + tuple(self._run.get("Cmd") or ())

    @property
    def user(self) -> str:
        """name, uid, name:group or uid:gid; empty for root."""
        return str(self._run.get("User") or "")

    @property
    def workdir(self) -> str:
        return str(self._run.get("WorkingDir") or "/")

    @property
    def stop_signal(self) -> str:
        """A name with or without SIG, or a number."""
        return str(self._run.get("StopSignal") or "SIGTERM")

    @property
    def exposed_ports(self) -> frozenset[tuple[int, str]]:
        """(port, "tcp" or "udp") of EXPOSE; ranges spread out."""
        ports = set()
        for text in self._run.get("ExposedPorts") or ():
            numbers, _, protocol = text.partition("/")
            first, _, last = numbers.partition("-")
            if is_number(first) and is_number(last or first):
                lowest, highest = int(first), min(int(last or first), 65535)
                ports |= {(port, protocol or "tcp") for port in range(lowest, highest + 1)}
        return frozenset(ports)

    @property
    def volumes(self) -> tuple[str, ...]:
        """Directories that an engine mounts a volume on."""
        return tuple(sorted(self._run.get("Volumes") or ()))

    def stripped(self, diff_id: str, command: Sequence[str] | None, origin: Mapping[str, str], created: str | None) -> "Config":
        """The config of the result: one layer, *command* (if any) in place of ENTRYPOINT and CMD, *origin* as labels.

        *created*: a time by RFC 3339; None for the source's own. Everything else that says how to run the image stays.
        """
        run = dict(self._run)
        if command is not None:
            run["Entrypoint"] = None
            run["Cmd"] = list(command)
        run["Labels"] = without_base(run.get("Labels") or {}) | dict(origin)
        kept = {key: self.document[key] for key in _KEPT_KEYS if key in self.document}
        kept |= {"created": created} if created else {}
        made = {"created": kept.get("created", _EPOCH), "created_by": f"tracestrip {__version__} from {origin[SOURCE_NAME]}"}
        return Config({**kept, "config": run, "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "history": [made]})

    def to_bytes(self) -> bytes:
        """The JSON text, the same for the same config."""
        return json.dumps(self.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def origin(source: str, digest: str | None) -> dict[str, str]:
    """Labels and annotations that say what the result was made of: the source's name, and its config's digest if it has one."""
    return {SOURCE_NAME: source, VERSION: __version__} | ({SOURCE_DIGEST: digest} if digest else {})


def verified(is_proven: bool) -> dict[str, str]:
    """The label that says whether the result was run before it was published, and did what the source does."""
    return {VERIFIED: "true" if is_proven else "false"}


def without_base(inherited: Mapping[str, str]) -> dict[str, str]:
    """Labels or annotations without those that name an image which the result shares no layers with."""
    return {key: value for key, value in inherited.items() if not key.startswith(_BASE)}


def _is_text(value: Any) -> bool:
    """A text that the kernel takes: without a NUL."""
    return isinstance(value, str) and "\0" not in value


def is_number(text: str) -> bool:
    """Whether *text* is a decimal number as configs write them: ASCII digits, no sign, of a length that is meant so."""
    return text.isascii() and text.isdecimal() and len(text) <= 10


_EPOCH = "1970-01-01T00:00:00Z"
_KEPT_KEYS = ("created", "author", "architecture", "variant", "os", "os.version", "os.features")
