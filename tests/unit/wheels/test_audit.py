"""The platform tag that a wheel earns."""

from __future__ import annotations

import json

import pytest

from wheelyard.errors import ProcessError, RepairError
from wheelyard.wheels.audit import Audit, is_misled, last_words, lowest_platform_tag, parse_audit

EXCLUDES = ("libtorch*", "libcudart.so.*")


def audit(
    *,
    symbols_tag: str = "manylinux_2_24_x86_64",
    fits_baseline: bool = True,
    external: dict[str, str | None] | None = None,
    to_eliminate: dict[str, frozenset[str]] | None = None,
    forbidden_symbols: frozenset[str] = frozenset(),
    symbols: tuple[str, ...] = ("GLIBC_2.14", "GLIBC_2.4", "GLIBCXX_3.4.21", "libcudart.so.13"),
) -> Audit:
    return Audit(
        symbols_tag=symbols_tag,
        fits_baseline=fits_baseline,
        external=external or {},
        to_eliminate=to_eliminate or {},
        forbidden_symbols=forbidden_symbols,
        symbols=symbols,
    )


@pytest.mark.parametrize(
    ("found", "tag"),
    [
        pytest.param(audit(), "manylinux_2_24_x86_64", id="symbols decide"),
        pytest.param(
            audit(to_eliminate={"manylinux_2_24_x86_64": frozenset({"libtorch.so"})}),
            "manylinux_2_24_x86_64",
            id="excluded libraries stay outside",
        ),
        pytest.param(
            audit(
                to_eliminate={
                    "manylinux_2_17_x86_64": frozenset({"libtorch.so"}),
                    "manylinux_2_24_x86_64": frozenset({"libz.so.1", "libtorch.so"}),
                    "manylinux_2_28_x86_64": frozenset({"libtorch.so"}),
                }
            ),
            "manylinux_2_28_x86_64",
            id="a later policy allows the library",
        ),
        pytest.param(
            audit(
                to_eliminate={"manylinux_2_24_x86_64": frozenset({"libtorch.so", "libpng.so.9"})}
            ),
            None,
            id="a library has to be grafted",
        ),
        pytest.param(
            audit(
                forbidden_symbols=frozenset({"manylinux_2_24_x86_64"}),
                to_eliminate={"manylinux_2_31_x86_64": frozenset()},
            ),
            "manylinux_2_31_x86_64",
            id="a policy forbids a symbol",
        ),
        pytest.param(
            audit(symbols_tag="manylinux_2_17_aarch64"),
            "manylinux2014_aarch64.manylinux_2_17_aarch64",
            id="older policies have an alias",
        ),
        pytest.param(
            audit(
                symbols_tag="manylinux_2_5_x86_64",
                to_eliminate={"manylinux_2_12_x86_64": frozenset({"libtorch.so"})},
            ),
            "manylinux1_x86_64.manylinux_2_5_x86_64",
            id="nothing is compared as text",
        ),
    ],
)
def test_lowest_tag_that_holds(found: Audit, tag: str | None) -> None:
    assert lowest_platform_tag(found, EXCLUDES) == tag


def test_symbols_newer_than_every_policy_are_named() -> None:
    with pytest.raises(RepairError, match=r"GLIBC_2\.14.*older distribution"):
        lowest_platform_tag(audit(symbols_tag="linux_x86_64"), EXCLUDES)


def test_instructions_beyond_the_baseline_are_refused() -> None:
    with pytest.raises(RepairError, match=r"x86_64.*march"):
        lowest_platform_tag(audit(fits_baseline=False), EXCLUDES)


def test_newest_symbol_of_each_set_is_chosen_by_number() -> None:
    assert audit().newest_symbols == ("GLIBC_2.14", "GLIBCXX_3.4.21")


def test_excluded_library_found_on_this_machine_misleads_auditwheel() -> None:
    assert is_misled(audit(external={"libcudart.so.13": "/cuda/libcudart.so.13"}), EXCLUDES)
    assert not is_misled(audit(external={"libcudart.so.13": None}), EXCLUDES)
    assert not is_misled(audit(external={"libpng.so.9": "/lib/libpng.so.9"}), EXCLUDES)


def test_audit_is_read_from_between_log_lines() -> None:
    document = {
        "sym_tag": "manylinux_2_24_x86_64",
        "unsupported_isa": False,
        "external_libs": {"libtorch.so": None},
        "versioned_symbols": {"libc.so.6": ["GLIBC_2.14"], "libm.so.6": ["GLIBC_2.29"]},
        "policy_upgrades": {
            "manylinux_2_24_x86_64": {
                "libs_to_eliminate": ["libtorch.so"],
                "blacklisted_symbols": {"libz.so.1": ["_dist_code"]},
            }
        },
    }
    output = f"INFO:root:hello\n{json.dumps(document, indent=4)}\nINFO:root:bye\n"
    found = parse_audit(output)
    assert found.external == {"libtorch.so": None}
    assert found.to_eliminate == {"manylinux_2_24_x86_64": frozenset({"libtorch.so"})}
    assert found.forbidden_symbols == {"manylinux_2_24_x86_64"}
    assert found.machine == "x86_64"
    assert found.newest_symbols == ("GLIBC_2.29",)


@pytest.mark.parametrize("output", ["", "{\n}\n", "{\n[\n}\n", '{\n"sym_tag": "x"\n}\n'])
def test_unknown_answer_is_shown(output: str) -> None:
    with pytest.raises(RepairError, match="auditwheel says"):
        parse_audit(output)


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ('{\n    "error": "no \\"ELF\\" here"\n}\n', 'no "ELF" here'),
        ("Traceback\nValueError: gone\n\n", "ValueError: gone"),
        ("", "auditwheel failed"),
    ],
)
def test_reason_is_taken_from_what_auditwheel_wrote(tail: str, words: str) -> None:
    error = ProcessError("auditwheel failed", returncode=1, tail=tail, log_path=None)
    assert last_words(error) == words
