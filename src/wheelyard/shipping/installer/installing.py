"""Install verified wheels into the copy of an environment, without network, by uv or pip."""

from __future__ import annotations

import subprocess
import zipfile
from typing import TYPE_CHECKING

from wheelyard.shipping.installer.archive import disk_problem
from wheelyard.shipping.installer.machine import clean_environment
from wheelyard.shipping.installer.problems import FullDiskError, InstallError, MisfitError

if TYPE_CHECKING:
    from pathlib import Path

    from wheelyard.shipping.installer.manifest import Package
    from wheelyard.shipping.installer.place import Place

_TAIL = 25


class Tool:
    """uv out of the bundle, or the pip of a Python."""

    def __init__(self, place: Place, *, uv: Path | None, python: Path) -> None:
        self._place = place
        self._uv = uv
        self._python = python
        """Whose pip it is."""

    @property
    def name(self) -> str:
        return "uv" if self._uv is not None else "pip"

    def make_environment(self, python: Path) -> None:
        """Make a new virtual environment of ``python`` in the place of the copy."""
        command = [str(python), "-I", "-m", "venv", "--without-pip", str(self._place.copy)]
        self._run(command, f"{python} cannot make a virtual environment")

    def install(self, packages: list[Package], wheels: Path) -> None:
        """Install exactly these files, by their digests."""
        listing = self._place.scratch / "requirements.txt"
        lines = [
            f"{item['name']}=={item['version']} --hash=sha256:{item['sha256']}\n"
            for item in packages
        ]
        listing.write_text("".join(lines), encoding="utf-8")
        common = ["--no-index", "--no-deps", "--require-hashes", "--find-links", str(wheels)]
        common += ["--requirement", str(listing)]
        if self._uv is not None:
            command = [str(self._uv), "pip", "install", "--quiet", "--offline", "--python"]
            command += [str(self._place.copy / "bin" / "python"), *common]
            for item in packages:
                command += ["--reinstall-package", item["name"]]
        else:
            command = [str(self._python), "-m", "pip", "--python"]
            command += [str(self._place.copy / "bin" / "python"), "install", "--quiet"]
            command += ["--disable-pip-version-check", "--no-input", "--no-compile", *common]
        self._run(command, f"{self.name} did not install the wheels")

    def problems(self) -> set[str]:
        """Return what does not go together in the copy, a line each."""
        python = str(self._place.copy / "bin" / "python")
        if self._uv is not None:
            command = [str(self._uv), "pip", "check", "--offline", "--python", python]
        else:
            command = [str(self._python), "-m", "pip", "--python", python, "check"]
        done = self._child(command)
        if done.returncode == 0:
            return set()
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        # uv tells what it does, too, and how long that took
        return {
            line.strip()
            for line in lines
            if " requires " in line or " has requirement " in line or " is not supported" in line
        }

    def _env(self) -> dict[str, str]:
        scratch = self._place.scratch
        return {
            **clean_environment(),
            "TMPDIR": str(scratch),
            "UV_CACHE_DIR": str(scratch / "cache"),
            "UV_LINK_MODE": "hardlink",
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_NO_CACHE_DIR": "1",
        }

    def _child(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._env(),
            pass_fds=(self._place.lock,),
            check=False,
        )

    def _run(self, command: list[str], what: str) -> None:
        try:
            done = self._child(command)
        except OSError as error:
            msg = f"{command[0]} does not run here: {error}. Try --with pip."
            raise MisfitError(msg) from error
        if done.returncode == 0:
            return
        said = done.stdout.decode("utf-8", "replace").rstrip()
        if "No space left" in said or "os error 28" in said:
            raise disk_problem(OSError(28, "No space left on device"), self._place.path)
        tail = "\n".join(said.splitlines()[-_TAIL:])
        msg = f"{what}; the environment is as it was. It said:\n{tail}"
        raise InstallError(msg)


def unpack_uv(wheel: Path, folder: Path) -> Path:
    """Take the program out of uv's own wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".data/scripts/uv")]
        path = folder / "uv"
        path.write_bytes(archive.read(member))
    path.chmod(0o755)
    return path


__all__ = ["FullDiskError", "Tool", "unpack_uv"]
