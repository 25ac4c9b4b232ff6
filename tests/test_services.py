"""Real services: trained with one exercise, held out another; what is missing is found, and repaired, before publication."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Finished
from tests.images import stripped_layer

Strip = Callable[..., tuple[Finished, dict[str, Any]]]


def get(path: str) -> str:
    return f"curl -fsS -o /dev/null localhost{path}"


@dataclass(frozen=True)
class Service:
    """A fixture image, and how it is exercised."""

    image: str
    trained: str
    """The probe that it is observed with."""
    held_out: str
    """One that needs files which that did not use."""
    missing: str
    """One of them."""
    also_passes: str
    """One that needs nothing more."""
    options: tuple[str, ...] = ()


SERVICES = [
    Service(
        # Without the page it lists the directory: no error, but not the same.
        "httpd", get("/server-status"), "curl -fsS localhost/ | grep -q 'It works'", "/var/www/html/index.html",
        get("/server-status?auto"), ("-e", "/usr/sbin/httpd"),
    ),
    Service(
        "nginx", "curl -sS localhost/none | grep -q 404", get("/"), "/var/www/html/index.nginx-debian.html",
        "curl -sS localhost/other | grep -q 404",
    ),
    Service("webapp", get(":8000/"), get(":8000/report"), "/app/reports/sheet.py", get(":8000/health")),
    Service("php", get(":8080/"), get(":8080/?module=orders"), "/srv/app/modules/orders.php", get(":8080/health")),
    Service("entrypoint", get(":8080/"), get(":8080/cgi-bin/status"), "/usr/bin/df", get(":8080/index.html")),
]  # fmt: skip


@pytest.fixture(params=SERVICES, ids=lambda service: service.image)
def service(request: pytest.FixtureRequest) -> Service:
    return request.param


@pytest.fixture
def strip(tracestrip: Command, image: Callable[[str], str], tmp_path: Path) -> Strip:
    def run(service: Service, *options: str) -> tuple[Finished, dict[str, Any]]:
        report = tmp_path / "report.json"
        finished = tracestrip(
            "run", image(service.image), *service.options, "--probe", service.trained, *options,
            "-o", f"docker-archive:{tmp_path}/out.tar", "--force", "--report", report, "--probe-timeout", "5",
        )  # fmt: skip
        return finished, json.loads(report.read_text())

    return run


def test_what_was_not_exercised_is_found_and_repaired(
    service: Service, strip: Strip, tmp_path: Path
) -> None:
    finished, report = strip(service, "--verify-probe", service.also_passes)
    assert finished.code == 0, finished.stderr
    assert [round_["faults"] for round_ in report["verification"]["rounds"]] == [[]]
    trained = stripped_layer(tmp_path / "out.tar")
    assert service.missing[1:] not in trained

    finished, report = strip(service, "--verify-probe", service.held_out)
    assert finished.code == 0, finished.stderr
    first, *_, last = report["verification"]["rounds"]
    assert service.held_out in first["faults"][0]["what"].replace("\\'", "'")
    assert service.missing in (*first["missed"], *first["unasked"])
    assert last["faults"] == []
    added = {path for round_ in report["verification"]["rounds"] for path in round_["added"]}
    assert service.missing in added
    assert stripped_layer(tmp_path / "out.tar").keys() == trained.keys() | {path[1:] for path in added}
    (kept,) = (kept for kept in report["kept"] if kept["path"] == service.missing)
    assert kept["round"] >= 1
    assert kept["reasons"][0]["first_used_by"]["program"]
