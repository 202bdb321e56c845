"""The diagnosis in Chinese says what the English one says."""

from __future__ import annotations

import inspect
import re
import unicodedata

import pytest

from wheelyard.doctor import chinese, environment, extensions, report
from wheelyard.doctor.line import Line
from wheelyard.doctor.report import to_text

ENGLISH = re.compile(r"(?:\b[a-z]{2,}\b[ ,]*){3,}")
"""Three words of English in a row."""
FINDINGS = [
    "Debian GNU/Linux 12 (bookworm), x86_64, kernel 6.1.0",
    "Debian, riscv64, kernel 6.1.0; torch has CUDA wheels for x86_64 and aarch64 only",
    "musl; torch has wheels for glibc only",
    "glibc 2.17; torch since 2.7 needs 2.28",
    "2 usable",
    "3.1 GB available; some kernels take 4 GB for each compiler",
    "5.0 GB free for /cache; a torch build with its toolkit takes about 10 GB",
    "gcc 12.2.0 at /usr/bin/g++, fits CUDA 12.1 to 13.2; torch 2.15.0 needs gcc 13 or later",
    "gcc 99.0.0 at /usr/bin/g++, too new for every CUDA release of torch",
    "3.12.1 at /usr/bin/python3.12 (and 1 more)",
    (
        "/usr/bin/python3: is Python 3.11.2 with no Python.h in '/usr/include'; "
        "install python3.11-dev (Debian, Ubuntu) or python3.11-devel (Fedora, RHEL)"
    ),
    "no CPython with headers",
    "CUDA_HOME names '/opt/cuda', where nvcc or its headers are missing",
    "none; wheels are built and imported here, and run on a GPU elsewhere",
    "the driver is loaded, but no GPU can be used",
    "580.65.06, runs wheels of CUDA up to 13.2",
    "450.1, too old for every CUDA release of torch",
    "Python 3.12.1 at /env/bin/python, 36 distributions",
    (
        "2.11.0+cu130: Driver 550.54 is too old for CUDA 13.0: it needs 580 or later. "
        "It still runs torch 2.10.0+cu128."
    ),
    "The torch 2.11.0+cpu in /env was built without CUDA. Install a CUDA build.",
    (
        "runtime wheels of CUDA 12 and 13 are mixed: nvidia-cublas-cu12; torch 2.11.0+cu130 needs "
        "those of CUDA 13"
    ),
    "apex 0.9.10.dev0 is another project of that name, not NVIDIA's",
    "2.8.3+cu130.torch2.11.0 is for torch 2.11.0+cu130, and 2.10.0+cu128 is installed",
    (
        "2.8.3+cu12torch2.6cxx11abifalse is for torch 2.6 with CUDA 12, C++11 ABI FALSE, "
        "and 2.11.0+cu130 is installed"
    ),
    "grouped-gemm and nv-grouped-gemm both brought grouped_gemm_backend.so, one over the other",
    "2.11.0+cu130, CUDA 13.0, runtime wheels 13.0.96",
    "580.65.06, made for CUDA 13.0, runs wheels of CUDA up to 13.2",
    (
        "12.4.1 at /usr/local/cuda comes first, torch 2.11.0+cu130 was built with CUDA 13.0: "
        "what pip compiles here fails or does not load; wheelyard build brings the right one"
    ),
    "needs einops, and has nothing",
    "needs setuptools<80,>=77, and has 82.0.0",
    "7 more requirements are not met",
    "none configured; GitHub and the index are asked directly",
    "99.0, torch 2.11.0 needs <82",
    "none here; builds take it from torch's lock",
    "not found",
]


@pytest.mark.parametrize("finding", FINDINGS)
def test_no_english_sentence_is_left(finding: str) -> None:
    told = chinese.translate(Line(status="ok", subject="torch", finding=finding)).finding
    assert re.search(r"[\u4e00-\u9fff]", told), told
    assert not ENGLISH.search(told), told


def test_every_phrase_that_the_diagnosis_has_is_known() -> None:
    source = "".join(map(inspect.getsource, (report, environment, extensions)))
    texts = re.findall(r"finding \+?= \(?f?\"([^\"]+)\"", source)
    assert len(texts) > 15
    for text in texts:
        plain = re.sub(r"\{[^{}]*\}", "7", text)
        told = chinese.translate(Line(status="ok", subject="x", finding=plain)).finding
        assert not ENGLISH.search(told), (text, told)


def test_facts_and_commands_stay_as_they_are() -> None:
    line = Line(status="warn", subject="disk", finding="5.0 GB free for /cache", remedy="df -h")
    told = chinese.translate(line)
    assert (told.subject, told.finding, told.remedy) == ("磁盘", "/cache 剩余 5.0 GB", "df -h")


def test_columns_are_aligned_whatever_the_language() -> None:
    lines = (
        Line(status="ok", subject="disk", finding="5.0 GB free for /cache"),
        Line(status="missing", subject="Python 3.12", finding="no CPython with headers"),
    )
    page = to_text(lines, in_chinese=True)
    first, second, *_ = page.splitlines()
    assert first == "正常  磁盘         /cache 剩余 5.0 GB"
    assert second == "缺少  Python 3.12  没有带头文件的 CPython"
    assert page.endswith("缺少 1 项，需要留意 0 项。\n")


def test_no_line_is_wider_than_the_page() -> None:
    finding = "grouped-gemm and nv-grouped-gemm both brought grouped_gemm.so, one over the other"
    lines = (Line(status="warn", subject="nv-grouped-gemm", finding=f"{finding}; {finding}"),)
    page = to_text(lines, in_chinese=True).splitlines()
    assert len(page) > 4
    for row in page:
        wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in row)
        assert len(row) + wide <= 80, row


@pytest.mark.parametrize(("locale", "answer"), [("zh_CN.UTF-8", True), ("C.UTF-8", False)])
def test_locale_decides_the_language(locale: str, answer: bool) -> None:  # noqa: FBT001
    assert chinese.is_chinese(locale) is answer
