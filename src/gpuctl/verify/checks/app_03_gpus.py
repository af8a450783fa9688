"""A notebook sees as many GPUs as its profile has, and computes right with them."""

from __future__ import annotations

from gpuctl.spec.resolved import Profile, Resolved
from gpuctl.verify.base import Check, Measurement, over_notebooks, with_hub
from gpuctl.verify.facts import Compute, Facts

LIMIT = "as many as the profile has, matrix products right"


def cards(profile: Profile) -> int:
    """GPUs or MIG slices of a notebook."""
    return profile.gpus + sum(number for _, number in profile.slices)


def with_gpu_profiles(spec: Resolved) -> str:
    if spec.jupyterhub and not any(cards(profile) for profile in spec.jupyterhub.profiles):
        return "no profile has a GPU"
    return with_hub(spec)


def judge(spec: Resolved, facts: Facts) -> Measurement:
    assert spec.jupyterhub is not None
    wanted = {profile.name: profile for profile in spec.jupyterhub.profiles if cards(profile)}
    problems: dict[str, str] = {}
    seen: list[str] = []
    libraries: set[str] = set()
    for name, profile in wanted.items():
        compute = facts.spawned[name].compute
        if compute is None:
            continue
        seen.append(str(compute.cards))
        libraries.add(compute.library)
        if words := _wrong(profile, compute):
            problems[name] = words
    by = " and ".join(sorted(filter(None, libraries)))
    without = "computed without a GPU library, which the image lacks" if "" in libraries else ""
    how = "; ".join(filter(None, (by, without)))
    measured = f"{', '.join(seen)} GPUs seen ({how})" if seen else "no notebook with a GPU ran"
    return over_notebooks(
        facts,
        problems,
        measured,
        LIMIT,
        among=wanted.keys(),
        next="gpuctl verify --only gpu; nvidia-smi in the notebook",
    )


def _wrong(profile: Profile, compute: Compute) -> str:
    if compute.cards != cards(profile):
        return f"sees {compute.cards} of {cards(profile)}"
    # CUDA uses one MIG slice at a time
    usable = min(cards(profile), 1) if profile.slices else profile.gpus
    if compute.library and compute.devices != usable:
        return f"{compute.library} uses {compute.devices} of {usable}"
    return "" if compute.correct else f"wrong matrix product by {compute.library or 'Python'}"


CHECK = Check("APP-03", "applications", "notebooks see their GPUs", ("notebooks",), judge, applies=with_gpu_profiles)
