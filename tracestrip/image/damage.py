"""What the parsers raise on a damaged image, as the one error that a user sees."""

import errno
import json
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from tracestrip.errors import EnvironmentLack, ImageError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError

_PARSERS_ERRORS = (
    tarfile.TarError, zlib.error, ZstdError, EOFError,
    ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def damage(called: str, remedy: str) -> Iterator[None]:
    """Raises ImageError, which names *called* and the *remedy*, for all that parsers raise; EnvironmentLack for a full disk."""
    try:
        yield
    except _PARSERS_ERRORS as error:
        raise ImageError(f"{called}: damaged ({error or type(error).__name__}): {remedy}") from error
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise EnvironmentLack(f"{called}: no room to unpack it: set TMPDIR to a place with room") from error
        raise ImageError(f"{called}: cannot be read: {error.strerror or error}: {remedy}") from error


def parse_object(content: bytes) -> Mapping[str, Any]:
    """A JSON object. Raises ValueError for all else, also for numbers and texts that JSON cannot carry on."""
    document = json.loads(content, parse_constant=_refuse)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one family for all that is wrong
    return document


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} in JSON")
