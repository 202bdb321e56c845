"""What the markers of requirements ask about, on a machine and a Python that need not be here."""

from __future__ import annotations

from packaging.markers import default_environment


def marker_environment(*, python: str, machine: str) -> dict[str, str]:
    """Return the values for a CPython on Linux; ``python`` is a full version, as ``3.12.1``.

    The release of the kernel is that of this machine: nothing asks for it.
    """
    return {
        **{name: str(value) for name, value in default_environment().items()},
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": python,
        "python_version": ".".join(python.split(".")[:2]),
        "sys_platform": "linux",
    }
