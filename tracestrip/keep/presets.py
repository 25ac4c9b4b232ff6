"""What services need that no probe may ever touch: a data table, and its use."""

from collections.abc import Callable
from dataclasses import dataclass

from tracestrip.errors import UsageError
from tracestrip.keep.keepset import KeepSet, Reason
from tracestrip.keep.patterns import fits, matches
from tracestrip.rootfs.tree import Tree

_LIBRARIES = (b"/lib", b"/lib64", b"/usr/lib", b"/usr/lib64", b"/lib/*-linux-*", b"/usr/lib/*-linux-*")


@dataclass(frozen=True, slots=True)
class Preset:
    """Patterns of one kind of file."""

    patterns: tuple[bytes, ...]
    usually_by: str
    """Packages that bring them."""
    besides: tuple[bytes, ...] = ()
    """What goes with them, but is no sign that they are there."""


PRESETS = {
    "shell": Preset((b"/bin/sh",), "dash, bash or busybox"),
    "certs": Preset(
        (
            b"/etc/ssl/certs/**", b"/etc/ssl/cert.pem",
            b"/usr/share/ca-certificates/**", b"/usr/local/share/ca-certificates/**",
            b"/etc/pki/tls/certs/**", b"/etc/pki/tls/cert.pem", b"/etc/pki/ca-trust/extracted/**",
            b"/var/lib/ca-certificates/**",
        ),
        "ca-certificates",
        (b"/etc/ssl/openssl.cnf", b"/etc/pki/tls/openssl.cnf", b"/usr/lib/ssl/**"),
    ),
    "timezones": Preset((b"/usr/share/zoneinfo/**",), "tzdata", (b"/etc/localtime", b"/etc/timezone")),
    "locales": Preset(
        (
            b"/usr/lib/locale/**", b"/usr/share/locale/**", b"/usr/share/i18n/locales/musl/**",
            *(directory + b"/gconv/**" for directory in _LIBRARIES),
        ),
        "locales, glibc-langpack-en or musl-locales",
        (b"/etc/default/locale", b"/etc/locale.conf", b"/etc/locale.alias"),
    ),
    "nss": Preset(
        tuple(directory + b"/libnss_*.so*" for directory in _LIBRARIES),
        "glibc",
        (
            b"/etc/nsswitch.conf", b"/etc/host.conf", b"/etc/gai.conf", b"/etc/services", b"/etc/protocols", b"/etc/rpc",
            b"/etc/networks", b"/etc/ethers",
        ),
    ),
    "terminfo": Preset(
        (b"/usr/share/terminfo/**", b"/lib/terminfo/**", b"/usr/lib/terminfo/**", b"/etc/terminfo/**"),
        "ncurses-base, ncurses-terminfo-base or ncurses",
    ),
}  # fmt: skip
"""By the names that `--with` takes."""


def add_preset(keep: KeepSet, tree: Tree, name: str) -> None:
    """Keep what the preset names, and where its symlinks lead. Raises UsageError where the image has nothing of it."""
    preset = PRESETS[name]
    found = {pattern: _add(keep, tree, pattern, name) for pattern in (*preset.patterns, *preset.besides)}
    if not any(found[pattern] for pattern in preset.patterns):
        raise UsageError(f"--with {name}: the image has nothing of that: install {preset.usually_by} in it")


def preset_of(path: bytes, resolved: Callable[[bytes], bytes]) -> str | None:
    """The preset that *path* is a sign of. *resolved*: a pattern behind the image's symlinks, /usr/bin/sh for /bin/sh."""
    for name, preset in PRESETS.items():
        for pattern in preset.patterns:
            if fits(path, pattern) or fits(path, resolved(pattern)):
                return name
    return None


def _add(keep: KeepSet, tree: Tree, pattern: bytes, name: str) -> bool:
    """Whether it matched anything but a directory."""
    found = [keep.add_path(path, Reason("preset", name.encode())) for path in sorted(set(matches(tree, pattern)))]
    return any(entry is not None and not entry.is_directory for entry in found)
