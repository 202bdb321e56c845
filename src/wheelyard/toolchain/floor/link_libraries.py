"""Writes libraries to link with that offer of this machine's what older systems have too.

Where a library of the system has a function in several versions, a linker takes the newest. These
offer the newest that the floor has; what is newer than the floor in every version they offer as it
is, so that the finished file says that it needs it. Nothing is ever run with them.

Run by a plain interpreter, on this machine or in a container, so it is standard library only and
imports nothing of wheelyard. Its one argument is a JSON file: ``out`` (an empty folder), ``gxx``,
``static`` (sources of what is linked in), ``glibc`` (major and minor of the floor), ``versions``
(by set, what the floor has).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Version = tuple[str, bool, str, int]
    """A version, whether it is the default one, the kind of symbol, its size."""

LIBRARIES = ("libc.so.6", "libm.so.6", "libstdc++.so.6")
ARCHIVE = "wheelyard-floor"
SYMBOL = re.compile(
    r"^ *\d+: [0-9a-f]+ +(?P<size>\d+|0x[0-9a-f]+) (?P<kind>FUNC|IFUNC|OBJECT|TLS) +"
    r"(?P<bind>GLOBAL|WEAK|UNIQUE) +DEFAULT +(?P<section>\w+) (?P<name>[^@\s]+)(?P<at>@@?)"
    r"(?P<version>[^\s]+)"
)
NUMBERED = re.compile(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")


def tool(*command: str) -> str:
    """Run a program of the compiler's family and return what it printed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def has_version(version: str, spec: dict[str, Any]) -> bool:
    """Say whether every system at the floor has this symbol version; an unknown set is let be."""
    number = NUMBERED.fullmatch(version)
    if number is not None and [int(number[1]), int(number[2])] <= spec["glibc"]:
        return True
    name, _, rest = version.partition("_")
    return name not in spec["versions"] or rest in spec["versions"][name]


def read_symbols(library: str) -> dict[str, list[Version]]:
    """Return what a library exports, by name: version, whether it is the default, the rest."""
    symbols: dict[str, list[Version]] = {}
    for line in tool("readelf", "--dyn-syms", "--wide", library).splitlines():
        match = SYMBOL.match(line)
        if match is not None and match["section"] != "UND":
            one = (match["version"], match["at"] == "@@", match["kind"], int(match["size"], 0))
            symbols.setdefault(match["name"], []).append(one)
    return symbols


def order(version: str) -> list[int]:
    """Sort versions of one set as their numbers tell."""
    return [int(part) for part in re.findall(r"\d+", version)]


def choose_default(found: list[Version], spec: dict[str, Any]) -> str | None:
    """Return the version that a linker is to take for one name, or nothing."""
    default = next((version for version, is_default, _, _ in found if is_default), None)
    if default is None or has_version(default, spec):
        return default
    old = [version for version, *_ in found if has_version(version, spec)]
    return max(old, key=order) if old else default


def assembly(
    symbols: dict[str, list[Version]], spec: dict[str, Any], left_out: set[str]
) -> Iterator[str]:
    """Yield the lines of a library that has the symbols and nothing behind them."""
    number = 0
    for name, found in sorted(symbols.items()):
        default = choose_default(found, spec)
        if name in left_out and not has_version(default or "", spec):
            continue
        for version, _, kind, size in found:
            number += 1
            own = f"wheelyard_{number}"
            yield from body(own, kind, max(size, 1))
            yield f".symver {own}, {name}{'@@' if version == default else '@'}{version}"
    yield '.section .note.GNU-stack,"",%progbits'


def body(own: str, kind: str, size: int) -> Iterator[str]:
    """Yield a definition of that kind."""
    section = {"OBJECT": ".bss", "TLS": '.section .tbss,"awT",%nobits'}.get(kind, ".text")
    word = {"OBJECT": "object", "TLS": "tls_object"}.get(kind, "function")
    room = 1 if section == ".text" else size
    yield f"{section}\n.globl {own}\n.type {own}, %{word}"
    yield f"{own}:\n.skip {room}\n.size {own}, {size}"


def write_library(name: str, spec: dict[str, Any], left_out: set[str]) -> None:
    """Write one library, and the file under which the linker looks for it."""
    out, gxx = Path(spec["out"]), spec["gxx"]
    symbols = read_symbols(tool(gxx, f"-print-file-name={name}").strip())
    source, versions = out / f"{name}.s", out / f"{name}.map"
    source.write_text("\n".join(assembly(symbols, spec, left_out)) + "\n", encoding="utf-8")
    nodes = sorted({version for found in symbols.values() for version, *_ in found})
    lines = [f"{node} {{ {'local: wheelyard_*; ' * (not at)}}};" for at, node in enumerate(nodes)]
    versions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = ["-shared", "-nostdlib", "-x", "assembler", str(source), f"-Wl,-soname,{name}"]
    tool(gxx, *options, f"-Wl,--version-script,{versions}", "-o", str(out / name))
    source.unlink()
    versions.unlink()
    write_script(name, out, gxx)


def write_script(name: str, out: Path, gxx: str) -> None:
    """Name the library where the system's own linker script does, or in a new one."""
    plain = name[: name.index(".so") + 3]
    own = Path(tool(gxx, f"-print-file-name={plain}").strip())
    # a compiler without that name of the library prints the bare name
    text = own.read_bytes() if own.is_absolute() else b""
    if not text or text.startswith(b"\x7fELF"):
        script = f"INPUT ( -l:{name} )\n"
    else:
        script = re.sub(rf"\S*/{re.escape(name)}(?=\s)", f"-l:{name}", text.decode())
    if plain == "libstdc++.so":
        script += f"INPUT ( -l{ARCHIVE} )\n"
    (out / plain).write_text(script, encoding="utf-8")


def write_archive(spec: dict[str, Any]) -> set[str]:
    """Compile what is linked in where libstdc++ has it in too new a version; return its names."""
    out = Path(spec["out"])
    objects: list[str] = []
    for source in sorted(Path(spec["static"]).glob("*.cc")):
        objects.append(str(out / f"{source.stem}.o"))
        options = ["-std=c++14", "-O2", "-fPIC", "-fvisibility=hidden", "-c", str(source)]
        tool(spec["gxx"], *options, "-o", objects[-1])
    archive = out / f"lib{ARCHIVE}.a"
    tool("ar", "rcsD", str(archive), *objects)
    for path in objects:
        Path(path).unlink()
    listed = tool("nm", "--defined-only", "--extern-only", "--format=posix", str(archive))
    return {line.split()[0] for line in listed.splitlines() if " T " in line}


def main() -> None:
    """Write archive, libraries and scripts into the folder."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    left_out = write_archive(spec)
    for name in LIBRARIES:
        write_library(name, spec, left_out)


if __name__ == "__main__":
    main()
