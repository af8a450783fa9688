"""The labels of GPU feature discovery against the spec: the model, and how many."""

from __future__ import annotations

from gpuctl.render import gpu
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.versions import table
from gpuctl.verify.base import Check, Measurement, judged, with_gpus
from gpuctl.verify.facts import Facts

PRODUCT, COUNT = "nvidia.com/gpu.product", "nvidia.com/gpu.count"
SHARED = "-SHARED"
LIMIT = "model, number and sharing of the spec"


def judge(spec: Resolved, facts: Facts) -> Measurement:
    problems, right = {}, 0
    for node in gpu.gpu_nodes(spec):
        offer = facts.cards.offers.get(node.name)
        if offer is None or node.gpus is None:
            problems[node.name] = "not in the cluster"
            continue
        known = table()["gpu_models"].get(node.gpus.model, {})
        # the product carries a suffix when cards are shared or cut
        product = offer.labels.get(PRODUCT, "").partition("-MIG")[0].removesuffix(SHARED)
        if product != known.get("product"):
            problems[node.name] = f"{product or 'no product label'} instead of {known.get('product')}"
        elif not node.gpus.mig and offer.labels.get(COUNT) != str(node.gpus.count):
            problems[node.name] = f"{offer.labels.get(COUNT, 'no')} cards by label instead of {node.gpus.count}"
        elif wrong := [
            f"{k}={offer.labels.get(k)}" for k, v in gpu.node_labels(node).items() if offer.labels.get(k) != v
        ]:
            problems[node.name] = ", ".join(wrong)
        else:
            right += 1
    total = len(gpu.gpu_nodes(spec))
    return judged(problems, f"{right} of {total} nodes", LIMIT, next="is gpus.model right? gpuctl gpu relabels")


CHECK = Check(
    "GPU-22",
    "gpu",
    "the nodes are labelled with the cards of the spec",
    ("gpus",),
    judge,
    "GPU feature discovery",
    with_gpus,
)
