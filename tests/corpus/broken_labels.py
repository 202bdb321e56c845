"""Wheels whose names, tags, RECORD and requirements do not agree with one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from breaking import broken

from wheelyard.wheels.findings import FindingKind

if TYPE_CHECKING:
    from workpiece import Workpiece

_C: Final = "torchvision/_C.so"
_DISCO: Final = "disco_helpers.cpython-312-x86_64-linux-gnu.so"
_PYTHON_FILE: Final = "torch_harmonics/__init__.py"
_GIB: Final = 1 << 30


@broken(
    "torchvision 0.26",
    FindingKind.NAME,
    r"filename says torchvision 0\.26\.1, METADATA says torchvision 0\.26\.0",
)
def version_in_the_filename_alone(piece: Workpiece) -> None:
    piece.filename = piece.filename.replace("0.26.0", "0.26.1")


@broken(
    "torch-harmonics",
    FindingKind.NAME,
    r"filename says \S+ 0\.9\.1\+cu130\.torch2\.11, METADATA says \S+ 0\.9\.1$",
)
def local_version_in_the_filename_alone(piece: Workpiece) -> None:
    piece.filename = piece.filename.replace("0.9.1", "0.9.1+cu130.torch2.11")


@broken(
    "tensordict",
    FindingKind.NAME,
    r"filename says tensordict 0\.14\.3, METADATA says tensordict-nightly",
)
def name_in_metadata_alone(piece: Workpiece) -> None:
    piece.edit_metadata("Name: tensordict\n", "Name: tensordict-nightly\n")


@broken(
    "torchaudio",
    FindingKind.NAME,
    r"filename says torchaudio 2\.11\.0, METADATA says torchaudio 2\.11\.0\+cu130",
)
def local_version_in_metadata_alone(piece: Workpiece) -> None:
    piece.edit_metadata("\nVersion: 2.11.0", "\nVersion: 2.11.0+cu130")


@broken(
    "torch-harmonics",
    FindingKind.NAME,
    r"the folder is 'torch_harmonics_cuda_latest-0\.9\.2\.dist-info'",
)
def version_in_the_folder_alone(piece: Workpiece) -> None:
    for member in [name for name in piece.members if name.startswith(piece.dist_info)]:
        piece.rename(member, member.replace("0.9.1.dist-info", "0.9.2.dist-info"))


@broken("tensordict", FindingKind.NAME, r"more than one dist-info folder")
def second_folder_of_metadata(piece: Workpiece) -> None:
    piece.members["tensordict_nightly-1.0.dist-info/METADATA"] = b""


@broken(
    "torch-harmonics",
    FindingKind.NAME,
    r"It is torch-harmonics-cuda-latest 0\.9\.2, not torch-harmonics-cuda-latest 0\.9\.1",
    ours=True,
)
def version_that_nobody_asked_for(piece: Workpiece) -> None:
    for member in [name for name in piece.members if name.startswith(piece.dist_info)]:
        piece.rename(member, member.replace("0.9.1.dist-info", "0.9.2.dist-info"))
    piece.filename = piece.filename.replace("0.9.1", "0.9.2")
    piece.edit_metadata("\nVersion: 0.9.1", "\nVersion: 0.9.2")


@broken("torchaudio", FindingKind.METADATA, r"no METADATA")
def metadata_left_out(piece: Workpiece) -> None:
    del piece.members[piece.path("METADATA")]


@broken("torchvision 0.26", FindingKind.METADATA, r"METADATA cannot be read")
def requirement_that_cannot_be_read(piece: Workpiece) -> None:
    piece.edit_metadata("torch (==2.11.0)", "torch (=2.11.0)")


@broken(
    "torch-harmonics",
    FindingKind.TAG,
    r"filename says cp312-cp312-\S+ cp312-cp312-\S+ WHEEL says cp311-cp311-",
    ours=True,
)
def tag_in_wheel_alone(piece: Workpiece) -> None:
    text = piece.members[piece.path("WHEEL")].decode()
    piece.write_text("WHEEL", text.replace("cp312-cp312", "cp311-cp311"))


@broken(
    "tensordict",
    FindingKind.TAG,
    r"filename says cp312-cp312-manylinux_2_28_x86_64, WHEEL says cp312-cp312-linux_x86_64",
    refused=False,
)
def platform_in_the_filename_alone(piece: Workpiece) -> None:
    text = piece.members[piece.path("WHEEL")].decode()
    piece.write_text("WHEEL", text.replace("manylinux_2_28_x86_64", "linux_x86_64"))


@broken(
    "torchvision 0.26",
    FindingKind.TAG,
    r"filename says cp313-cp313-\S+, WHEEL says cp312-cp312-",
    refused=False,
)
def python_in_the_filename_alone(piece: Workpiece) -> None:
    piece.retag("cp313-cp313-manylinux_2_28_x86_64", everywhere=False)


@broken("torchaudio", FindingKind.TAG, r"no WHEEL")
def wheel_file_left_out(piece: Workpiece) -> None:
    del piece.members[piece.path("WHEEL")]


@broken("tensordict", FindingKind.BUILD_TAG, r"filename says build 3, WHEEL says 2", refused=False)
def build_tag_in_the_filename_alone(piece: Workpiece) -> None:
    piece.filename = piece.filename.replace("0.14.3-", "0.14.3-3-")
    text = piece.members[piece.path("WHEEL")].decode()
    piece.write_text("WHEEL", text.replace("\nRoot-Is-Purelib", "\nBuild: 2\nRoot-Is-Purelib"))


@broken(
    "torchaudio", FindingKind.TAG, r"Its tag is for any machine, but .*is compiled", refused=False
)
def tag_for_any_machine(piece: Workpiece) -> None:
    piece.retag("cp312-none-any")


@broken(
    "torchvision 0.26",
    FindingKind.PLATFORM_TAG,
    r"needs glibc 2\.\d+, the platform tag promises that 2\.17 is enough.*not on RHEL 7",
    refused=False,
)
def platform_tag_that_was_lowered(piece: Workpiece) -> None:
    piece.retag("cp312-cp312-manylinux_2_17_x86_64")


@broken(
    "torch-harmonics",
    FindingKind.PLATFORM_TAG,
    r"needs glibc 2\.15, the platform tag promises that 2\.5 is enough",
    refused=False,
)
def platform_tag_of_the_first_policy(piece: Workpiece) -> None:
    piece.retag("cp312-cp312-manylinux1_x86_64")


@broken(
    "torch-harmonics",
    FindingKind.PLATFORM_TAG,
    r"needs GLIBCXX_3\.4\.21 .*manylinux_2_17_x86_64 does not promise",
    ours=True,
)
def platform_tag_that_was_lowered_in_a_wheel_of_ours(piece: Workpiece) -> None:
    piece.retag("cp312-cp312-manylinux2014_x86_64.manylinux_2_28_x86_64")


@broken(
    "tensordict",
    FindingKind.PLATFORM_TAG,
    r"linux_x86_64 promises nothing.*manylinux_2_24_x86_64 would be true",
    refused=False,
)
def platform_tag_that_promises_nothing(piece: Workpiece) -> None:
    piece.retag("cp312-cp312-linux_x86_64")


@broken("tensordict", FindingKind.PLATFORM_TAG, r"musl")
def platform_tag_of_another_c_library(piece: Workpiece) -> None:
    piece.retag("cp312-cp312-musllinux_1_2_x86_64")


@broken("torchvision 0.26", FindingKind.RECORD, r"'torchvision/_C\.so' has another digest: sha256=")
def module_that_was_changed_later(piece: Workpiece) -> None:
    piece.seal()
    content = bytearray(piece.members[_C])
    content[len(content) // 2] ^= 1
    piece.members[_C] = bytes(content)


@broken("torch-harmonics", FindingKind.RECORD, r"'torch_harmonics/__init__\.py' has another digest")
def python_file_that_was_changed_later(piece: Workpiece) -> None:
    piece.seal()
    piece.members[_PYTHON_FILE] += b"import evil\n"


@broken("torchaudio", FindingKind.RECORD, r"'torchaudio/late\.py' is not listed")
def file_that_was_added_later(piece: Workpiece) -> None:
    piece.seal()
    piece.members["torchaudio/late.py"] = b""


@broken("tensordict", FindingKind.RECORD, r"'tensordict/base\.py' is listed, but not there")
def file_that_was_taken_out_later(piece: Workpiece) -> None:
    piece.seal()
    del piece.members["tensordict/base.py"]


def _edit_record(piece: Workpiece, path: str, line: str) -> None:
    """Replace a line of RECORD; ``{}`` stands for what was there."""
    piece.seal()
    record = piece.path("RECORD")
    lines = piece.members[record].decode().splitlines()
    (index,) = (number for number, one in enumerate(lines) if one.startswith(f"{path},"))
    lines[index] = line.format(lines[index])
    piece.members[record] = ("\n".join(lines) + "\n").encode()


@broken("torch-harmonics", FindingKind.RECORD, r"'torch_harmonics/__init__\.py' is listed twice")
def line_that_is_there_twice(piece: Workpiece) -> None:
    _edit_record(piece, _PYTHON_FILE, "{0}\n{0}")


@broken("tensordict", FindingKind.RECORD, r"'tensordict/_C\.so' has no digest that counts \(none\)")
def line_without_a_digest(piece: Workpiece) -> None:
    _edit_record(piece, "tensordict/_C.so", "tensordict/_C.so,,")


@broken(
    "torch-harmonics",
    FindingKind.RECORD,
    r"'torch_harmonics/__init__\.py' has no digest that counts \(md5=",
)
def line_with_a_weak_digest(piece: Workpiece) -> None:
    _edit_record(piece, _PYTHON_FILE, f"{_PYTHON_FILE},md5=1B2M2Y8AsgTpgAmY7PhCfg,0")


@broken("torchaudio", FindingKind.RECORD, r"'torchaudio/__init__\.py' is \d+ bytes long, not \d+7")
def line_with_another_size(piece: Workpiece) -> None:
    _edit_record(piece, "torchaudio/__init__.py", "{}7")


@broken("tensordict", FindingKind.RECORD, r"no RECORD")
def record_left_out(piece: Workpiece) -> None:
    piece.seal()
    del piece.members[piece.path("RECORD")]


@broken(
    "torchvision 0.26",
    FindingKind.REQUIREMENT,
    r"METADATA does not require torch: no installer brings it",
    refused=False,
)
def torch_that_is_not_required(piece: Workpiece) -> None:
    piece.edit_metadata("Requires-Dist: torch (==2.11.0)\n", "")


@broken("torch-harmonics", FindingKind.REQUIREMENT, r"does not require 'torch>=2\.6\.0'", ours=True)
def torch_that_is_not_required_in_a_wheel_of_ours(piece: Workpiece) -> None:
    piece.edit_metadata("Requires-Dist: torch >=2.6.0\n", "")


@broken(
    "torchvision 0.26",
    FindingKind.REQUIREMENT,
    r"links libcudart\.so\.13, of CUDA 13, .* requires 'torch==2\.4\.0', which is for CUDA 1\d",
)
def torch_of_another_cuda(piece: Workpiece) -> None:
    piece.edit_metadata("torch (==2.11.0)", "torch (==2.4.0)")


@broken(
    "torchvision 0.21",
    FindingKind.REQUIREMENT,
    r"of CUDA 12, and METADATA requires 'torch==2\.6\.0\+cu118', which is for CUDA 11",
)
def torch_build_of_another_cuda(piece: Workpiece) -> None:
    piece.edit_metadata("torch (==2.6.0)", "torch (==2.6.0+cu118)")


@broken(
    "torchvision 0.21",
    FindingKind.REQUIREMENT,
    r"requires 'torch==2\.12\.0', which an installer takes for CUDA 13",
    refused=False,
)
def torch_whose_usual_build_is_of_another_cuda(piece: Workpiece) -> None:
    piece.edit_metadata("torch (==2.6.0)", "torch (==2.12.0)")


@broken(
    "torchaudio",
    FindingKind.REQUIREMENT,
    r"of CUDA 13, and METADATA requires nvidia-cuda-runtime-cu12, of CUDA 12",
)
def cuda_package_of_another_cuda(piece: Workpiece) -> None:
    piece.require("nvidia-cuda-runtime-cu12")


@broken(
    "flash-mla",
    FindingKind.REQUIREMENT,
    r"of CUDA 13, and METADATA requires cuda-toolkit, of CUDA 12",
)
def toolkit_of_another_cuda(piece: Workpiece) -> None:
    piece.require("cuda-toolkit==12.9.*")


@broken(
    "tensordict",
    FindingKind.REQUIRES_PYTHON,
    r"tag says cp312-cp312, and METADATA lets Python >=3\.13 alone install it",
)
def python_that_the_requirements_refuse(piece: Workpiece) -> None:
    piece.edit_metadata("Requires-Python: >=3.10", "Requires-Python: >=3.13")
