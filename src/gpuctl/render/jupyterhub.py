"""JupyterHub: values of the chart Zero to JupyterHub, and what its Secret must hold.

Keys: the chart's own schema and its jupyterhub_config.py. Secrets are never among the values: the chart merges the key
values.yaml of the Secret named by hub.existingSecret into them inside the hub's pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpuctl.render import certificates, gpu, policies
from gpuctl.render.charts import Release, core_tolerations, quantity, tolerations
from gpuctl.spec import fit
from gpuctl.spec.resolved import Auth, JupyterHub, Ldap, Node, OAuth, Profile, Resolved, SecretRef
from gpuctl.spec.versions import table

NAME = CHART = "jupyterhub"
NAMESPACE = policies.NAMESPACE
SECRET = "hub-gpuctl"
SERVICE = "gpuctl"
TOKEN = f"hub.services.{SERVICE}.apiToken"
TLS_SECRET = "hub-tls"
DATABASE_CLAIM = "hub-db-dir"
# the default command's own user and group in the images of Jupyter and in ours
UID, GID = 1000, 100
HOME = "/home/jovyan"
# large images are pulled for as long as they take, and what users start is theirs
BACKGROUND = ("continuous-image-puller", "singleuser-server")
# a notebook server imported from a large image on a cold disk
HTTP_SECONDS = 120
LDAPS_PORTS = (636, 3269)
SCOPES = ("admin:users", "admin:servers", "access:servers", "list:users", "tokens", "read:hub")


@dataclass(frozen=True)
class SecretKeys:
    """What the Secret holds beside the hub's own generated keys.

    ``generated``: made once, with their length in bytes; ``given``: (section, trait) of hub.config by reference.
    """

    generated: Mapping[str, int]
    given: Mapping[tuple[str, str], SecretRef]
    admin_password: bool


def secret_keys(hub: JupyterHub) -> SecretKeys:
    """Generated keys are named as the chart looks them up."""
    auth = hub.auth
    given: dict[tuple[str, str], SecretRef] = {}
    if auth.kind == "oauth" and auth.oauth:
        given["GenericOAuthenticator", "client_secret"] = auth.oauth.client_secret
    if auth.kind == "ldap" and auth.ldap and auth.ldap.search_password:
        given["LDAPAuthenticator", "lookup_dn_search_password"] = auth.ldap.search_password
    if auth.kind == "dummy" and auth.password:
        given["SharedPasswordAuthenticator", "user_password"] = auth.password
    generated = {TOKEN: 32, "hub.config.JupyterHub.cookie_secret": 32, "hub.config.CryptKeeper.keys": 32}
    return SecretKeys(generated, given, auth.kind == "dummy" and bool(auth.password and auth.admins))


def release(spec: Resolved) -> Release | None:
    """JupyterHub; None when the spec has none."""
    hub = spec.jupyterhub
    if hub is None:
        return None
    values: dict[str, Any] = {
        "cull": {"enabled": True, "every": hub.culling_every, "timeout": hub.culling_idle, "users": False},
        "hub": _hub(spec, hub),
        "ingress": _ingress(spec, hub),
        "prePuller": {
            "continuous": {"enabled": True},
            "extraTolerations": tolerations(fit.candidates(spec)),
            # it would hold up Helm for as long as images of 20 GB take
            "hook": {"enabled": False},
        },
        "proxy": {
            "chp": {"networkPolicy": {"egressAllowRules": {"cloudMetadataServer": False}}},
            "service": {"type": "ClusterIP"},
        },
        "scheduling": {
            "corePods": {"tolerations": core_tolerations(spec)},
            # it packs nodes so that others can be given back, which nobody does with these; and it lags behind
            # Kubernetes' releases
            "userScheduler": {"enabled": False},
        },
        "singleuser": _singleuser(spec, hub),
    }
    repository = table()["charts"][CHART]
    return Release(NAME, NAMESPACE, CHART, hub.version, repository, values, policies.LABELS, BACKGROUND)


def _hub(spec: Resolved, hub: JupyterHub) -> dict[str, Any]:
    return {
        "config": {
            **_authentication(hub),
            "KubeSpawner": {
                "container_security_context": {"capabilities": {"drop": ["ALL"]}},
                # homes outlive their users' accounts
                "delete_pvc": False,
                "http_timeout": HTTP_SECONDS,
                "pod_security_context": {
                    "fsGroupChangePolicy": "OnRootMismatch",
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            },
        },
        # on the nodes' own disks: SQLite's locks do not work on NFS
        "db": {
            "pvc": {
                "annotations": {"helm.sh/resource-policy": "keep"},
                "storage": quantity(policies.HUB_DATABASE),
                "storageClassName": spec.storage.local.storage_class,
            },
            "type": "sqlite-pvc",
        },
        "existingSecret": SECRET,
        "loadRoles": {SERVICE: {"scopes": list(SCOPES), "services": [SERVICE]}},
        "networkPolicy": {"egressAllowRules": {"cloudMetadataServer": False}},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "services": {SERVICE: {"display": False}},
    }


# --- who may log in


def _authentication(hub: JupyterHub) -> dict[str, Any]:
    """Sections of hub.config; JupyterHub 5 denies everybody who is not allowed."""
    auth = hub.auth
    allowed: dict[str, Any] = {"allow_all": auth.allow_all}
    if auth.admins:
        allowed["admin_users"] = list(auth.admins)
    if auth.allowed_users:
        allowed["allowed_users"] = list(auth.allowed_users)
    sections: dict[str, Any] = {"Authenticator": allowed}
    if auth.kind == "oauth" and auth.oauth:
        sections["GenericOAuthenticator"] = _oauth(hub.hostname, auth.oauth)
    if auth.kind == "ldap" and auth.ldap:
        sections["LDAPAuthenticator"] = _ldap(auth.ldap)
    return {**sections, "JupyterHub": {"authenticator_class": _authenticator(auth)}}


def _authenticator(auth: Auth) -> str:
    names = {"oauth": "generic-oauth", "ldap": "ldapauthenticator.LDAPAuthenticator"}
    # DummyAuthenticator's own password is deprecated
    return names.get(auth.kind) or ("shared-password" if auth.password else "dummy")


def _oauth(hostname: str, oauth: OAuth) -> dict[str, Any]:
    return {
        "authorize_url": oauth.authorize_url,
        "client_id": oauth.client_id,
        "oauth_callback_url": f"https://{hostname}/hub/oauth_callback",
        "scope": list(oauth.scopes),
        "token_url": oauth.token_url,
        "userdata_url": oauth.userdata_url,
        "username_claim": oauth.username_claim,
    }


def _ldap(ldap: Ldap) -> dict[str, Any]:
    section: dict[str, Any] = {
        "server_address": ldap.server,
        "server_port": ldap.port,
        "tls_strategy": "on_connect" if ldap.port in LDAPS_PORTS else "before_bind",
        "user_attribute": ldap.user_attribute,
    }
    if ldap.bind_dn_template:
        section["bind_dn_template"] = list(ldap.bind_dn_template)
    else:
        section["lookup_dn"] = True
    if ldap.search_base:
        section["user_search_base"] = ldap.search_base
    if ldap.search_user:
        section["lookup_dn_search_user"] = ldap.search_user
    if ldap.allowed_groups:
        section["allowed_groups"] = list(ldap.allowed_groups)
    return section


# --- how it is reached


def _ingress(spec: Resolved, hub: JupyterHub) -> dict[str, Any]:
    controller = spec.kubernetes.ingress
    if controller == "none":
        return {"enabled": False}
    annotations = certificates.on_ingress(spec)
    if controller == "nginx":
        # F5's controller: 1 MB bodies and 60 s otherwise; notebooks are larger and kernels live longer. It buffers
        # answers, which would keep back what the hub says while a notebook starts
        annotations |= {
            "nginx.org/client-max-body-size": "0",
            "nginx.org/proxy-buffering": "False",
            "nginx.org/proxy-read-timeout": "3600s",
            "nginx.org/proxy-send-timeout": "3600s",
            "nginx.org/websocket-services": "proxy-public",
        }
    return {
        "annotations": annotations,
        "enabled": True,
        "hosts": [hub.hostname],
        "ingressClassName": controller,
        "tls": [{"hosts": [hub.hostname], "secretName": TLS_SECRET}],
    }


# --- notebooks


def _singleuser(spec: Resolved, hub: JupyterHub) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [{"emptyDir": {"medium": "Memory", "sizeLimit": quantity(hub.shm)}, "name": "shm"}]
    mounts = [{"mountPath": "/dev/shm", "name": "shm"}]
    if hub.scratch and spec.storage.scratch:
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": quantity(hub.scratch.size)}},
            "storageClassName": spec.storage.scratch.storage_class,
        }
        volumes.append({"ephemeral": {"volumeClaimTemplate": {"spec": claim}}, "name": "scratch"})
        mounts.append({"mountPath": hub.scratch.mount, "name": "scratch"})
    for path, name in policies.settings(spec, hub):
        mounts.append({"mountPath": path, "name": "settings", "subPath": name})
    if policies.settings(spec, hub):
        volumes.append({"configMap": {"name": policies.SETTINGS}, "name": "settings"})
    name, tag = _image(hub.image)
    return {
        # it would add a privileged container; a network policy does the same
        "cloudMetadata": {"blockWithIptables": False},
        "defaultUrl": "/lab",
        "extraNodeAffinity": {"required": [_term(spec, None)]} if spec.agents else {},
        "extraPodConfig": _pod(gpus=False),
        "extraTolerations": tolerations(_plain(fit.candidates(spec))),
        "fsGid": GID,
        "image": {"name": name, "tag": tag},
        # names in kube-system only: what else may be reached, the release policies says
        "networkPolicy": {
            "egressAllowRules": {
                "cloudMetadataServer": False,
                "dnsPortsCloudMetadataServer": False,
                "dnsPortsKubeSystemNamespace": True,
                "dnsPortsPrivateIPs": False,
                "nonPrivateIPs": False,
                "privateIPs": False,
            },
            "enabled": True,
        },
        "profileList": [_profile(spec, hub, profile, first=not number) for number, profile in enumerate(hub.profiles)],
        "startTimeout": hub.start_timeout,
        "storage": {
            "capacity": quantity(hub.home_size),
            "dynamic": {"storageClass": hub.home_class},
            "extraVolumeMounts": mounts,
            "extraVolumes": volumes,
            "homeMountPath": HOME,
        },
        "uid": UID,
    }


def _image(reference: str) -> tuple[str, str]:
    """Name and tag as the chart wants them, which joins them with a colon; a digest's colon is one too."""
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def _profile(spec: Resolved, hub: JupyterHub, profile: Profile, *, first: bool) -> dict[str, Any]:
    resources = fit.request(spec, profile)
    nodes = fit.runners(spec, hub, profile)
    override: dict[str, Any] = {"extra_pod_config": _pod(gpus=bool(resources)), "image": profile.image}
    if resources:
        override["extra_resource_limits"] = {name: str(number) for name, number in resources.items()}
    if profile.cpus:
        override |= {"cpu_guarantee": profile.cpus * fit.CPU_GUARANTEE, "cpu_limit": profile.cpus}
    if profile.memory:
        # KubeSpawner's G is 1024^3
        memory = quantity(profile.memory).removesuffix("i")
        override |= {"mem_guarantee": memory, "mem_limit": memory}
    if spec.agents:
        override["node_affinity_required"] = [_term(spec, profile)]
    if not resources and _plain(nodes) != nodes:
        cards = {"key": "nvidia.com/gpu.present", "operator": "NotIn", "values": ["true"]}
        override["node_affinity_preferred"] = [{"preference": {"matchExpressions": [cards]}, "weight": 100}]
    override["tolerations"] = tolerations(nodes if resources else _plain(nodes))
    entry = {"display_name": profile.title, "kubespawner_override": override, "slug": profile.name}
    return {"default": True, **entry} if first else entry


