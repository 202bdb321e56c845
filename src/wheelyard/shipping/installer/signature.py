"""Signatures of bundles, made and verified by OpenSSH: `ssh-keygen -Y`."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from wheelyard.shipping.installer.layout import NAMESPACE
from wheelyard.shipping.installer.problems import DamageError, MisfitError, UsageError

VARIABLE = "WHEELYARD_ALLOWED_SIGNERS"


def find_allowed_signers(given: Path | None) -> Path | None:
    """Return the file of keys that this machine trusts, if one is configured."""
    if given is not None or os.environ.get(VARIABLE):
        path = given or Path(os.environ[VARIABLE])
        if not path.is_file():
            msg = f"There is no file of allowed signers {path}. Correct the path."
            raise UsageError(msg)
        return path
    home = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    for folder in (home / "wheelyard", Path("/etc/wheelyard")):
        if (folder / "allowed_signers").is_file():
            return folder / "allowed_signers"
    return None


def signature_path(bundle: Path) -> Path:
    """Return where the signature of a bundle lies: beside it, or in its folder."""
    if bundle.is_dir():
        return bundle / "SHA256SUMS.sig"
    stem = bundle.name[:-4] if bundle.name[-4:].strip("0123456789") == "." else bundle.name
    return bundle.with_name(f"{stem}.sig")


def verify_signature(bundle: Path, sums: bytes, allowed: Path) -> str:
    """Return who signed the list of digests, or raise."""
    signature = signature_path(bundle)
    if not signature.is_file():
        msg = (
            f"{allowed} says whose bundles are taken here, and this one has no signature "
            f"({signature}). Get the signature, or ask who made the bundle."
        )
        raise DamageError(msg)
    program = shutil.which("ssh-keygen")
    if program is None:
        msg = "Signatures need ssh-keygen of OpenSSH 8.1 or later. Install it (openssh-client)."
        raise MisfitError(msg)
    with tempfile.TemporaryFile() as stream:
        stream.write(sums)
        stream.seek(0)
        find = [program, "-Y", "find-principals", "-s", str(signature), "-f", str(allowed)]
        found = subprocess.run(find, capture_output=True, check=False)
        signers = found.stdout.decode("utf-8", "replace").split("\n")[0].strip()
        if found.returncode != 0 or not signers:
            raise _refused(signature, allowed, found.stderr)
        verify = [program, "-Y", "verify", "-f", str(allowed), "-I", signers.split(",")[0]]
        verify += ["-n", NAMESPACE, "-s", str(signature)]
        done = subprocess.run(verify, stdin=stream, capture_output=True, check=False)
    if done.returncode != 0:
        raise _refused(signature, allowed, done.stdout + done.stderr)
    return signers


def _refused(signature: Path, allowed: Path, said: bytes) -> DamageError:
    reason = " ".join(said.decode("utf-8", "replace").split())[:300] or "no key of it is known"
    msg = (
        f"The signature {signature} does not hold by {allowed}: {reason}. Do not use this bundle; "
        "ask who made it."
    )
    return DamageError(msg)
