"""SOURCE_DATE_EPOCH, as https://reproducible-builds.org/specs/source-date-epoch/ defines it."""

import os
import re
from datetime import UTC, datetime

from tracestrip.errors import UsageError

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def source_date_epoch() -> int | None:
    """The latest time, in seconds since the epoch, that may stand in what is written; None where nothing is asked.

    Raises UsageError when the variable is malformed.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return None
    try:
        if not _INTEGER.fullmatch(text):
            raise ValueError
        rfc3339(int(text))
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"SOURCE_DATE_EPOCH={text}: write whole seconds since 1970, as `date +%s` does, or unset it") from None
    return int(text)


def rfc3339(seconds: int) -> str:
    """The time of a config's `created`. Raises ValueError, OverflowError or OSError for years beyond 9999."""
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat() + "Z"
