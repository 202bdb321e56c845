from __future__ import annotations

from wheelyard.finding.explaining import explain, lacks_platform, names
from wheelyard.finding.resolution import Conflict

HEAD = "error: No solution found when resolving dependencies\n  cause: "
PLATFORM = Conflict(
    text=f"""{HEAD}Because nvidia-resiliency-ext==0.6.0 has no wheels with a matching platform tag
        (e.g., `manylinux_2_36_x86_64`) and megatron-core[dev]>=0.19.2 depends on
        nvidia-resiliency-ext==0.6.0, we can conclude that megatron-core[dev]>=0.19.2 cannot be
        used.
        And because you require megatron-core[dev]==0.19.2, we can conclude that your requirements
        are unsatisfiable.

hint: Wheels are available for `nvidia-resiliency-ext` (v0.6.0) on the following platforms:
`manylinux_2_39_aarch64`, `manylinux_2_39_x86_64`
"""
)


def test_facts_stay_and_what_follows_from_them_goes() -> None:
    assert explain(PLATFORM) == (
        "nvidia-resiliency-ext==0.6.0 has no wheels with a matching platform tag (e.g., "
        "manylinux_2_36_x86_64) (it has manylinux_2_39_aarch64, manylinux_2_39_x86_64); "
        "megatron-core[dev]>=0.19.2 depends on nvidia-resiliency-ext==0.6.0"
    )
    assert lacks_platform(PLATFORM)


def test_source_of_a_project_of_ours_is_no_news() -> None:
    text = (
        "Because mamba-ssm==2.3.0 has no usable wheels and core depends on mamba-ssm==2.3.0, we "
        "can conclude that core cannot be used."
    )
    assert explain(Conflict(text=HEAD + text), ours={"mamba-ssm"}) == (
        "core depends on mamba-ssm==2.3.0"
    )


def test_local_version_of_ours_is_not_shown() -> None:
    version = "mamba-ssm==2.3.0+cu130.torch2.11.0.sm90"
    text = f"Because {version} depends on einops, we can conclude that x cannot be used."
    assert explain(Conflict(text=HEAD + text)) == "mamba-ssm==2.3.0 depends on einops"


def test_name_that_nobody_has_leads_to_the_nearest_recipe() -> None:
    text = (
        "Because flash-atn was not found in the package registry and you require flash-atn, we can "
        "conclude that your requirements are unsatisfiable."
    )
    conflict = Conflict(text=HEAD + text)
    told = "neither the index nor the farm has a project flash-atn"
    assert explain(conflict, ours={"flash-attn", "apex"}) == (
        f"{told}; the nearest recipe is flash-attn"
    )
    assert explain(conflict, ours={"apex"}) == told


def test_projects_that_a_conflict_is_about_are_seen_with_extras_and_bounds() -> None:
    found = names(PLATFORM)
    assert {"megatron-core", "nvidia-resiliency-ext"} <= found
    assert "torch" not in found
    assert "torch" in names(Conflict(text="Because you require torch==2.11.0 and x>=2"))


def test_what_was_asked_for_is_a_side_of_the_conflict_only_where_something_wants_another() -> None:
    text = (
        "Because core==1 depends on setuptools<80 and you require core==1, we can conclude that "
        "your requirements and setuptools>=80 are incompatible.\n"
        "And because you require setuptools>=80, we can conclude that your requirements are "
        "unsatisfiable."
    )
    assert explain(Conflict(text=HEAD + text)) == (
        "core==1 depends on setuptools<80; you require setuptools>=80"
    )
    text = "Because you require a==1 and a==2, we can conclude that your requirements fail."
    assert explain(Conflict(text=HEAD + text)) == "you require a==1 and a==2"
