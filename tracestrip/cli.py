"""The command line: parse, call the pipeline, print."""

import json
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from tracestrip import __version__, options, pipeline
from tracestrip.errors import EnvironmentLack, Interrupted, TracestripError
from tracestrip.report.document import read_report
from tracestrip.report.explain import explanation
from tracestrip.report.terminal import Progress, print_recording, print_table, print_verdict
from tracestrip.signals import INTERRUPTS, ignore

_OUTPUT_SHOWN = 4096

_Result = TypeVar("_Result")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tracestrip")
def commands() -> None:
    """Strip a container image down to what its service really uses.

    IMAGE is a name in the local engine, docker-archive:FILE[:NAME], oci:DIR[:NAME], oci-archive:FILE[:NAME], or dir:PATH.
    """


@commands.command()
@click.argument("image")
@options.EXERCISE
@options.STABLE
@options.PLACE
@options.RULES
@options.CHECKS
@options.REPAIR
@options.SURROUNDINGS
@options.IMAGE
@options.FORM
def run(image: str, form: str, **given: Any) -> None:
    """Run IMAGE's command, watch which files it uses while the probes exercise it, and write an image of exactly those.

    The result is run with the same probes before it is published; what it lacks then is added.
    """
    subject, scenario, wanted = options.subject(image, given), options.scenario(given), options.wanted(given)
    stable = given["until_stable"] or 0
    report = _with_progress(lambda step: pipeline.run(subject, scenario, wanted, step, stable))
    _print(form, report.summary, lambda: print_table(report))


@commands.command()
@click.argument("image")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where it is written.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@options.EXERCISE
@options.STABLE
@options.SURROUNDINGS
@options.IMAGE
@options.DEBUG
def observe(image: str, output: Path, force: bool, **given: Any) -> None:
    """Run IMAGE's command and write down which files it uses, for `strip`."""
    subject, scenario, stable = options.subject(image, given), options.scenario(given), given["until_stable"] or 0
    recording = _with_progress(
        lambda step: pipeline.observe(subject, scenario, output, step, force=force, until_stable=stable)
    )  # fmt: skip
    print_recording(recording, output)


@commands.command()
@click.argument("image")
@click.option("--observation", "observations", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="What `observe` wrote of this image; all of them count together.")
@click.option("-e", "--execute", "command", metavar="COMMAND", help="The result's command; default: as it was observed.")
@options.PLACE
@options.RULES
@options.CHECKS
@options.REPAIR
@options.IMAGE
@options.FORM
def strip(image: str, observations: tuple[Path, ...], command: str | None, form: str, **given: Any) -> None:
    """Write an image of what all observations of IMAGE used together, proven by the same exercises."""
    subject, wanted = options.subject(image, given), options.wanted(given)
    report = _with_progress(lambda step: pipeline.strip(subject, observations, command, wanted, step))
    _print(form, report.summary, lambda: print_table(report))


@commands.command()
@click.argument("original")
@click.argument("stripped")
@options.EXERCISE
@options.CHECKS
@options.SURROUNDINGS
@options.IMAGE
@options.FORM
def verify(original: str, stripped: str, form: str, **given: Any) -> None:
    """Run two images through one exercise, and tell whether STRIPPED does what ORIGINAL does.

    The command is STRIPPED's own, unless -e names one.
    """
    before, after = options.subject(original, given), options.subject(stripped, given)
    scenario, checks = options.scenario(given), options.checks(given)
    verdict = _with_progress(lambda step: pipeline.verify(before, after, scenario, checks, step))
    _print(form, verdict.summary, lambda: print_verdict(verdict))


@commands.command()
@click.argument("report", type=click.Path(path_type=Path))
@click.argument("path")
@options.DEBUG
def explain(report: Path, path: str) -> None:
    """Say why PATH stayed in a result or went, by the REPORT that was written with it, and what would keep it."""
    click.echo(explanation(read_report(report), path))


def _with_progress(work: Callable[[pipeline.Step], _Result]) -> _Result:
    with Progress() as progress:

        def step(text: str) -> None:
            if text == pipeline.CLEARING:
                ignore()
            progress.step(text)

        return work(step)


def _print(form: str, summary: Callable[[], Any], table: Callable[[], None]) -> None:
    if form == "json":
        click.echo(json.dumps(summary(), indent=1))
    else:
        table()


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