def _plain(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Those without GPUs, which notebooks without GPUs should use; all when there are none."""
    return tuple(node for node in nodes if not node.gpus) or nodes


def _pod(*, gpus: bool) -> dict[str, str]:
    """A profile's own replaces the common one whole."""
    common = {"priorityClassName": policies.PRIORITY_CLASS}
    return {**common, "runtimeClassName": gpu.RUNTIME_CLASS} if gpus else common


def _term(spec: Resolved, profile: Profile | None) -> dict[str, Any]:
    """Which workers: the same resource name may mean whole cards here and slices there."""
    wanted = [{"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"}]
    cards = [node.gpus for node in fit.gpu_nodes(spec) if node.gpus]
    layouts = sorted({gpus.mig for gpus in cards if gpus.mig})
    if layouts and fit.mig_strategy(fit.gpu_nodes(spec)) == "single" and profile:
        if profile.slices:
            mine = [f"all-{name}" for name, _ in profile.slices]
            wanted.append({"key": gpu.MIG_LABEL, "operator": "In", "values": mine})  # type: ignore[dict-item]
        elif profile.gpus:
            wanted.append({"key": gpu.MIG_LABEL, "operator": "NotIn", "values": layouts})  # type: ignore[dict-item]
    if profile and profile.gpus > 1 and any(gpus.sharing == "time-slicing" for gpus in cards):
        wanted.append({"key": gpu.PLUGIN_LABEL, "operator": "DoesNotExist"})
    return {"matchExpressions": wanted}
