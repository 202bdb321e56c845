"""Compile group_norm_v2 with any headers, and for GPUs from before 9.0.

Why: its kernels take std::tuple and std::min from headers that others happened to include. With
CUDA 13.0 and gcc 12 nobody includes <tuple>, and the first of its 14 files stops with "incomplete
type std::tuple". And they name cooperative_groups::this_cluster(), which is not there for GPUs
before 9.0, even in code that these never run: group_norm.py uses version 2 on a 10.0 only.

What: the headers are included; and before 9.0 there is a this_cluster() that stops the kernel.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = "apex/contrib/csrc/group_norm_v2"
GUARD = "#pragma once\n"
COOPERATIVE = "#include <cooperative_groups.h>\n"
HEADERS = "#include <algorithm>\n#include <tuple>\n"
NO_CLUSTER = """\

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
namespace cooperative_groups {
struct no_cluster {
  __device__ void sync() const { __trap(); }
  __device__ void barrier_arrive() const { __trap(); }
  __device__ void barrier_wait() const { __trap(); }
  template <typename T>
  __device__ T* map_shared_rank(T* shared, unsigned) const { __trap(); return shared; }
};
__device__ inline no_cluster this_cluster() { return {}; }
}  // namespace cooperative_groups
#endif
"""

CHANGES = (
    # file, what it uses, what it has not yet, line, what to put behind that line
    ("gn_cuda_host_template.cuh", "std::tuple", "#include <tuple>", GUARD, HEADERS),
    ("gn_cuda_kernel.cuh", "this_cluster()", "< 900", COOPERATIVE, NO_CLUSTER),
)


def main(arguments: list[str]) -> int | str:
    """Return what the process exits with."""
    changed = []
    for name, used, mended, line, lines in CHANGES:
        path = Path(arguments[0], FOLDER, name)
        text = path.read_text(encoding="utf-8")
        if used not in text or mended in text or text.count(line) != 1:
            return (
                f"{path}: looked for {used!r} and one {line.strip()!r} without {mended!r}. See "
                "whether upstream mended it, and narrow `versions`."
            )
        changed.append((path, text.replace(line, line + lines)))
    for path, text in changed:
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
