"""The four CUDA versions that have to go together, and the rule by which they do.

Within a major version any driver of the first release of that major will do (NVIDIA's minor
version compatibility), except for PTX, which only a driver as new as its compiler takes.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from wheelyard.model.possibility import reason_driver_too_old
from wheelyard.model.releases import cuda_release, torch_releases

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wheelyard.finding.answer import Fit
    from wheelyard.model.cell import CudaVersion, TorchBuild


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CudaVersions:
    """What a combination brings, and what it asks of the machine."""

    torch: CudaVersion
    toolkit: CudaVersion
    """That compiled the wheels of ours, or will."""
    runtime: str
    """Version of the runtime wheels that are installed; empty where torch brings its own."""
    driver: str
    """Of this machine; empty where that does not count."""
    minimum_driver: str

    @property
    def rule(self) -> str:
        major = self.torch.major
        return (
            f"a driver of {self.minimum_driver} or later runs everything of CUDA {major}.x; only "
            f"PTX wants a driver as new as the toolkit"
        )


def cuda_versions(fit: Fit, *, driver: str | None) -> CudaVersions:
    """Return the four versions of a combination."""
    cuda = fit.cell.torch.cuda
    names = (f"nvidia-cuda-runtime-cu{cuda.major}", "nvidia-cuda-runtime")
    runtime = next((found for name in names if (found := fit.resolved.version(name))), None)
    return CudaVersions(
        torch=cuda,
        toolkit=cuda,
        runtime="" if runtime is None else str(runtime),
        driver=driver or "",
        minimum_driver=cuda_release(cuda).minimum_driver,
    )


def runnable_cudas(driver: str) -> tuple[CudaVersion, ...]:
    """Return the CUDA releases of torch that a driver runs, ascending."""
    cudas = {build.cuda for release in torch_releases() for build in release.builds}
    fitting = [cuda for cuda in cudas if reason_driver_too_old(cuda, driver=driver) is None]
    return tuple(sorted(fitting))


def still_run_by(driver: str, torches: Iterable[TorchBuild]) -> tuple[TorchBuild, ...]:
    """Return which of these torch builds a driver runs."""
    runnable = runnable_cudas(driver)
    return tuple(torch for torch in torches if torch.cuda in runnable)
