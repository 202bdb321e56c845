"""Which modules get bytecode: those that an import loads."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import wheelyard.toolchain.precompile

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = wheelyard.toolchain.precompile.__file__


def _compiled(site: Path, files: dict[str, str], *modules: str) -> set[str]:
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "-I", "-S", SCRIPT, site, *modules], check=True)
    found = (path.relative_to(site) for path in site.rglob("*.pyc"))
    return {str(path.parent.parent / path.name.partition(".")[0]) for path in found}


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        pytest.param("import pkg.a", {"pkg/a"}, id="import"),
        pytest.param("from pkg import a", {"pkg/a"}, id="module-from-a-package"),
        pytest.param("from . import a", {"pkg/a"}, id="relative"),
        pytest.param("from .sub.b import thing", {"pkg/sub/__init__", "pkg/sub/b"}, id="parents"),
        pytest.param("try:\n    import other\nexcept ImportError:\n    pass", {"other"}, id="try"),
        pytest.param("if True:\n    import other", {"other"}, id="condition"),
        pytest.param("class C:\n    import other", {"other"}, id="class"),
        pytest.param("def f():\n    import other", set(), id="not-when-called"),
        pytest.param(
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import other",
            set(),
            id="not-for-types",
        ),
        pytest.param("import broken, other", {"other"}, id="goes-on-after-one-for-another-python"),
        pytest.param("from ..... import nothing\nimport sys, missing", set(), id="nothing-there"),
    ],
)
def test_modules_that_an_import_loads_are_compiled(
    tmp_path: Path, imports: str, expected: set[str]
) -> None:
    files = {
        "pkg/__init__.py": imports,
        "pkg/a.py": "",
        "pkg/sub/__init__.py": "",
        "pkg/sub/b.py": "",
        "other.py": "",
        "broken.py": "print 1",
    }
    assert _compiled(tmp_path, files, "pkg") == {"pkg/__init__"} | expected


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    assert _compiled(tmp_path, {"a.py": "import b", "b.py": "import a"}, "a") == {"a", "b"}
