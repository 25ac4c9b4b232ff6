"""The options that commands share, and what they say together."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from tracestrip.destination import Place
from tracestrip.errors import UsageError
from tracestrip.exercise.plan import Plan
from tracestrip.image.room import DEFAULT_LIMIT
from tracestrip.keep.choice import Rules
from tracestrip.keep.presets import PRESETS
from tracestrip.mount_options import parse_mount, parse_tmpfs
from tracestrip.observer import capabilities
from tracestrip.observer.job import DEFAULT_SHM_SIZE
from tracestrip.pipeline import Subject, Wanted
from tracestrip.sizes import size
from tracestrip.surroundings import NETWORKS, Surroundings
from tracestrip.trial import Scenario
from tracestrip.verify import DEFAULT_ROUNDS, Checks

Options = Mapping[str, Any]
"""What click made of a command line."""

Decorator = Callable[[Any], Any]


def _together(*decorators: Decorator) -> Decorator:
    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


EXERCISE = _together(
    click.option("-e", "--execute", "command", metavar="COMMAND", help="The command; default: the image's ENTRYPOINT and CMD."),
    click.option("--probe", "probes", multiple=True, metavar="CMD",
                 help="Shell command of the host that must succeed; @FILE: a script."),
    click.option("--exec", "inside", multiple=True, metavar="CMD", help="Command to run inside the image, observed."),
    click.option("--ready", metavar="CMD", help="The target is ready when this command of the host succeeds."),
    click.option("--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="The target is ready after this time."),
    click.option("--probe-timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
                 metavar="SECONDS", help="Time for readiness, and for each --probe and --exec."),
    click.option("--stop-timeout", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="SECONDS",
                 help="Time between the image's stop signal and SIGKILL."),
)  # fmt: skip

STABLE = click.option("--until-stable", type=click.IntRange(min=1), metavar="N",
                      help="Repeat the exercise until N runs in a row use no new file.")  # fmt: skip

SURROUNDINGS = _together(
    click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Set a variable for the run."),
    click.option("--user", metavar="USER[:GROUP]", help="Run as this user; default: the image's."),
    click.option("--workdir", metavar="DIR", help="Run in this directory; default: the image's."),
    click.option("--hostname", metavar="NAME", help="Host name in the sandbox."),
    click.option("--network", type=click.Choice(NETWORKS), default="sandbox", show_default=True,
                 help="A private one that the probes share, one that nothing shares, or this machine's."),
    click.option("--mount", "mounts", multiple=True, metavar="type=bind,src=PATH,dst=PATH[,ro]",
                 help="Show a file or directory of the host inside."),
    click.option("--tmpfs", "tmpfs", multiple=True, metavar="PATH[:OPTIONS]", help="An empty file system in memory."),
    click.option("--shm-size", type=size, default="64M", show_default=True, metavar="SIZE", help="Of /dev/shm."),
    click.option("--cap-add", multiple=True, metavar="NAME", help="Give the target a capability more; ALL: all."),
    click.option("--cap-drop", multiple=True, metavar="NAME", help="Give the target a capability less; ALL: none."),
    click.option("--security-opt", type=click.Choice(["seccomp=default", "seccomp=unconfined"]), default="seccomp=default",
                 show_default=True, help="Whether Docker's seccomp rules are in force."),
    click.option("--memory", type=size, metavar="SIZE", help="The most memory that the target may have."),
    click.option("--pids-limit", type=click.IntRange(min=-1), metavar="N", help="The most processes and threads."),
)  # fmt: skip

IMAGE = _together(
    click.option("--platform", metavar="OS/ARCH", help="Which image of an index for several; default: this machine's."),
    click.option("--max-image-size", type=size, default=str(DEFAULT_LIMIT), metavar="SIZE",
                 help="The most that an image may unpack to, as 500M or 2G; default: 64G."),
)  # fmt: skip

RULES = _together(
    click.option("--include", multiple=True, metavar="GLOB", help="Keep these paths too, with their libraries."),
    click.option("--exclude", multiple=True, metavar="GLOB", help="Drop these paths, whatever used them."),
    click.option("--keep", type=click.Choice(["used", "opened"]), default="used", show_default=True,
                 help="What counts as use: every call that names the path, or opening it only."),
    click.option("--keep-package", "packages", multiple=True, metavar="NAME",
                 help="Keep all files of this dpkg, apk or rpm package."),
    click.option("--with", "presets", multiple=True, type=click.Choice(sorted(PRESETS)), help="Keep what this takes."),
    click.option("--widen", multiple=True, type=click.Choice(["package", "directory", "dlopen"]),
                 help="Keep whole packages, or directories, of what was used, but for documentation; or what ELF files say "
                      "that they load while they run."),
)  # fmt: skip

CHECKS = _together(
    click.option("--verify-probe", "held_out", multiple=True, metavar="CMD",
                 help="As --probe, but only to verify: the image is not observed with it."),
    click.option("--compare-output", is_flag=True, help="What probes, commands and jobs write must be the same, too."),
    click.option("--ignore", multiple=True, metavar="REGEX", help="What may differ then."),
)  # fmt: skip

REPAIR = _together(
    click.option("--repair-rounds", type=click.IntRange(min=0), default=DEFAULT_ROUNDS, show_default=True, metavar="N",
                 help="How often what is missing may be added."),
    click.option("--no-repair", is_flag=True, help="Fail when anything is missing."),
    click.option("--no-verify", is_flag=True, help="Publish what nobody has run."),
)  # fmt: skip

PLACE = _together(
    click.option("--tag", metavar="NAME", help="Name of the result; default: IMAGE-stripped."),
    click.option("-o", "--output", metavar="REF", help="Where the result goes, e.g. docker-archive:FILE or oci:DIR."),
    click.option("--force", is_flag=True, help="Replace an output file that exists; add to an OCI layout."),
    click.option("--report", type=click.Path(path_type=Path), metavar="FILE",
                 help="Write a JSON report: every path and why it stayed."),
)  # fmt: skip

DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")

FORM = _together(
    click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True,
                 help="Of stdout."),
    DEBUG,
)  # fmt: skip


def subject(image: str, options: Options) -> Subject:
    """Of IMAGE."""
    return Subject(image, options["platform"], options["max_image_size"])


def scenario(options: Options) -> Scenario:
    """Of EXERCISE and SURROUNDINGS. Raises UsageError."""
    plan = Plan(
        probes=options["probes"],
        commands=options["inside"],
        ready=options["ready"],
        wait=options["wait"],
        timeout=options["probe_timeout"],
        grace=options["stop_timeout"],
    )
    return Scenario(options["command"], plan, _surroundings(options))


def wanted(options: Options) -> Wanted:
    """Of PLACE, RULES, CHECKS and REPAIR. Raises UsageError."""
    rules = Rules(
        include=options["include"],
        exclude=options["exclude"],
        opened_only=options["keep"] == "opened",
        packages=options["packages"],
        presets=options["presets"],
        widen=frozenset(options["widen"]),
    )
    place = Place(options["tag"], options["output"], options["force"])
    if options["no_verify"]:
        if options["held_out"] or options["compare_output"]:
            raise UsageError("--no-verify: nothing is run: leave it out, or --verify-probe and --compare-output")
        return Wanted(place, rules, None, options["report"])
    return Wanted(place, rules, checks(options, 0 if options["no_repair"] else options["repair_rounds"]), options["report"])


def checks(options: Options, rounds: int = 0) -> Checks:
    """Of CHECKS. Raises UsageError."""
    if options["ignore"] and not options["compare_output"]:
        raise UsageError("--ignore: outputs are not compared: add --compare-output")
    return Checks(options["held_out"], options["compare_output"], options["ignore"], rounds)


def _surroundings(options: Options) -> Surroundings:
    pids: int | None = options["pids_limit"]
    return Surroundings(
        environment=options["environment"],
        user=options["user"],
        workdir=options["workdir"],
        hostname=options["hostname"],
        network=options["network"],
        binds=tuple(map(parse_mount, options["mounts"])),
        tmpfs=tuple(map(parse_tmpfs, options["tmpfs"])),
        shm_size=options["shm_size"] or DEFAULT_SHM_SIZE,
        capabilities=_capabilities(options["cap_add"], options["cap_drop"]),
        confined=options["security_opt"] != "seccomp=unconfined",
        memory=options["memory"] or None,
        pids=pids if pids and pids > 0 else None,
    )


def _capabilities(add: tuple[str, ...], drop: tuple[str, ...]) -> int:
    try:
        return capabilities.chosen(add, drop)
    except ValueError as unknown:
        raise UsageError(f"{unknown} is no capability: write a name of capabilities(7), as NET_ADMIN, or ALL") from unknown
