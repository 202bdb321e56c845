"""Let torch choose the GPU targets of every extension.

Why: some extensions pass ``-gencode`` flags of their own, which makes torch ignore
TORCH_CUDA_ARCH_LIST for them: group_norm_v2 in 2026 (9.0, 10.0 and PTX for 12.0), and four more,
fused_weight_gradient_mlp of the core among them, in 25.09. They would hold code that nobody asked
for and lack what was. Without those flags torch takes the farm's targets, as for the others.

What: in front of ``setup()`` these flags are taken out of all extensions, however they got there.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where it lies in the farm

from editing import parse, patch_file, replace, setup_call

NEW_LINES = """\
def without_targets(flags):
    kept = [flag for flag in flags if not flag.startswith(("-gencode", "arch=compute_"))]
    strange = [flag for flag in kept if "compute_" in flag or flag.startswith("-arch")]
    if strange:
        raise RuntimeError(f"GPU targets in another form: {strange}")
    return kept


for extension in ext_modules:
    options = extension.extra_compile_args
    if isinstance(options, dict) and "nvcc" in options:
        options["nvcc"] = without_targets(options["nvcc"])

"""


def transform(source: bytes) -> bytes:
    """Return a setup.py with the new lines in front of setup()."""
    return replace(source, [(setup_call(parse(source)).func, NEW_LINES + "setup")])


if __name__ == "__main__":
    patch_file("setup.py", transform)
