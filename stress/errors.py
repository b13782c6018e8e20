"""What can go wrong, one class per remedy. `cli` turns each into one line on stderr and an exit status."""

from __future__ import annotations


class StressError(Exception):
    """Base of every error that the tool reports in one line; `exit_status` is what the process ends with."""

    exit_status = 3


class UsageError(StressError):
    """The user asked for something that does not exist or cannot be; the text says what to give instead."""

    exit_status = 2


class CaseError(UsageError):
    """A case or regime file is wrong. The text is `FILE: KEY: what is wrong; remedy`."""


class HostError(StressError):
    """This machine, as far as we are allowed to use it, cannot do what was asked."""

    exit_status = 2


class NativeError(StressError):
    """The native core refused a plan or failed; carries the errno."""

    def __init__(self, message: str, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class StoreError(StressError):
    """A run folder cannot be read, written or continued."""


class FolderError(StoreError):
    """What was given is no run folder, or cannot become one."""

    exit_status = 2


class UnsupportedError(StressError):
    """This machine lacks what a cell needs: the cell is skipped, with this text as the reason."""
