"""The errors of the engine, each with the exit code that the command line gives for it.

A message is one line: what is wrong, where (file, tag, key), and how to mend it.
"""


class DRMCError(Exception):
    """Something failed that was not the input's fault."""

    exit_code = 1


class InputError(DRMCError):
    """The input or the usage is refused; nothing was written."""

    exit_code = 2


class NotFiniteError(InputError):
    """An image holds voxels that are NaN or infinite."""


class CancelledError(DRMCError):
    """The user cancelled; nothing half-written is left."""

    exit_code = 130

    def __init__(self, message: str = "cancelled"):
        super().__init__(message)
