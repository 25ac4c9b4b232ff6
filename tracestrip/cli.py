"""The command line: parse, call the pipeline, print."""

import json
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from tracestrip import __version__, pipeline
from tracestrip.errors import EnvironmentLack, Interrupted, TracestripError, UsageError
from tracestrip.exercise.plan import Plan
from tracestrip.image.room import DEFAULT_LIMIT
from tracestrip.mount_options import parse_mount, parse_tmpfs
from tracestrip.observer import capabilities
from tracestrip.observer.job import DEFAULT_SHM_SIZE
from tracestrip.report.terminal import Progress, print_table
from tracestrip.signals import INTERRUPTS, ignore
from tracestrip.sizes import size
from tracestrip.surroundings import Surroundings

_OUTPUT_SHOWN = 4096



def _capabilities(add: tuple[str, ...], drop: tuple[str, ...]) -> int:
    try:
        return capabilities.chosen(add, drop)
    except ValueError as unknown:
        raise UsageError(f"{unknown} is no capability: write a name of capabilities(7), as NET_ADMIN, or ALL") from unknown


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tracestrip")
def commands() -> None:
    """Strip a container image down to what its service really uses."""


@commands.command()
@click.argument("image")
@click.option("-e", "--execute", "command", metavar="COMMAND", help="The command; default: the image's ENTRYPOINT and CMD.")
@click.option("--probe", "probes", multiple=True, metavar="CMD",
              help="Shell command of the host that must succeed; @FILE: a script.")
@click.option("--exec", "inside", multiple=True, metavar="CMD", help="Command to run inside the image, observed.")
@click.option("--ready", metavar="CMD", help="The target is ready when this command of the host succeeds.")
@click.option("--wait", type=click.FloatRange(min=0), metavar="SECONDS", help="The target is ready after this time.")
@click.option("--probe-timeout", type=click.FloatRange(min=0, min_open=True), default=30.0, show_default=True,
              metavar="SECONDS", help="Time for readiness, and for each --probe and --exec.")
@click.option("--stop-timeout", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="SECONDS",
              help="Time between the image's stop signal and SIGKILL.")
@click.option("--tag", metavar="NAME", help="Name of the result; default: IMAGE-stripped.")
@click.option("-o", "--output", metavar="REF", help="Where the result goes, e.g. docker-archive:FILE or oci:DIR.")
@click.option("--force", is_flag=True, help="Replace an output file that exists; add to an OCI layout.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE",
              help="Write a JSON report: every path and why it stayed.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of stdout.")
@click.option("--include", multiple=True, metavar="GLOB", help="Keep these paths too, with their libraries.")
@click.option("--exclude", multiple=True, metavar="GLOB", help="Drop these paths, whatever used them.")
@click.option("--keep", type=click.Choice(["used", "opened"]), default="used", show_default=True,
              help="What counts as use: every call that names the path, or opening it only.")
@click.option("--env", "environment", multiple=True, metavar="NAME=VALUE", help="Set a variable for the run.")
@click.option("--user", metavar="USER[:GROUP]", help="Run as this user; default: the image's.")
@click.option("--workdir", metavar="DIR", help="Run in this directory; default: the image's.")
@click.option("--hostname", metavar="NAME", help="Host name in the sandbox.")
@click.option("--network", type=click.Choice(["sandbox", "none", "host"]), default="sandbox", show_default=True,
              help="A private one that the probes share, one that nothing shares, or this machine's.")
@click.option("--mount", "mounts", multiple=True, metavar="type=bind,src=PATH,dst=PATH[,ro]",
              help="Show a file or directory of the host inside.")
@click.option("--tmpfs", "tmpfs", multiple=True, metavar="PATH[:OPTIONS]", help="An empty file system in memory.")
@click.option("--shm-size", type=size, default="64M", show_default=True, metavar="SIZE", help="Of /dev/shm.")
@click.option("--cap-add", multiple=True, metavar="NAME", help="Give the target a capability more; ALL: all.")
@click.option("--cap-drop", multiple=True, metavar="NAME", help="Give the target a capability less; ALL: none.")
@click.option("--security-opt", type=click.Choice(["seccomp=default", "seccomp=unconfined"]), default="seccomp=default",
              show_default=True, help="Whether Docker's seccomp rules are in force.")
