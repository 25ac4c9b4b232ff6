"""The `tracestrip` command, and `python -m tracestrip`."""

import signal


def main() -> None:
    """Run the command line. A signal that comes while it is loaded ends the process without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tracestrip import cli  # noqa: PLC0415 - this is the loading

    cli.main()


if __name__ == "__main__":
    main()
