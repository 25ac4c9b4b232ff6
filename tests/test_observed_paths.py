"""What a path means to the process that names it, at that time."""

import os
from pathlib import Path

from tests.observing import Compile, kinds, observed, resolved
from tracestrip.observer.client import Sandbox


def test_paths_are_what_the_process_means(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    names = (b"at", b"relative", b"linked", b"caf\xe9\n", b"edge", b"how", b"renamed")
    top = os.fsencode(tmp_path / "top")
    os.mkdir(top)
    os.mkdir(top + b"/directory")
    os.mkdir(top + b"/jail")
    for name in (*names, b"jail/inside"):
        with open(top + b"/" + name, "wb"):
            pass
    observation = observed(sandbox, compiled("paths"), tmp_path / "top")
    for name in (b"at", b"relative", b"made", b"caf\xe9\n", b"how", b"jail/inside"):
        assert "opened" in kinds(observation, top + b"/" + name), name
    assert top + b"/linked" in resolved(observation)
    assert kinds(observation, top + b"/edge") == {"checked"}
    assert kinds(observation, top + b"/socket") == {"created"}
    assert kinds(observation, top + b"/directory/new") == {"created"}
    assert kinds(observation, top + b"/renamed") == {"renamed"}


def test_one_name_that_leads_to_one_file_after_the_other(sandbox: Sandbox, compiled: Compile, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "x/file", "y/file")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    observation = observed(sandbox, compiled("moving"), tmp_path)
    assert {os.fsencode(file) for file in files} <= resolved(observation)
