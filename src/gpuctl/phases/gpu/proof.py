"""The proof of a card: a CUDA program ran on it since its host booted and its driver changed.

One pod per free slot, all held at once, so that together they get every free card. What was proven is noted on the
Node object, with the boot and the driver it holds for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from gpuctl.context import Context
from gpuctl.phases import namespaces, workloads
from gpuctl.phases.gpu.observe import PROOF, Host, Offer
from gpuctl.render import gpu
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError
from gpuctl.spec.resolved import Node

# the first pull of the image is what takes long
PROVE_SECONDS, SCHEDULE_SECONDS = 900.0, 30.0
PASSED, FAILED = "gpuctl: proven", "gpuctl: not proven"
UUID = re.compile(r"\(UUID: (GPU-[0-9a-f-]+)\)")


def unproven(host: Host, offer: Offer) -> frozenset[str]:
    """UUIDs without a proof that holds."""
    return frozenset(card.uuid for card in host.cards) - offer.proven(host)


def possible(host: Host, offer: Offer) -> bool:
    """Whether a free card is certainly among the unproven: what pods hold cannot be told apart by card from here."""
    return len(unproven(host, offer)) > offer.held_slots and free(offer) != {}


def free(offer: Offer) -> dict[str, int]:
    """Free slots by resource name; holders are counted against the first with room."""
    left, rest = dict(offer.allocatable), offer.held_slots
    for name in left:
        taken = min(left[name], rest)
        left[name], rest = left[name] - taken, rest - taken
    return {name: count for name, count in left.items() if count}


def run(
    ctx: Context, phase: str, nodes: Iterable[Node], hosts: Mapping[str, Host], offers: Mapping[str, Offer]
) -> None:
    """Prove what can be proven on these nodes and note it. GpuctlError names the cards on which CUDA failed."""
    nodes = list(nodes)
    with namespaces.temporary(ctx, "proof", phase) as namespace:
        for node in nodes:
            for resource, count in free(offers[node.name]).items():
                for number in range(count):
                    pod = _pod(ctx, node, resource, f"{node.name}-{resource.rpartition('/')[2]}-{number}".lower())
                    ctx.kubernetes.post(f"/api/v1/namespaces/{namespace}/pods", pod)
        said = _results(ctx, phase, namespace)
    failures = []
    for node in nodes:
        host, offer = hosts[node.name], offers[node.name]
        logs = [text for name, text in said if name == node.name]
        good = {uuid for text in logs if PASSED in text for uuid in UUID.findall(text)}
        for text in logs:
            if len(UUID.findall(text)) > 1:
                failures.append(f"{node.name}: a pod that asked for one card sees {len(UUID.findall(text))}")
            if FAILED in text:
                cards = ", ".join(UUID.findall(text)) or "a card that nvidia-smi does not list"
                failures.append(f"{node.name} {cards}: {_last(text)}")
        known = {card.uuid for card in host.cards}
        proven = sorted((offer.proven(host) | good) & known)
        note = json.dumps({"boot": host.boot, "driver": host.driver, "cards": proven})
        patch = {"metadata": {"annotations": {PROOF: note}}}
        ctx.kubernetes.patch(f"/api/v1/nodes/{node.name}", patch)
        ctx.say("target", f"{len(proven)} of {len(known)} cards proven", phase=phase, target=f"cards/{node.name}")
    if failures:
        raise GpuctlError(
            f"CUDA failed on {len(failures)} card{'s' * (len(failures) != 1)}",
            where=failures[0].partition(":")[0],
            cause="\n".join(failures),
            next="nvidia-smi -q on that node (ECC, Xid in dmesg); then run the same command again",
        )


def _results(ctx: Context, phase: str, namespace: str) -> list[tuple[str, str]]:
    """(node, log) of every pod that ran; a pod that finds no free card after all is left out."""
    watch = workloads.Watch(ctx, phase, namespace)
    deadline = ctx.deadline(PROVE_SECONDS, "proving the cards")
    scheduling: Deadline | None = None
    found: dict[str, tuple[str, str]] = {}
    total = 0
    for _ in deadline.ticks(0.5):
        pods = ctx.kubernetes.list(f"/api/v1/namespaces/{namespace}/pods")
        total = len(pods)
        for pod in pods:
            name = str(pod["metadata"]["name"])
            text = _log(ctx, namespace, pod) if name not in found else ""
            if PASSED in text or FAILED in text:
                found[name] = str(pod["spec"]["nodeName"]), text
        ctx.say("progress", f"{len(found)} of {total} proofs", phase=phase, done=len(found), total=total)
        pending = [pod for pod in pods if not pod["spec"].get("nodeName")]
        if len(found) + len(pending) < total:
            scheduling = None
        elif not pending:
            return list(found.values())
        else:
            # somebody was faster: those cards are held now
            scheduling = scheduling or deadline.within(SCHEDULE_SECONDS, "scheduling the proofs")
            if scheduling.expired:
                return list(found.values())
        watch.look()
    raise watch.expired(deadline, [f"{len(found)} of {total} proofs"])


def _log(ctx: Context, namespace: str, pod: Mapping[str, Any]) -> str:
    """What the pod said so far; a pod that ended without a verdict has failed."""
    state = pod["status"].get("phase")
    if state == "Failed" and not any(s.get("started") for s in pod["status"].get("containerStatuses", ())):
        return f"{pod['status'].get('reason', '')}: {pod['status'].get('message', 'the pod failed')}\n{FAILED}"
    if state not in ("Running", "Succeeded", "Failed"):
        return ""
    text = str(ctx.kubernetes.get(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}/log"))
    ended = state != "Running" and PASSED not in text and FAILED not in text
    return f"{text}\n{FAILED}" if ended else text


def _last(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and FAILED not in line]
    return lines[-1].strip() if lines else "it said nothing"


def _pod(ctx: Context, node: Node, resource: str, name: str) -> dict[str, Any]:
    settings = ctx.spec.gpu
    # it holds its card until it is deleted, so that the others get other cards
    script = f"nvidia-smi -L; if {settings.proof_command}; then echo '{PASSED}'; else echo '{FAILED}'; fi; sleep 3600"
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]}]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "gpuctl-proof"}},
        "spec": {
            "runtimeClassName": gpu.RUNTIME_CLASS,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
            },
            "containers": [
                {
                    "name": "proof",
                    "image": settings.proof_image,
                    "command": ["sh", "-c", script],
                    "resources": {"limits": {resource: "1"}},
                }
            ],
        },
    }
