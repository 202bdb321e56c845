"""Every error that wheelyard raises on purpose, each with its documented exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class WheelyardError(Exception):
    """Something that the user can act on; the message says what, where and what to do next."""

    exit_code = 1


class UsageError(WheelyardError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class InputFileError(WheelyardError):
    """A recipe, the matrix, a lock or a configuration file cannot be used as it is."""

    exit_code = 3


class UnknownNameError(WheelyardError):
    """No recipe, version or job has this name."""

    exit_code = 4


class ImpossibleCellError(WheelyardError):
    """This combination of Python, torch, CUDA and machine cannot exist; the message says why."""

    exit_code = 5


class MachineError(WheelyardError):
    """This machine lacks something that the job needs: an interpreter, a compiler, a toolkit."""

    exit_code = 6


class FetchError(WheelyardError):
    """A source could not be brought here."""

    exit_code = 7


class IntegrityError(WheelyardError):
    """What arrived is not what was pinned."""

    exit_code = 8


class PatchError(WheelyardError):
    """A patch does not apply exactly."""

    exit_code = 9


class BuildError(WheelyardError):
    """The build child failed."""

    exit_code = 10


class OutOfMemoryError(BuildError):
    """A compiler was killed for the memory that it took."""


class RepairError(WheelyardError):
    """The wheel cannot be brought into the shape an index needs."""

    exit_code = 11


class CheckError(WheelyardError):
    """The static check found that the wheel must not be shipped."""

    exit_code = 12


class SmokeTestError(WheelyardError):
    """The wheel was installed into a clean environment and did not work there."""

    exit_code = 13


class YardError(WheelyardError):
    """The yard refuses a change, or cannot be read."""

    exit_code = 14


class DiskError(WheelyardError):
    """The disk is full, read-only or not ours to write."""

    exit_code = 15


class LockError(InputFileError):
    """A lock that the job needs is missing or stale."""

    exit_code = 16


class FillError(WheelyardError):
    """Some jobs of a fill failed; the others were built."""

    exit_code = 17


class DeadlineError(WheelyardError):
    """The deadline of a fill came before everything was built."""

    exit_code = 18


class TargetError(WheelyardError):
    """Where something is published refuses it, cannot be reached, or has other bytes already."""

    exit_code = 19


class BreakageError(WheelyardError):
    """What is installed in an environment already would stop working."""

    exit_code = 20


class ProcessError(WheelyardError):
    """A child process failed; carries its status, the end of its output and its whole log."""

    def __init__(self, message: str, *, returncode: int, tail: str, log_path: Path | None) -> None:
        super().__init__(message)
        self.message = message
        self.returncode = returncode
        self.tail = tail
        self.log_path = log_path

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_process_error, (self.message, self.returncode, self.tail, self.log_path))


def _rebuild_process_error(
    message: str, returncode: int, tail: str, log_path: Path | None
) -> ProcessError:
    return ProcessError(message, returncode=returncode, tail=tail, log_path=log_path)


INTERRUPTED_EXIT_CODE = 130
