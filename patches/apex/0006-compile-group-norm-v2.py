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

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import PatchError, patch_files

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
    (f"{FOLDER}/gn_cuda_host_template.cuh", "std::tuple", "#include <tuple>", GUARD, HEADERS),
    (f"{FOLDER}/gn_cuda_kernel.cuh", "this_cluster()", "< 900", COOPERATIVE, NO_CLUSTER),
)


def transform(contents: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files with what they lack."""
    changed = {}
    for name, used, mended, line, lines in CHANGES:
        text = contents[name].decode()
        if used not in text or mended in text or text.count(line) != 1:
            msg = (
                f"{name}: looked for {used!r} and one {line.strip()!r} without {mended!r}. See "
                "whether upstream mended it, and narrow `versions`."
            )
            raise PatchError(msg)
        changed[name] = text.replace(line, line + lines).encode()
    return changed


if __name__ == "__main__":
    patch_files([name for name, *_ in CHANGES], transform)
