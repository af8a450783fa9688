"""The table of effects is complete, and the files it says a field reaches are those that a changed field changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpuctl.render import rendered
from gpuctl.spec.effects import FILES, KINDS, OWNERS, PHASES, effects
from gpuctl.spec.explain import described, groups
from gpuctl.spec.load import load

ROOT = Path(__file__).parents[3]
SPECS = {
    "homelab": ROOT / "examples/homelab.yaml",
    **{name: ROOT / f"tests/unit/render/{name}.yaml" for name in ("shared", "notebooks", "managed")},
}
SAMPLES: dict[str, list[dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_name("samples.yaml").read_text(encoding="utf-8")
)
# why there is no sample: one value only, or nothing that is valid alone
WITHOUT = {
    "version": "one value only",
    "kubernetes.cni": "one value only",
    "management.certificates.ca": "valid with its issuer only, which is sampled",
    "management.gitops.credentials.ssh_key": "valid instead of the password only",
    "management.gitops.credentials.known_hosts": "valid with ssh_key only",
    "jupyterhub.auth.i_know_that_anybody_can_log_in": "refused without it",
    "jupyterhub.auth.oauth": "valid with its kind only, which is sampled; its fields are",
}


def test_every_field_has_an_entry_and_every_entry_a_field() -> None:
    fields = {field.name for field in described()} - groups()
    assert set(effects()) == fields


def test_an_entry_says_a_known_kind_in_words_and_every_phase_that_owns_its_files() -> None:
    short = {path: name for name, path in FILES.items()}
    for name, effect in effects().items():
        assert effect.kind in KINDS, name
        assert effect.words, name
        assert list(effect.phases) == [phase for phase in PHASES if phase in effect.phases], name
        assert {OWNERS[short[path]] for path in effect.files} <= set(effect.phases), name


def test_what_has_no_sample_says_why() -> None:
    assert SAMPLES.keys() == effects().keys()
    assert {name for name, samples in SAMPLES.items() if not samples} == set(WITHOUT)


@pytest.mark.parametrize("name", [name for name, samples in SAMPLES.items() if samples])
def test_a_field_reaches_the_rendered_files_of_its_entry(tmp_path: Path, name: str) -> None:
    differing: set[str] = set()
    for sample in SAMPLES[name]:
        spec = yaml.safe_load(SPECS[sample["of"]].read_text(encoding="utf-8"))
        for place, value in sample.get("given", {}).items():
            put(spec, place, value)
        changed = deepcopy(spec)
        put(changed, sample.get("at") or first(name), sample["to"])
        before, after = (files(tmp_path, one) for one in (spec, changed))
        differing |= {file for file in before.keys() | after.keys() if before.get(file) != after.get(file)}
    assert differing == set(effects()[name].files)


def first(name: str) -> str:
    """The place of the first of each list."""
    return re.sub(r"(nodes\.pools|jupyterhub\.profiles)\.", r"\1[0].", name)


def put(spec: Any, place: str, value: Any) -> None:
    *path, last = [int(part) if part.isdigit() else part for part in re.findall(r"\w+", place)]
    for part in path:
        spec = spec.setdefault(part, {}) if isinstance(spec, dict) else spec[part]
    if value is None:
        spec.pop(last, None)
    else:
        spec[last] = deepcopy(value)


def files(folder: Path, spec: Mapping[str, Any]) -> dict[str, str]:
    return render(folder, yaml.dump(spec, Dumper=yaml.CSafeDumper))


RENDERED: dict[str, dict[str, str]] = {}


def render(folder: Path, text: str) -> dict[str, str]:
    """Once for each text: most samples change the same spec."""
    if text not in RENDERED:
        path = folder / "cluster.yaml"
        path.write_text(text, encoding="utf-8")
        loaded = load(path)
        assert loaded.resolved, loaded.findings
        RENDERED[text] = rendered(loaded.resolved)
    return RENDERED[text]