@click.option("--memory", type=size, metavar="SIZE", help="The most memory that the target may have.")
@click.option("--pids-limit", type=click.IntRange(min=-1), metavar="N", help="The most processes and threads.")
@click.option("--platform", metavar="OS/ARCH", help="Which image of an index for several; default: this machine's.")
@click.option("--max-image-size", type=size, default=str(DEFAULT_LIMIT), metavar="SIZE",
              help="The most that IMAGE may unpack to, as 500M or 2G; default: 64G.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def run(
    image: str, command: str | None, probes: tuple[str, ...], inside: tuple[str, ...], ready: str | None,
    wait: float | None, probe_timeout: float, stop_timeout: float, tag: str | None, output: str | None, force: bool,
    report: Path | None, form: str, include: tuple[str, ...], exclude: tuple[str, ...], keep: str,
    environment: tuple[str, ...], user: str | None, workdir: str | None, hostname: str | None, network: str,
    mounts: tuple[str, ...], tmpfs: tuple[str, ...], shm_size: int, cap_add: tuple[str, ...], cap_drop: tuple[str, ...],
    security_opt: str, memory: int | None, pids_limit: int | None, platform: str | None, max_image_size: int,
) -> None:  # fmt: skip
    """Run IMAGE's command, watch which files it uses while the probes exercise it, and write an image of exactly those.

    IMAGE is a name in the local engine, docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME], or dir:PATH.
    """
    for pair in environment:
        if not pair.partition("=")[0] or "=" not in pair:
            raise click.UsageError(f"--env {pair}: write NAME=VALUE")
    surroundings = Surroundings(
        environment=environment,
        user=user,
        workdir=workdir,
        hostname=hostname,
        network=network,
        binds=tuple(map(parse_mount, mounts)),
        tmpfs=tuple(map(parse_tmpfs, tmpfs)),
        shm_size=shm_size or DEFAULT_SHM_SIZE,
        capabilities=_capabilities(cap_add, cap_drop),
        confined=security_opt != "seccomp=unconfined",
        memory=memory or None,
        pids=pids_limit if pids_limit and pids_limit > 0 else None,
    )
    request = pipeline.Request(
        image=image,
        command=command,
        plan=Plan(probes, inside, ready, wait, probe_timeout, stop_timeout),
        tag=tag,
        output=output,
        force=force,
        report=report,
        surroundings=surroundings,
        include=include,
        exclude=exclude,
        opened_only=keep == "opened",
        platform=platform,
        max_image_size=max_image_size,
    )
    with Progress() as progress:

        def step(text: str) -> None:
            if text == pipeline.CLEARING:
                ignore()
            progress.step(text)

        finished = pipeline.run(request, step)
    if form == "json":
        click.echo(json.dumps(finished.summary(), indent=1))
    else:
        print_table(finished)


def main() -> NoReturn:
    """The `tracestrip` command. Ends the process with the exit code of the contract."""
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    try:
        commands.main(standalone_mode=False)
    except click.exceptions.Exit as request:
        sys.exit(request.exit_code)
    except (click.ClickException, click.Abort) as error:
        _fail(error.format_message() if isinstance(error, click.ClickException) else "aborted", 2)
    except TracestripError as error:
        ignore()
        _show_output(error.output)
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{error}: check that place, its free space (TMPDIR) and its permissions", EnvironmentLack.exit_code)
    except Exception as error:
        _fail(f"internal error: {type(error).__name__}: {error}: run again with --debug and report it", 1)
    sys.exit(0)


def _interrupt(number: int, _: FrameType | None) -> None:
    """The first signal unwinds everything; those that follow would only interrupt the cleaning up."""
    ignore()
    raise Interrupted(number)


def _show_output(output: bytes) -> None:
    for line in output[-_OUTPUT_SHOWN:].decode("utf-8", "replace").splitlines():
        click.echo(f"  | {line}", err=True)


def _fail(message: str, code: int) -> NoReturn:
    if "--debug" in sys.argv:
        traceback.print_exc()
    click.echo("tracestrip: " + " ".join(message.split()), err=True)
    sys.exit(code)
