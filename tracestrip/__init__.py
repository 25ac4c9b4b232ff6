"""tracestrip strips a container image down to what its service really uses."""

__version__ = "0.1.0"
