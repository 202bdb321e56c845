"""The manylinux policies are auditwheel's own, and are read as auditwheel reads them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from auditwheel.architecture import Architecture  # type: ignore[import-untyped]
from auditwheel.libc import Libc  # type: ignore[import-untyped]
from auditwheel.policy import WheelPolicies  # type: ignore[import-untyped]

from wheelyard.model.cell import MACHINES
from wheelyard.model.policies import (
    distributions_with,
    first_distributions,
    glibc_number,
    manylinux_policies,
    oldest_policy_with,
    policy_for,
)

if TYPE_CHECKING:
    from wheelyard.model.cell import Machine


def auditwheels(machine: Machine) -> WheelPolicies:
    return WheelPolicies(libc=Libc.GLIBC, arch=Architecture(machine))


@pytest.mark.parametrize("machine", MACHINES)
def test_policies_are_those_of_auditwheel(machine: Machine) -> None:
    theirs = {policy.name: policy for policy in auditwheels(machine) if "manylinux" in policy.name}
    ours = {f"{policy.name}_{machine}": policy for policy in manylinux_policies(machine)}
    assert ours.keys() == theirs.keys()
    for name, policy in ours.items():
        assert policy.libraries == theirs[name].whitelist
        assert policy.versions == theirs[name].symbol_versions
        assert policy.forbidden == theirs[name].blacklist


@pytest.mark.parametrize("machine", MACHINES)
def test_oldest_policy_is_the_one_that_auditwheel_finds(machine: Machine) -> None:
    theirs = auditwheels(machine)
    every = manylinux_policies(machine)[-1].versions
    names = sorted(f"{name}_{one}" for name, versions in every.items() for one in versions)
    for first, second in itertools.product(names[::7], names[::11]):
        ours = oldest_policy_with([first, second], machine)
        assert ours is not None
        found = theirs.versioned_symbols_policy({"lib.so": {first, second}})
        assert f"{ours.name}_{machine}" == found.name


@pytest.mark.parametrize(
    ("glibc", "name"),
    [
        ((2, 28), "manylinux_2_28"),
        ((2, 29), "manylinux_2_28"),
        ((2, 30), "manylinux_2_28"),
        ((9, 0), manylinux_policies("x86_64")[-1].name),
        ((2, 1), "manylinux_2_5"),
    ],
)
def test_tag_between_two_policies_goes_by_the_older(glibc: tuple[int, int], name: str) -> None:
    assert policy_for(glibc, "x86_64").name == name


def test_glibc_between_two_policies_counts_in_full() -> None:
    policy = policy_for((2, 29), "x86_64")
    assert policy.has_version("GLIBC_2.29", glibc=(2, 29))
    assert not policy.has_version("GLIBC_2.30", glibc=(2, 29))
    assert not policy.has_version("GLIBC_PRIVATE", glibc=(2, 29))
    assert policy.has_version("OPENSSL_3.0.0", glibc=(2, 29))


def test_unknown_version_fits_no_policy() -> None:
    assert oldest_policy_with(["GLIBC_PRIVATE"], "x86_64") is None


def test_relocations_that_glibc_2_36_has_first_have_their_policy() -> None:
    policy = oldest_policy_with(["GLIBC_ABI_DT_RELR"], "x86_64")
    assert policy is not None
    assert policy.glibc == (2, 36)
    assert glibc_number("GLIBC_ABI_DT_RELR") is None


def test_distributions_are_told_by_their_glibc() -> None:
    assert first_distributions((2, 34), count=2) == ("RHEL 9", "Amazon Linux 2023")
    assert distributions_with((2, 28), before=(2, 34)) == (
        *("RHEL 8", "Debian 10"),
        *("Ubuntu 20.04", "Debian 11"),
    )
