"""The table Packages of rpm's SQLite database: a header blob in each row.

SQLite runs what a file's schema says, and follows pages wherever they lead, so neither is trusted: https://sqlite.org/security.html
"""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing

_SECURE = ("PRAGMA trusted_schema = OFF", "PRAGMA cell_size_check = ON")
_KIND = "SELECT type FROM sqlite_master WHERE name = 'Packages' AND rootpage > 0"  # views and virtual tables have none
_COLUMNS = "SELECT name, hidden FROM pragma_table_xinfo('Packages')"  # hidden: also generated
_BLOBS = "SELECT blob FROM Packages NOT INDEXED"  # in no order, since sorting begins with reading all
_STEPS = 1000
"""Of SQLite's virtual machine, after which it asks whether to go on."""


def table_blobs(content: bytes) -> Iterator[bytes]:
    """The headers in a database with this content. Raises ValueError for a damaged one."""
    writable = bytearray(content)
    writable[18:20] = b"\1\1"  # journal mode: a database in memory has no log; https://www.sqlite.org/fileformat.html
    caught: list[BaseException] = []
    going_on = _going_on(100 + len(content) // 4 // _STEPS, caught)  # a row has 26 bytes or more, and takes some 5 steps
    next(going_on)
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.deserialize(writable)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, len(writable))
            database.set_progress_handler(going_on.__next__, _STEPS)
            yield from _blobs(database, len(content))
        except sqlite3.Error as error:
            if caught:
                raise caught[0] from None
            interrupted = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
            raise ValueError("it takes more steps than its size explains" if interrupted else str(error)) from error


def _blobs(database: sqlite3.Connection, left: int) -> Iterator[bytes]:
    for statement in _SECURE:
        database.execute(statement)
    if database.execute(_KIND).fetchall() != [("table",)]:
        raise ValueError("Packages is no table")
    if sorted(database.execute(_COLUMNS)) != [("blob", 0), ("hnum", 0)]:
        raise ValueError("Packages has other columns than hnum and blob")
    for (blob,) in database.execute(_BLOBS):
        if not isinstance(blob, bytes):
            raise ValueError("a header is no blob")  # noqa: TRY004 - one family for all that is wrong
        left -= len(blob)
        if left < 0:
            raise ValueError("the headers are longer than the file")
        yield blob


def _going_on(times: int, caught: list[BaseException]) -> Generator[int, None, None]:
    """Its __next__ is SQLite's progress handler: 0 goes on, StopIteration interrupts.

    The module sqlite3 drops what a handler raises, and a signal's handler raises in here. A plain function would get
    that before its first line; a generator gets it where it left off, inside the try.
    """
    try:
        for _ in range(times):
            yield 0
    except BaseException as error:
        caught.append(error)
