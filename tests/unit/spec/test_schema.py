"""The JSON Schema agrees with the loader: on every spec of the cases, and on the forms that people write."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gpuctl.spec.document import parse
from gpuctl.spec.load import load

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
CASES = sorted((Path(__file__).parent / "cases").glob("*.yaml"))
# rough forms are as far as a schema goes: what only a look at the value itself tells
BEYOND = {"SPEC-01", "SPEC-02", "SPEC-03"}


def schema_of(name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "gpuctl", "schema", "--of", name]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60).stdout)
    Draft202012Validator.check_schema(found)
    return found


SCHEMA = schema_of("cluster")
VALIDATOR = Draft202012Validator(SCHEMA)


# of the right form, and larger than a schema can say
TOO_MUCH = {"addresses-without-end", "hub-infinite-cpus", "size-without-end"}


def plain(file: Path) -> Any:
    return parse(file.read_text(encoding="utf-8"), file.name).value


def objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if "properties" in part:
            yield part
        for inner in part.values():
            yield from objects(inner)


@pytest.mark.parametrize("file", [*EXAMPLES, *CASES], ids=lambda path: path.stem)
def test_it_refuses_what_the_loader_cannot_understand_and_nothing_else(file: Path) -> None:
    rules = {finding.rule for finding in load(file).findings}
    if rules & BEYOND:
        pytest.skip("YAML itself is at fault")
    # a value that the model reads only to refuse it by a rule is not offered to editors
    broken = {rule for rule in rules if rule.startswith("SPEC-") or rule == "VER-05"}
    if file.stem in TOO_MUCH:
        assert broken and VALIDATOR.is_valid(plain(file))
        return
    assert [error.message for error in VALIDATOR.iter_errors(plain(file))] == [] or broken
    assert bool(broken) == (not VALIDATOR.is_valid(plain(file)))


def test_every_object_refuses_unknown_keys_and_every_field_is_described() -> None:
    found = [*objects(SCHEMA), *objects(schema_of("site"))]
    assert len(found) > 40
    for one in found:
        assert one["additionalProperties"] is False
        assert all(field.get("description") for field in one["properties"].values())


@pytest.mark.parametrize(
    ("path", "value", "good"),
    [
        (("nodes", "control_plane", "addresses"), ["10.0.0.11", "10.0.0.12-10.0.0.13"], True),
        (("nodes", "control_plane", "addresses"), "10.0.0.11 - 10.0.0.13", True),
        (("nodes", "control_plane", "addresses"), "10.0.0.11..13", False),
        (("nodes", "control_plane", "memory"), "1.5TiB", True),
        (("nodes", "control_plane", "memory"), "16", False),
        (("nodes", "control_plane", "memory"), 16, False),
        (("nodes", "control_plane", "taints"), ["dedicated=gpu:NoSchedule", "a:NoExecute"], True),
        (("nodes", "control_plane", "taints"), ["dedicated=gpu"], False),
        (("network", "api_vip"), "10.0.0.0/24", False),
        (("site", "proxmox", "token"), "sops:secrets.yaml#proxmox.token", True),
        (("site", "proxmox", "token"), "gpuctl@pve!a=1", False),
        (("jupyterhub", "culling"), {"idle": "30m"}, True),
        (("jupyterhub", "culling"), {"idle": "30 minutes"}, False),
        (("jupyterhub", "home"), {"class": "fast"}, True),
        (("jupyterhub", "profiles"), [{"name": "half", "cpus": 0.5}], True),
        (("image", "checksum"), "md5:0", False),
    ],
)
def test_forms_that_people_write(tmp_path: Path, path: tuple[str, ...], value: object, good: bool) -> None:
    spec = copy.deepcopy(plain(EXAMPLES[0]))
    here = spec
    for part in path[:-1]:
        here = here[part]
    here[path[-1]] = value
    assert VALIDATOR.is_valid(spec) is good
    file = tmp_path / "cluster.yaml"
    file.write_text(json.dumps(spec), encoding="utf-8")
    assert (load(file).resolved is not None) is good


def test_a_site_file_has_a_schema_of_its_own() -> None:
    site = plain(EXAMPLES[0])["site"]
    validator = Draft202012Validator(schema_of("site"))
    assert validator.is_valid(site)
    assert not validator.is_valid({**site, "proxmoxx": {}})
    assert not validator.is_valid({"host": {}})
