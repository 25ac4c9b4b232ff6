"""Sizes on the command line, as `docker run` takes them."""

import re

import click

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGTP]?)(?:I?B)?", re.IGNORECASE)
_UNITS = ("", "K", "M", "G", "T", "P")


def size(value: str) -> int:
    """Bytes; *value* is a number with a unit of 1024, or none: 64M, 1.5g, 2GiB. Raises click.BadParameter."""
    match = _SIZE.fullmatch(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no size: write a number with K, M, G or T")
    return int(float(match[1]) * (1 << 10 * _UNITS.index(match[2].upper())))
