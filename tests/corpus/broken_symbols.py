"""Wheels that ask torch, Python or the system for symbols that those do not have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from breaking import broken

from wheelyard.wheels.findings import FindingKind

if TYPE_CHECKING:
    from workpiece import Workpiece

_NEW: Final = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_C: Final = "torchvision/_C.so"
_IMAGE: Final = "torchvision/image.so"
_DISCO: Final = "disco_helpers.cpython-312-x86_64-linux-gnu.so"
_ATTENTION: Final = "attention_helpers.cpython-312-x86_64-linux-gnu.so"
_AO: Final = "torchao/_C.abi3.so"
_MLA: Final = "flash_mla/cuda.abi3.so"
_DICT: Final = "tensordict/_C.so"


_MINOR: Final = "compiled for another minor version of torch"


@broken("torchvision 0.26", FindingKind.MISSING_SYMBOL, rf"{_MINOR}.*at::globalKontext")
def function_of_another_torch(piece: Workpiece) -> None:
    with piece.elf(_C) as elf:
        elf.rename_text("_ZN2at13globalContextEv", "_ZN2at13globalKontextEv")


@broken("torchvision 0.21", FindingKind.MISSING_SYMBOL, rf"{_MINOR}.*c10_cuda_check_implementation")
def signature_of_a_later_torch(piece: Workpiece) -> None:
    with piece.elf(_C) as elf:
        name = "_ZN3c104cuda29c10_cuda_check_implementationEiPKcS2_{}b"
        elf.rename_text(name.format("i"), name.format("j"))


@broken("torchvision 0.26", FindingKind.MISSING_SYMBOL, rf"{_MINOR}.*SetDevice\(signed char\)")
def signature_of_an_earlier_torch(piece: Workpiece) -> None:
    earlier = {"_ZN3c104cuda9SetDeviceEab": "_ZN3c104cuda9SetDeviceEa"}
    piece.rename_symbols(_C, **earlier)


@broken("torch-harmonics", FindingKind.MISSING_SYMBOL, rf"{_MINOR}.*c10::Error::whyy\(\) const")
def method_of_another_torch(piece: Workpiece) -> None:
    with piece.elf(_DISCO) as elf:
        elf.rename_text("_ZNK3c105Error4whatEv", "_ZNK3c105Error4whyyEv")


@broken("torchaudio", FindingKind.MISSING_SYMBOL, rf"{_MINOR}.*aoti_torch_library_dif")
def function_of_another_stable_abi(piece: Workpiece) -> None:
    with piece.elf("torchaudio/lib/_torchaudio.abi3.so") as elf:
        elf.rename_text("aoti_torch_library_def", "aoti_torch_library_dif")


@broken("torchao", FindingKind.MISSING_SYMBOL, rf"{_MINOR}.*at::_ops::reshale")
def operator_of_another_torch(piece: Workpiece) -> None:
    operator = "_ZN2at4_ops7resha{}e4callERKNS_6TensorEN3c108ArrayRefINS5_6SymIntEEE"
    with piece.elf(_AO) as elf:
        elf.rename_text(operator.format("p"), operator.format("l"))


@broken(
    "torch-harmonics",
    FindingKind.MISSING_SYMBOL,
    rf"{_MINOR}.*vtable for torch::autograd::Autograf",
)
def vtable_of_another_torch(piece: Workpiece) -> None:
    with piece.elf(_DISCO) as elf:
        name = "_ZTVN5torch8autograd12Auto{}MetaE"
        elf.rename_text(name.format("grad"), name.format("graf"))


@broken(
    "torchvision 0.21",
    FindingKind.TORCH,
    r"does not load beside torch 2\.11.*but beside 2\.6\.0\+cu124",
    torch="2.11.0+cu130",
)
def requirement_of_a_torch_that_it_was_not_compiled_for(piece: Workpiece) -> None:
    piece.edit_metadata("torch (==2.6.0)", "torch (==2.11.0)")


@broken(
    "torchvision 0.26",
    FindingKind.REQUIREMENT,
    r"asks for torch >=2\.6.*does not load beside 2\.6\.0",
    torch=None,
    refused=False,
)
def requirement_that_lets_in_every_torch(piece: Workpiece) -> None:
    piece.edit_metadata("torch (==2.11.0)", "torch (>=2.6)")


_IS_NEW: Final = "wrong CXX11 ABI: compiled with _GLIBCXX_USE_CXX11_ABI=1, this torch with 0"
_IS_OLD: Final = "wrong CXX11 ABI: compiled with _GLIBCXX_USE_CXX11_ABI=0, this torch with 1"
_CHECK_FAIL: Final = "_ZN3c106detail14torchCheckFailEPKcS2_jRK"
_ERROR: Final = "_ZN3c105ErrorC2ENS_14SourceLocationE"


@broken("torchvision 0.26", FindingKind.MISSING_SYMBOL, rf"{_IS_OLD}.*torchCheckFail")
def old_string_in_a_check(piece: Workpiece) -> None:
    piece.rename_symbols(_C, **{f"{_CHECK_FAIL}{_NEW}": f"{_CHECK_FAIL}Ss"})


@broken("torchvision 0.21", FindingKind.MISSING_SYMBOL, rf"{_IS_NEW}.*torchCheckFail")
def new_string_in_a_check(piece: Workpiece) -> None:
    piece.rename_symbols(_C, **{f"{_CHECK_FAIL}Ss": f"{_CHECK_FAIL}{_NEW}"})


@broken("torch-harmonics", FindingKind.MISSING_SYMBOL, rf"{_IS_OLD}.*c10::Error::Error")
def old_string_in_a_constructor(piece: Workpiece) -> None:
    piece.rename_symbols(_DISCO, **{f"{_ERROR}{_NEW}": f"{_ERROR}Ss"})


@broken("torchao", FindingKind.MISSING_SYMBOL, rf"{_IS_NEW}.*c10::Error::Error")
def new_string_in_a_constructor(piece: Workpiece) -> None:
    piece.rename_symbols(_AO, **{f"{_ERROR}Ss": f"{_ERROR}{_NEW}"})


@broken("torchvision 0.26", FindingKind.MISSING_SYMBOL, rf"{_IS_OLD}.*torch::Library::Library")
def old_string_in_the_middle_of_a_signature(piece: Workpiece) -> None:
    name = "_ZN5torch7LibraryC1ENS0_4KindE{}St8optionalIN3c1011DispatchKeyEEPKcj"
    piece.rename_symbols(_C, **{name.format(_NEW): name.format("Ss")})


@broken("torchvision 0.26", FindingKind.MISSING_SYMBOL, rf"{_IS_OLD}.*c10::ListType::get")
def old_string_before_a_repeated_type(piece: Workpiece) -> None:
    name = "_ZN3c108ListType3getERK{}NS_4Type24SingletonOrSharedTypePtrIS{}_EE"
    piece.rename_symbols(_IMAGE, **{name.format(_NEW, 9): name.format("Ss", 3)})


@broken("torchvision 0.21", FindingKind.MISSING_SYMBOL, rf"{_IS_NEW}.*c10::ListType::get")
def new_string_before_a_repeated_type(piece: Workpiece) -> None:
    name = "_ZN3c108ListType3getERK{}NS_4Type24SingletonOrSharedTypePtrIS{}_EE"
    piece.rename_symbols(_IMAGE, **{name.format("Ss", 3): name.format(_NEW, 9)})


@broken("torch-harmonics", FindingKind.MISSING_SYMBOL, rf"{_IS_OLD}.*torchCheckFail")
def old_string_in_one_of_four_modules(piece: Workpiece) -> None:
    member = "torch_harmonics/disco/_C.cpython-312-x86_64-linux-gnu.so"
    piece.rename_symbols(member, **{f"{_CHECK_FAIL}{_NEW}": f"{_CHECK_FAIL}Ss"})


_OTHER_PYTHON: Final = "compiled for another Python.*{}"


@broken("tensordict", FindingKind.MISSING_SYMBOL, _OTHER_PYTHON.format("PyUnicode_AsUnicode"))
def function_that_python_dropped(piece: Workpiece) -> None:
    piece.rename_symbols(_DICT, PyUnicode_Compare="PyUnicode_AsUnicode")


@broken("torch-harmonics", FindingKind.MISSING_SYMBOL, _OTHER_PYTHON.format("PyDict_GetItemRef"))
def function_of_a_later_python(piece: Workpiece) -> None:
    piece.rename_symbols(_DISCO, PyDict_Contains="PyDict_GetItemRef")


@broken("torchvision 0.26", FindingKind.MISSING_SYMBOL, _OTHER_PYTHON.format("_Py_DecRefShared"))
def function_of_a_python_without_gil(piece: Workpiece) -> None:
    piece.rename_symbols(_IMAGE, _Py_Dealloc="_Py_DecRefShared")


@broken("torch-harmonics", FindingKind.WRONG_PYTHON, r"is for cp311, the tag for cp312")
def module_of_another_python(piece: Workpiece) -> None:
    piece.rename(_DISCO, _DISCO.replace("312", "311"))


@broken("torch-harmonics", FindingKind.WRONG_PYTHON, r"is for cp313t, the tag for cp312")
def modules_of_a_python_without_gil(piece: Workpiece) -> None:
    for member in [name for name in piece.members if name.endswith(".so")]:
        piece.rename(member, member.replace("312", "313t"))


@broken("torch-harmonics", FindingKind.WRONG_PYTHON, r"is for cp312, the tag for cp313")
def tag_of_another_python(piece: Workpiece) -> None:
    piece.retag("cp313-cp313-manylinux_2_24_x86_64.manylinux_2_28_x86_64")


@broken(
    "flash-mla",
    FindingKind.WRONG_PYTHON,
    r"can be imported by cp310 alone, the tag lets every Python from 3\.10",
    refused=False,
)
def module_of_one_python_under_a_tag_for_many(piece: Workpiece) -> None:
    piece.rename(_MLA, _MLA.replace("abi3", "cpython-310-x86_64-linux-gnu"))


@broken("tensordict", FindingKind.LIMITED_API, r"uses .*outside of the limited API", refused=False)
def tag_for_the_limited_api_that_it_does_not_keep_to(piece: Workpiece) -> None:
    piece.retag("cp312-abi3-manylinux_2_28_x86_64")


@broken(
    "torch-harmonics", FindingKind.LIMITED_API, r"_PyObject_GetDictPtr.*limited API", refused=False
)
def modules_renamed_as_if_they_kept_to_the_limited_api(piece: Workpiece) -> None:
    for member in [name for name in piece.members if name.endswith(".so")]:
        piece.rename(member, member.replace("cpython-312-x86_64-linux-gnu", "abi3"))
    piece.retag("cp312-abi3-manylinux_2_28_x86_64")


@broken("torch-harmonics", FindingKind.MISSING_EXTENSION, r"'disco_helpers'.*no PyInit", ours=True)
def module_without_its_start_function(piece: Workpiece) -> None:
    piece.rename_symbols(_DISCO, PyInit_disco_helpers="PyInit_disk_helpers")


@broken("torch-harmonics", FindingKind.MACHINE, r"is compiled for aarch64, the tag says x86_64")
def module_of_another_machine(piece: Workpiece) -> None:
    with piece.elf(_DISCO) as elf:
        elf.change_machine(183)


@broken("torch-harmonics", FindingKind.MACHINE, r"is compiled for x86_64, the tag says aarch64")
def tag_of_another_machine(piece: Workpiece) -> None:
    piece.retag("cp312-cp312-manylinux_2_28_aarch64")


@broken("torch-harmonics", FindingKind.WRONG_PYTHON, r"aarch64")
def suffix_of_another_machine(piece: Workpiece) -> None:
    piece.rename(_DISCO, _DISCO.replace("x86_64", "aarch64"))


@broken(
    "torch-harmonics",
    FindingKind.PLATFORM_TAG,
    r"needs glibc 2\.38, the platform tag promises that 2\.24 is enough",
    ours=True,
)
def glibc_above_the_tag(piece: Workpiece) -> None:
    with piece.elf(_DISCO) as elf:
        elf.rename_version("GLIBC_2.14", "GLIBC_2.38")


@broken(
    "torchao",
    FindingKind.PLATFORM_TAG,
    r"needs glibc 2\.34, the platform tag promises that 2\.17 is enough",
    refused=False,
)
def glibc_above_the_oldest_of_three_tags(piece: Workpiece) -> None:
    with piece.elf(_AO) as elf:
        elf.rename_version("GLIBC_2.14", "GLIBC_2.34")


@broken(
    "torch-harmonics",
    FindingKind.PLATFORM_TAG,
    r"needs GLIBCXX_3\.4\.32 of libstdc\+\+.*manylinux_2_24_x86_64 does not promise",
    ours=True,
)
def libstdcxx_above_the_tag(piece: Workpiece) -> None:
    with piece.elf(_ATTENTION) as elf:
        elf.rename_version("GLIBCXX_3.4.21", "GLIBCXX_3.4.32")


@broken(
    "tensordict",
    FindingKind.PLATFORM_TAG,
    r"needs GLIBCXX_3\.4\.30 of libstdc\+\+.*manylinux_2_28_x86_64 does not promise",
    refused=False,
)
def libstdcxx_above_the_tag_of_another_wheel(piece: Workpiece) -> None:
    with piece.elf(_DICT) as elf:
        elf.rename_version("GLIBCXX_3.4.21", "GLIBCXX_3.4.30")


@broken(
    "torch-harmonics",
    FindingKind.PLATFORM_TAG,
    r"needs CXXABI_1\.9\.9.*no manylinux policy knows",
    ours=True,
)
def cxxabi_that_nobody_has(piece: Workpiece) -> None:
    with piece.elf(_DISCO) as elf:
        elf.rename_version("CXXABI_1.3.9", "CXXABI_1.9.9")
