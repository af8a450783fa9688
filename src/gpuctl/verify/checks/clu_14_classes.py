"""The storage classes are those of the spec, and exactly one is the default where the spec names one."""

from __future__ import annotations

from gpuctl.render import storage
from gpuctl.spec.resolved import Resolved
from gpuctl.verify.base import Check, Measurement, judged
from gpuctl.verify.facts import Facts

DEFAULT = "storageclass.kubernetes.io/is-default-class"
FIELDS = ("provisioner", "reclaimPolicy", "volumeBindingMode")


def judge(spec: Resolved, facts: Facts) -> Measurement:
    wanted = {str(one["name"]): one for one in storage.classes(spec).values["classes"]}
    live = {str(item["metadata"]["name"]): item for item in facts.classes.classes}
    problems = {name: "missing" for name in wanted if name not in live}
    for name, item in live.items():
        if name not in wanted:
            problems[name] = f"not of the spec (provisioner {item['provisioner']})"
            continue
        different = [
            f"{field} {item.get(field)} instead of {wanted[name][field]}"
            for field in FIELDS
            if item.get(field) != wanted[name][field]
        ]
        if different:
            problems[name] = ", ".join(different)
    defaults = sorted(
        name for name, item in live.items() if (item["metadata"].get("annotations") or {}).get(DEFAULT) == "true"
    )
    expected = [spec.storage.default_class] if spec.storage.default_class else []
    if defaults != expected:
        problems["default class"] = f"{', '.join(defaults) or 'none'} instead of {', '.join(expected) or 'none'}"
    measured = f"{', '.join(sorted(live)) or 'none'}; default {', '.join(defaults) or 'none'}"
    limit = f"{', '.join(sorted(wanted))}; default {', '.join(expected) or 'none'}"
    return judged(problems, measured, limit, next="gpuctl manage")


CHECK = Check("CLU-14", "cluster", "storage classes are as in the spec, one of them the default", ("storage",), judge)
