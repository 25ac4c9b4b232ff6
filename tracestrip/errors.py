"""What can go wrong, and the exit code of each.

    TracestripError
    ├── UsageError          2   wrong usage
    ├── ImageError          3   the image is bad, or not there
    ├── TargetError         4   the target could not start, crashed, or could not be traced
    │   └── ObserverLost    4   what observes it ended
    ├── ExerciseError       5   a probe failed on the original image, or readiness never came
    ├── VerificationError   6   the stripped image failed verification: nothing was published
    ├── EnvironmentLack     7   the environment lacks something
    └── Interrupted   130, 143  a signal ended the run

A message is one line that names the object and what to do about it. What the target or a probe wrote goes into `output`.
"""

import signal


class TracestripError(Exception):
    """Base of all errors that a user sees."""

    exit_code = 1

    def __init__(self, message: str, output: bytes = b"") -> None:
        super().__init__(message)
        self.output = output

    @property
    def parts(self) -> tuple[str, str]:
        """What is wrong, and what to do about it."""
        what, _, remedy = str(self).rpartition(": ")
        return what, remedy


class UsageError(TracestripError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ImageError(TracestripError):
    """The image is damaged, unsupported, or not there."""

    exit_code = 3


class TargetError(TracestripError):
    """The target could not start, crashed, or could not be traced."""

    exit_code = 4


class ObserverLost(TargetError):  # noqa: N818 - nobody's fault is known
    """The observer, or pid 1 of the sandbox, ended unexpectedly."""


class ExerciseError(TracestripError):
    """A probe failed on the original image, or the target never became ready."""

    exit_code = 5


class VerificationError(TracestripError):
    """The stripped image does not do what the original did."""

    exit_code = 6


class EnvironmentLack(TracestripError):  # noqa: N818 - the word says it
    """This machine lacks something: root, overlayfs, an engine that answers, disk space."""

    exit_code = 7


class Interrupted(TracestripError):  # noqa: N818 - not a fault
    """SIGINT or SIGTERM came; everything is cleaned up on the way out."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}: nothing was published")
        self.exit_code = 128 + signal_number
