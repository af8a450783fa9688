"""Rancher: installed, reached by its users, its first password made worthless.

The passwords are made before they are used and kept in the workspace: at whatever moment a run is killed, which of
them works says how far it came.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from gpuctl.context import Context
from gpuctl.phases import certificates as issued
from gpuctl.phases import read_at_start, releases, workloads
from gpuctl.phases.base import Change
from gpuctl.phases.manage import rancher_removal
from gpuctl.phases.steps import Step
from gpuctl.render import rancher
from gpuctl.run.errors import GpuctlError
from gpuctl.run.workspace import write_private
from gpuctl.spec.resolved import Rancher
from gpuctl.systems.helm import OWNER
from gpuctl.systems.https import Https
from gpuctl.systems.rancher import Rancher as Api

PHASE = "manage"
FIRST, CURRENT = "rancher-bootstrap-password", "rancher-admin-password"
# the first start makes hundreds of objects
ANSWER_SECONDS = 600.0
# said by the ingress, or by Rancher while what it keeps its objects in is being made ready
STARTING = (429, 500, 502, 503, 504)
NAMESPACE = f"/api/v1/namespaces/{rancher.NAMESPACE}"
BOOTSTRAP = f"{NAMESPACE}/secrets/{rancher.BOOTSTRAP_SECRET}"
AUTHORITY = f"{NAMESPACE}/secrets/{rancher.CA_SECRET}"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{rancher.NAMESPACE}/deployments/rancher"
SERVER_URL = "/apis/management.cattle.io/v3/settings/server-url"


@dataclass(frozen=True)
class State:
    """``problem``: why it is not reached, "" when it is; the rest is known only then."""

    problem: str
    rotated: bool = False
    url: str = ""


def plan(ctx: Context) -> list[Step]:
    wanted = ctx.spec.rancher
    release = releases.steps(ctx, PHASE, rancher.NAME, rancher.NAMESPACE, rancher.release(ctx.spec))
    if wanted is None:
        return rancher_removal.plan(ctx, release)
    new = any(step.change.action == "create" for step in release)
    authority = _authority(ctx)
    steps = [*_first_password(ctx, new), *authority, *release]
    todo = []
    state = State("") if new else observe(ctx, wanted)
    if state.problem:
        todo.append(f"wait until it answers: {state.problem}")
    else:
        todo += [] if state.rotated else ["the bootstrap password is rotated"]
        todo += [] if state.url == _url(wanted) else [f"server-url {_url(wanted)}"]
    if todo or release or authority:
        words = "; ".join(todo) or "wait until it answers"
        change = Change(f"rancher/{wanted.hostname}", "create" if new else "update", words)
        steps.append(Step(change, lambda: settle(ctx, wanted)))
    return steps


def _url(wanted: Rancher) -> str:
    return f"https://{wanted.hostname}"


def client(ctx: Context, wanted: Rancher) -> Api:
    """Rancher's API as its users reach it, verified against the issuer's CA."""
    return Api(https(ctx, wanted))


def https(ctx: Context, wanted: Rancher) -> Https:
    assert ctx.spec.network.ingress_vip is not None  # a rule of the spec
    return Https(str(ctx.spec.network.ingress_vip), wanted.hostname, issued.authority(ctx))


# --- before it starts


def _first_password(ctx: Context, new: bool) -> list[Step]:
    """The Secret from which Rancher takes its first password; it reads it once."""
    if not new:
        return []
    wanted = {rancher.BOOTSTRAP_KEY: first_password(ctx)}
    return _secret(ctx, BOOTSTRAP, rancher.BOOTSTRAP_SECRET, wanted, "a generated password")


def first_password(ctx: Context) -> str:
    """The bootstrap password: the one in the workspace, else the one that the cluster has, else a new one."""
    if not (ctx.workspace.secrets / FIRST).exists():
        live = ctx.kubernetes.find(BOOTSTRAP)
        if live is not None and rancher.BOOTSTRAP_KEY in (live.get("data") or {}):
            text = base64.b64decode(live["data"][rancher.BOOTSTRAP_KEY]).decode()
            write_private(ctx.workspace.secrets / FIRST, ctx.redactor.add(text) + "\n")
    return ctx.redactor.add(ctx.workspace.secret(FIRST))


def _authority(ctx: Context) -> list[Step]:
    """The CA that Rancher hands to its agents; of a CA that is yet to be made it is known when this is carried out."""
    if not rancher.private_ca(ctx.spec):
        return []
    try:
        wanted = {rancher.CA_KEY: issued.authority(ctx)}
    except GpuctlError:
        change = Change(f"secret/{rancher.CA_SECRET}", "create", "the cluster's CA")
        return [Step(change, lambda: _carry_out_authority(ctx))]
    return _secret(ctx, AUTHORITY, rancher.CA_SECRET, wanted, "the cluster's CA")


def _carry_out_authority(ctx: Context) -> None:
    for step in _secret(ctx, AUTHORITY, rancher.CA_SECRET, {rancher.CA_KEY: issued.authority(ctx)}, ""):
        step.run()


def _secret(ctx: Context, path: str, name: str, wanted: dict[str, str], words: str) -> list[Step]:
    live = ctx.kubernetes.find(path)
    if live is not None and live.get("data") == read_at_start.encoded(wanted) and not read_at_start.owed(live):
        return []

    # the first password is read once, for good
    reader = DEPLOYMENT if name == rancher.CA_SECRET and ctx.kubernetes.find(DEPLOYMENT) else ""

    def run() -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rancher.NAMESPACE}}
        ctx.kubernetes.apply(NAMESPACE, namespace)
        # whose Rancher it is, also when its release is gone and what it left is not
        ctx.kubernetes.patch(NAMESPACE, {"metadata": {"labels": {OWNER: ctx.workspace.cluster_id}}})
        read_at_start.write(ctx, path, wanted, phase=PHASE, reader=reader)

    disruption = "Rancher restarts" if reader else ""
    return [Step(Change(f"secret/{name}", "update" if live else "create", words, disruption=disruption), run)]


# --- when it has started


def problem(ctx: Context, wanted: Rancher) -> str:
    """What keeps its users from it, in words; "" when nothing does."""
    try:
        if words := issued.problem(ctx, rancher.NAMESPACE, rancher.TLS_SECRET):
            return words
        return "" if client(ctx, wanted).pings() else "it does not answer /ping with pong"
    except GpuctlError as error:
        return f"{error.what}{f' ({error.cause.splitlines()[-1]})' if error.cause else ''}"


def observe(ctx: Context, wanted: Rancher) -> State:
    """What it is like from where its users are. The first password is tried: that it is refused is what is wanted."""
    if words := problem(ctx, wanted):
        return State(words)
    setting = ctx.kubernetes.find(SERVER_URL)
    return State("", not takes(ctx, client(ctx, wanted)), str((setting or {}).get("value", "")))


def takes(ctx: Context, api: Api) -> bool:
    """Whether the first password still opens the door; leaves no session behind."""
    token = api.login(first_password(ctx))
    if token:
        api.logout(ctx.redactor.add(token))
    return bool(token)


def settle(ctx: Context, wanted: Rancher) -> None:
    """Until it answers; then its first password is changed and its address set, in a session of its admin.

    The ingress may lose it again while its pods settle: what it was asked then is asked anew.
    """
    issued.wait(ctx, PHASE, rancher.NAMESPACE, rancher.TLS_SECRET)
    deadline, last = ctx.deadline(ANSWER_SECONDS, f"setting up {_url(wanted)}"), ""
    for _ in deadline.ticks(2.0):
        _wait(ctx, wanted)
        try:
            _set_up(ctx, wanted)
        except GpuctlError as error:
            if error.status not in STARTING:
                raise
            last = f"{error.what} {error.cause}".strip()
            ctx.say("progress", last, phase=PHASE, target=f"rancher/{wanted.hostname}")
        else:
            return
    deadline.check(where=_url(wanted), cause=last, next="kubectl -n cattle-system logs deployment/rancher")


def _set_up(ctx: Context, wanted: Rancher) -> None:
    api, first = client(ctx, wanted), first_password(ctx)
    # made before it is used: a run that is killed in between is continued with the same one
    current = ctx.redactor.add(ctx.workspace.secret(CURRENT))
    token = ctx.redactor.add(api.login(first))
    if token:
        api.change_password(token, first, current)
        ctx.say("target", "password rotated", phase=PHASE, target=f"rancher/{wanted.hostname}")
    elif (ctx.kubernetes.find(SERVER_URL) or {}).get("value") == _url(wanted):
        return
    else:
        token = ctx.redactor.add(api.login(current))
    if not token:
        raise GpuctlError(
            "Rancher takes neither its first password nor the one that gpuctl gave it",
            where=f"{_url(wanted)}, user admin",
            cause=f"somebody changed it; {ctx.workspace.secrets / CURRENT} holds the last one known here",
            next=f"write the password into that file, or: kubectl -n {rancher.NAMESPACE} exec deployment/rancher --"
            " reset-password; then run the same command again",
        )
    api.set(token, "server-url", _url(wanted))
    api.logout(token)
    ctx.say("target", f"server-url {_url(wanted)}", phase=PHASE, target=f"rancher/{wanted.hostname}")


def _wait(ctx: Context, wanted: Rancher) -> None:
    deadline = ctx.deadline(ANSWER_SECONDS, f"waiting for {_url(wanted)}")
    watch = workloads.Watch(ctx, PHASE, rancher.NAMESPACE)
    words = ""
    for _ in deadline.ticks(1.0):
        words = problem(ctx, wanted) or workloads.behind(ctx.kubernetes.get(DEPLOYMENT))
        if not words:
            ctx.say("target", "answers", phase=PHASE, target=f"rancher/{wanted.hostname}")
            return
        ctx.say("progress", words, phase=PHASE, target=f"rancher/{wanted.hostname}")
        watch.look()
    raise GpuctlError(
        f"Rancher is silent: {deadline.what}, not done within {deadline.seconds:.0f} s",
        where=f"{_url(wanted)} at {ctx.spec.network.ingress_vip}",
        cause=words,
        next=f"kubectl -n {rancher.NAMESPACE} get pods,ingress,certificate; then run the same command again",
    )
