"""What can be wrong, each with the exit code that wheelyard's own errors have."""

from __future__ import annotations


class InstallError(Exception):
    """Something that the user can act on: says what, where, and what to do next."""

    exit_code = 1


class UsageError(InstallError):
    """The command line asks for something that does not exist."""

    exit_code = 2


class MisfitError(InstallError):
    """The bundle is not for this machine or this Python."""

    exit_code = 6


class DamageError(InstallError):
    """The bundle is not what was made: bytes are wrong, missing, or not vouched for."""

    exit_code = 8


class SmokeError(InstallError):
    """What was installed does not work here."""

    exit_code = 13


class BreakageError(InstallError):
    """Something that is in the environment already would stop working."""

    exit_code = 20


class FullDiskError(InstallError):
    """The disk is full, or not ours to write."""

    exit_code = 15
