"""JupyterHub as its users have it: a temporary user starts a notebook of each profile, works in it, and goes again.

Everything goes the way of a browser: the hub's REST API and kernels by websocket, through the ingress. Cards that
others hold are theirs: a profile that waits for them is not measured. What a killed run left behind goes first.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from gpuctl.context import Context
from gpuctl.phases import workloads
from gpuctl.phases.gpu import observe
from gpuctl.phases.jupyter import reach
from gpuctl.render import jupyterhub
from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, GpuctlError
from gpuctl.spec.resolved import JupyterHub, Profile
from gpuctl.systems.jupyterhub import Hub as Api
from gpuctl.verify import storage
from gpuctl.verify.facts import SCRATCH_SHARE, Compute, Hub, Notebook

# no character that any naming scheme of KubeSpawner would escape
USER = "gpuctlverify"
PODS = f"/api/v1/namespaces/{jupyterhub.NAMESPACE}/pods"
CLAIMS = f"/api/v1/namespaces/{jupyterhub.NAMESPACE}/persistentvolumeclaims"
SPAWN_SECONDS, STOP_SECONDS, CODE_SECONDS = 300.0, 90.0, 120.0
SPEED_ROUNDS = 4
# what cannot be scheduled by then waits for somebody to give something back
HELD_SECONDS = 15.0
TROUBLE_SECONDS = 60.0
TOKEN_SECONDS = 3600
MARKER = f"{jupyterhub.HOME}/.gpuctl-verify"
METADATA = "169.254.169.254"


def hub(ctx: Context) -> Hub:
    """The hub and its namespace, whether it answers or not. GpuctlError only when the cluster does not."""
    namespaces = ctx.kubernetes.list("/api/v1/namespaces", fieldSelector=f"metadata.name={jupyterhub.NAMESPACE}")
    labels = (namespaces[0]["metadata"].get("labels") or {}) if namespaces else {}
    pods = tuple(ctx.kubernetes.list(PODS))
    release = ctx.helm.installed().get(f"{jupyterhub.NAMESPACE}/{jupyterhub.NAME}")
    found = Hub("", "", 0.0, release.version if release else "", release.app if release else "", labels, pods)
    assert ctx.spec.jupyterhub is not None
    try:
        api = reach.client(ctx, ctx.spec.jupyterhub)
        started = time.monotonic()
        version = api.version()
        took = time.monotonic() - started
        if not api.healthy():
            return replace(found, error="it does not call itself healthy", version=version)
        api.info()
    except GpuctlError as error:
        return replace(found, error=f"{error.what}{f' ({error.cause})' if error.cause else ''}")
    return replace(found, version=version, took=took)


def notebooks(ctx: Context, known: Hub | GpuctlError | None = None) -> dict[str, Notebook]:
    """A notebook of each profile in turn, by profile. GpuctlError when the hub (``known``: as just seen) is down."""
    settings = ctx.spec.jupyterhub
    assert settings is not None
    seen = known or hub(ctx)
    if isinstance(seen, GpuctlError):
        raise seen
    if seen.error:
        raise GpuctlError(seen.cause, cause=seen.error, next="gpuctl jupyter")
    api = reach.client(ctx, settings)
    found: dict[str, Notebook] = {}
    with _user(ctx, api) as user:
        token = ctx.redactor.add(api.token_for(user, TOKEN_SECONDS))
        probe = _Probe(ctx, settings, api, user, token)
        for number, profile in enumerate(settings.profiles):
            ctx.say("progress", f"notebook {profile.name}", phase="verify", done=number, total=len(settings.profiles))
            found[profile.name] = probe.notebook(profile, first=number == 0)
            if ctx.stop.is_set():
                raise GpuctlError("looking at the notebooks: interrupted")
    return found


@contextmanager
def _user(ctx: Context, api: Api) -> Iterator[str]:
    for left in api.users():
        if left.startswith(USER):
            _remove(ctx, api, left)
    user = f"{USER}{secrets.token_hex(3)}"
    api.create_user(user)
    try:
        yield user
    finally:
        _remove(ctx, api, user)


def _remove(ctx: Context, api: Api, user: str) -> None:
    """Server, user and home; not stopped by an interrupt, which is when it matters.

    What cannot be removed takes no measurement along: it is said, and the next run tries it again.
    """
    deadline = Deadline.after(STOP_SECONDS, f"removing the user {user}")
    try:
        try:
            api.stop(user, deadline)
            api.delete_user(user)
        finally:
            for claim in ctx.kubernetes.list(CLAIMS):
                if _belongs(claim, user):
                    storage.discard(ctx, claim)
                    ctx.kubernetes.delete(f"{CLAIMS}/{claim['metadata']['name']}")
    except GpuctlError as error:
        ctx.say("warning", f"the user {user} of the notebooks is left behind: {error.what}", phase="verify")


def _belongs(item: Mapping[str, Any], user: str) -> bool:
    return bool((item["metadata"].get("labels") or {}).get("hub.jupyter.org/username") == user)


def _script() -> str:
    return (files("gpuctl.verify") / "in_notebook.py").read_text(encoding="utf-8")


class _Held(Exception):
    """Somebody has what the notebook waits for; the text names them."""


@dataclass
class _Probe:
    """One user's notebooks, one after the other."""

    ctx: Context
    settings: JupyterHub
    api: Api
    user: str
    token: str

    def notebook(self, profile: Profile, *, first: bool) -> Notebook:
        found = Notebook()
        try:
            found = replace(found, ready=self._start(profile))
            found = replace(found, node=str(self._pod()["spec"]["nodeName"]))
            with self._kernel() as run:
                found = replace(found, compute=Compute(**run(f"compute({bool(profile.slices)!r})")))
                if first:
                    found = self._more(found, run)
            if first:
                found = replace(found, kept=self._kept(profile))
        except _Held as held:
            found = replace(found, held=str(held))
        except GpuctlError as error:
            found = replace(found, error=f"{error.what}{f' ({error.cause.splitlines()[0]})' if error.cause else ''}")
        try:
            took = self._stop()
        except GpuctlError as error:
            return replace(found, error=found.error or error.what)
        return replace(found, released=took) if found.ready is not None else found

    def _start(self, profile: Profile) -> float:
        """Seconds until the hub calls it ready, and it is."""
        deadline = self.ctx.deadline(SPAWN_SECONDS, f"starting a notebook {profile.name}")
        started = time.monotonic()
        self.api.start(self.user, profile.name)
        last, waiting, troubled = "", None, None
        try:
            for message in self.api.progress(self.user, deadline):
                last = message or last
                pod = self._pod()
                waiting = self._held(pod, waiting)
                troubled = self._troubled(pod, troubled)
        except GpuctlError as error:
            if "exceeded quota" in str(error.what):
                # the hub passes on the API server's answer, of which what follows the message is JSON for programs
                used = str(error.what).partition("exceeded quota")[2].partition('"')[0]
                raise _Held(f"the quota is used up: {used.strip(' :')}") from error
            raise
        for _ in deadline.within(STOP_SECONDS, deadline.what).ticks(0.5):
            if self.api.server(self.user).ready:
                return time.monotonic() - started
        raise GpuctlError("the notebook does not get ready", cause=last)

    def _held(self, pod: Mapping[str, Any], since: float | None) -> float | None:
        """Since when the pod has found no node; _Held when that lasts and others hold cards it wants."""
        conditions = (pod.get("status") or {}).get("conditions", ())
        words = [c.get("message", "") for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"]
        if not words:
            return None
        since = since or time.monotonic()
        if time.monotonic() - since > HELD_SECONDS:
            holders = [offer.holders for offer in observe.offers(self.ctx).values() if offer.holders]
            if "nvidia.com/" in words[0] and holders:
                raise _Held(f"cards are held by {', '.join(holders)}")
            raise GpuctlError("no node can take the notebook", cause=words[0])
        return since

    def _troubled(self, pod: Mapping[str, Any], since: float | None) -> float | None:
        trouble = next(workloads.troubles([pod] if pod else []), None)
        if trouble is None:
            return None
        since = since or time.monotonic()
        if time.monotonic() - since > TROUBLE_SECONDS:
            raise GpuctlError(f"the notebook does not start: {trouble.reason}", cause=trouble.message)
        return since

    def _pod(self) -> Mapping[str, Any]:
        pods = self.ctx.kubernetes.list(PODS, labelSelector="component=singleuser-server")
        return next((pod for pod in pods if _belongs(pod, self.user)), {})

    @contextmanager
    def _kernel(self) -> Iterator[Callable[[str], Any]]:
        """Calls functions of in_notebook.py in a kernel and returns what they print."""

        def run(call: str) -> Any:
            said = kernel.run(call, self.ctx.deadline(CODE_SECONDS, f"running code in the notebook of {self.user}"))
            try:
                return json.loads(said)
            except ValueError as error:
                raise GpuctlError("the notebook answers something unexpected", cause=said[-300:]) from error

        with self.api.kernel(self.user, self.token) as kernel:
            kernel.run(_script(), self.ctx.deadline(CODE_SECONDS, f"preparing the notebook of {self.user}"))
            yield run

    def _more(self, found: Notebook, run: Callable[[str], Any]) -> Notebook:
        """What one notebook shows for all: isolation and scratch."""
        targets = self._targets(found.node)
        reached = tuple(run(f"reached({targets!r})"))
        found = replace(found, targets=tuple(name for name, _, _ in targets), reached=reached)
        if not self.settings.scratch:
            return found
        rounds: list[tuple[float, float]] = []
        with ThreadPoolExecutor(max_workers=1) as pool:
            for _ in range(SPEED_ROUNDS):
                disk = pool.submit(self._disk, found.node)
                rounds.append((float(run(f"write_speed({self.settings.scratch.mount!r}, 0)")), disk.result()))
                if rounds[-1][0] >= rounds[-1][1] * SCRATCH_SHARE:
                    break
        scratch, host = max(rounds, key=lambda speeds: speeds[0] / speeds[1])
        return replace(found, scratch=scratch, disk=host)

    def _kept(self, profile: Profile) -> bool:
        """Whether a file in the home is there again after the notebook was stopped and started."""
        text = secrets.token_hex(16)
        with self._kernel() as run:
            run(f"keep({MARKER!r}, {text!r})")
        self._stop()
        self._start(profile)
        with self._kernel() as run:
            return bool(run(f"kept({MARKER!r}, {text!r})"))

    def _disk(self, name: str) -> float:
        """As the notebook measures it at the same time, on its host."""
        assert self.ctx.spec.storage.scratch is not None
        call = f"write_speed({self.ctx.spec.storage.scratch.mount!r}, 1)"
        deadline = self.ctx.deadline(CODE_SECONDS, f"measuring the scratch disk of {name}")
        node = self.ctx.spec.node(name)
        script = f"python3 - <<'END_OF_SCRIPT'\n{_script()}\n\n{call}\nEND_OF_SCRIPT"
        done = self.ctx.ssh.run(node, script, deadline=deadline)
        try:
            return float(json.loads(done.stdout))
        except ValueError as error:
            raise GpuctlError(f"the scratch disk of {name} was not measured", cause=done.stderr[-300:]) from error

    def _targets(self, node: str) -> list[tuple[str, str, int]]:
        """What accepts connections here, and notebooks have no business with; the hub, which they have."""
        spec = self.ctx.spec
        endpoint = spec.site.proxmox.endpoint.removeprefix("https://").rstrip("/")
        host, _, port = endpoint.partition(":")
        proxy = self.ctx.kubernetes.get(f"/api/v1/namespaces/{jupyterhub.NAMESPACE}/services/proxy-api")
        return [
            ("hub", "hub", 8081),
            ("Kubernetes API", str(spec.network.api_vip), 6443),
            ("Kubernetes API by its Service", str(spec.kubernetes.service_cidr[1]), 443),
            (f"kubelet of {node}", str(spec.node(node).address), 10250),
            (f"SSH of {spec.servers[0].name}", str(spec.servers[0].address), 22),
            ("the proxy's API", str(proxy["spec"]["clusterIP"]), 8001),
            ("Proxmox API", host, int(port or 443)),
            ("cloud metadata", METADATA, 80),
        ]

    def _stop(self) -> float:
        """Seconds until the pod is gone and with it its hold on cards; of one that does not go, those waited."""
        started = time.monotonic()
        deadline = Deadline.after(STOP_SECONDS, f"stopping the notebook of {self.user}", self.ctx.stop)
        with suppress(DeadlineExceeded):
            self.api.stop(self.user, deadline)
        for _ in deadline.ticks(0.5):
            if not self._pod():
                break
        return time.monotonic() - started
