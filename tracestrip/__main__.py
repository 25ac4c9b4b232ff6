"""`python -m tracestrip`."""

from tracestrip.cli import main

main()
