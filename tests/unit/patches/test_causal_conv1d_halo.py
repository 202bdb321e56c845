"""The transformation that loads the elements before a chunk whatever the chunk's length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PATCH = Path(__file__).parents[3] / "patches" / "causal-conv1d" / "0002-load-the-whole-halo.py"
LOAD = "x_vals_load[i] = x[-kNElts + i];"
KERNEL = f"""\
for (int i = 0; i < kNElts; ++i) {{
    if (chunk * kChunkSize + i < params.seqlen) {{ {LOAD} }}
}}
if (chunk * kChunkSize + i < params.seqlen) {{ other[i] = 0; }}
"""


def _patch(tree: Path, kernel: str) -> subprocess.CompletedProcess[str]:
    (tree / "csrc").mkdir()
    (tree / "csrc" / "causal_conv1d_bwd.cu").write_text(kernel, encoding="utf-8")
    command = [sys.executable, str(PATCH), str(tree)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def _result(tree: Path) -> str:
    return (tree / "csrc" / "causal_conv1d_bwd.cu").read_text(encoding="utf-8")


def test_only_the_load_of_the_halo_loses_its_condition(tmp_path: Path) -> None:
    assert _patch(tmp_path, KERNEL).returncode == 0
    assert _result(tmp_path) == KERNEL.replace(
        f"if (chunk * kChunkSize + i < params.seqlen) {{ {LOAD} }}", f"if (true) {{ {LOAD} }}"
    )


def test_white_space_does_not_matter(tmp_path: Path) -> None:
    kernel = f"if( chunk*kChunkSize+i<params.seqlen )\n{{\n  {LOAD}\n}}\n"
    assert _patch(tmp_path, kernel).returncode == 0
    assert _result(tmp_path).startswith("if (true)\n{")


@pytest.mark.parametrize(
    ("kernel", "times"),
    [pytest.param("int x;\n", 0, id="mended-upstream"), pytest.param(KERNEL * 2, 2, id="twice")],
)
def test_anything_but_one_such_condition_stops_the_job(
    tmp_path: Path, kernel: str, times: int
) -> None:
    done = _patch(tmp_path, kernel)
    assert done.returncode != 0
    assert f"found {times}." in done.stderr
    assert _result(tmp_path) == kernel
