"""The diagnosis in simplified Chinese: the same facts, phrase by phrase; commands stay."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelyard.doctor.line import Line

SUBJECTS: Final = {
    "C library": "C 库",
    "C++ compiler": "C++ 编译器",
    "CUDA runtime": "CUDA 运行库",
    "CUDA toolkit": "CUDA 工具包",
    "GPU": "GPU",
    "certificate": "证书",
    "cores": "CPU 核",
    "disk": "磁盘",
    "driver": "驱动",
    "environment": "环境",
    "extra index urls": "附加索引",
    "find links": "本地 wheel",
    "github-proxies": "GitHub 代理",
    "http proxy": "HTTP 代理",
    "https proxy": "HTTPS 代理",
    "index url": "索引",
    "memory": "内存",
    "no index": "不用索引",
    "offline": "离线",
    "proxies": "代理和镜像",
    "proxy": "代理",
    "python-indexes": "索引镜像",
    "pytorch-indexes": "PyTorch 镜像",
    "sandbox": "沙箱",
    "system": "系统",
    "trusted hosts": "信任的主机",
}
STATUSES: Final = {"ok": "正常", "warn": "注意", "missing": "缺少"}

_PHRASES: Final = (
    (r"(.+), (\w+), kernel (\S+)", r"\1，\2，内核 \3"),
    (r"; torch has CUDA wheels for (\S+) and (\S+) only", r"；torch 只有 \1 和 \2 的 CUDA wheel"),
    (r"musl; torch has wheels for glibc only", "musl；torch 只有 glibc 的 wheel"),
    (r"for musl; torch has wheels for glibc only", "用的是 musl；torch 只有 glibc 的 wheel"),
    (r"; torch since 2\.7 needs 2\.28", "；torch 2.7 起需要 2.28"),
    (r"(\d+) usable", r"可用 \1 个"),
    (r"(\S+ \w+) available", r"可用 \1"),
    (r"; some kernels take 4 GB for each compiler", "；有些内核每个编译进程要 4 GB"),
    (r"(\S+ \w+) free for ([^\s;]+)", r"\2 剩余 \1"),
    (
        r"; a torch build with its toolkit takes about 10 GB",
        "；一个 torch 构建连同工具包约占 10 GB",
    ),
    (r", too new for every CUDA release of torch", "，对 torch 的所有 CUDA 版本都太新"),
    (r", too old for every CUDA release of torch", "，对 torch 的所有 CUDA 版本都太旧"),
    (r", fits CUDA (\S+) to (\S+)", r"，适用于 CUDA \1 到 \2"),
    (r"; torch (\S+) needs gcc (\S+) or later", r"；torch \1 需要 gcc \2 或更新"),
    (r" \(and (\d+) more\)", r"（另有 \1 个）"),
    (r"no CPython with headers", "没有带头文件的 CPython"),
    (r"is Python (\S+) with no Python\.h in (\S+?);", r"是 Python \1，但 \2 里没有 Python.h；"),
    (
        r"install (\S+) \(Debian, Ubuntu\) or (\S+) \(Fedora, RHEL\)",
        r"请安装 \1（Debian、Ubuntu）或 \2（Fedora、RHEL）",
    ),
    (
        r"(\w+) names (\S+), where nvcc or its headers are missing",
        r"\1 指向 \2，那里没有 nvcc 或其头文件",
    ),
    (
        (r"none installed; CUDA 13 is assembled from the Python index when it is needed, CUDA 12 "
        r"from NVIDIA's archives where the farm has their lock \(wheelyard update redist\)"),
        ("没有安装；CUDA 13 在需要时由 Python 索引的 wheel 组装，CUDA 12 在有锁文件时由 NVIDIA "
        "的归档组装（wheelyard update redist）"),
    ),
    (
        r"none; wheels are built and imported here, and run on a GPU elsewhere",
        "没有；wheel 在这里构建和导入，在别处的 GPU 上运行",
    ),
    (r"the driver is loaded, but no GPU can be used", "驱动已加载，但没有可用的 GPU"),
    (r", runs wheels of CUDA up to (\S+)", r"，能运行 CUDA \1 及以下的 wheel"),
    (r"^none: ", "没有："),
    (r"does not run: ?", "无法运行："),
    (r"^not found$", "没有找到"),
    (r"^There is no C\+\+ compiler", "没有 C++ 编译器"),
    (r"^present at ", "在 "),
    (r"Python (\S+) at (\S+), (\d+) distributions", r"Python \1，\2，\3 个发行包"),
    (r"The torch (\S+) in (\S+) was built without CUDA\. Install a CUDA build\.",
     r"\2 里的 torch \1 不带 CUDA，请安装 CUDA 构建。"),
    (r"Driver (\S+) is too old for CUDA (\S+): it needs (\S+) or later\.",
     r"驱动 \1 对 CUDA \2 太旧：需要 \3 或更新。"),
    (r" It still runs torch (\S+)\.", r"它还能运行 torch \1。"),
    (r"CUDA (\d+) and (\d+) are mixed", r"CUDA \1 和 \2 are mixed"),
    (r"runtime wheels of CUDA (\d+(?: 和 \d+)*) are mixed: ", r"混装了 CUDA \1 的运行库："),
    (r"; torch (\S+) needs those of CUDA (\d+)", r"；torch \1 需要 CUDA \2 的"),
    (r"apex (\S+) is another project of that name, not NVIDIA's",
     r"apex \1 是同名的另一个项目，不是 NVIDIA 的"),
    (r"^(\S+), torch (\S+) needs (\S+)$", r"\1，torch \2 需要 \3"),
    (r"(\S+) comes first, torch (\S+) was built with CUDA (\S+): ",
     r"\1 排在最前，而 torch \2 是用 CUDA \3 构建的："),
    (r"what pip compiles here fails or does not load", "pip 在这里编译的扩展会失败或无法加载"),
    (r"; wheelyard build brings the right one", "；wheelyard build 会自带正确的工具包"),
    (r", CUDA (\S+), runtime wheels (.+)$", r"，CUDA \1，运行库 wheel \2"),
    (r", made for CUDA (\S+?),", r"，为 CUDA \1 而发布,"),
    (r"(\S+) and (\S+)(?= both brought)", r"\1 和 \2"),
    (r" both brought (\S+), one over the other", r" 都带来了 \1，后装的覆盖了先装的"),
    (r"(\S+) with CUDA (\d+), C\+\+11 ABI (\w+)(?=,)", r"\1（CUDA \2，C++11 ABI \3）"),
    (r"^(\S+) is for torch (.+), and (\S+) is installed", r"\1 是给 torch \2 的，而装的是 \3"),
    (r"^needs (.+), and has nothing$", r"需要 \1，没有安装"),
    (r"^needs (.+), and has (\S+)$", r"需要 \1，装的是 \2"),
    (r"(\d+) more requirements are not met", r"另有 \1 个依赖没有满足"),
    (r"none configured; GitHub and the index are asked directly",
     "没有配置；直接访问 GitHub 和索引"),
    (r"none here; builds take it from torch's lock", "这里没有；构建时由 torch 的锁文件提供"),
    (r" at (?=/)", "，"),
)  # fmt: skip
_COMPILED = tuple((re.compile(english), chinese) for english, chinese in _PHRASES)


def is_chinese(locale: str) -> bool:
    """Whether a locale, for example ``zh_CN.UTF-8``, asks for Chinese."""
    return locale.lower().startswith("zh")


def translate(line: Line) -> Line:
    """Return the line with subject and finding in Chinese."""
    finding = line.finding
    for english, chinese in _COMPILED:
        finding = english.sub(chinese, finding)
    return dataclasses.replace(
        line, subject=SUBJECTS.get(line.subject, line.subject), finding=finding
    )


def summary(*, missing: int, doubtful: int) -> str:
    """Say how it stands."""
    if not missing and not doubtful:
        return "什么都不缺。"
    return f"缺少 {missing} 项，需要留意 {doubtful} 项。"


def translate_all(lines: Iterable[Line]) -> tuple[Line, ...]:
    return tuple(translate(line) for line in lines)
