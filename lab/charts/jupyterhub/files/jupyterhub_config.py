"""The hub's configuration from the chart's values, for those keys that the stand-in knows. Runs in the hub's image."""

import binascii
import os
from pathlib import Path

import yaml

FOLDER = Path("/usr/local/etc/jupyterhub")
# the operator's own Secret first: it wins
SECRETS = [FOLDER / "existing-secret", FOLDER / "secret"]


def secret(key):
    for folder in SECRETS:
        if (folder / key).exists():
            return (folder / key).read_text()
    raise SystemExit(f"neither Secret has the key {key}")


def merge(below, above):
    if isinstance(below, dict) and isinstance(above, dict):
        return {key: merge(below[key], above[key]) if key in below and key in above else above.get(key, below.get(key))
                for key in {**below, **above}}  # fmt: skip
    return above


values = {}
for folder in reversed(SECRETS):
    if (folder / "values.yaml").exists():
        values = merge(values, yaml.safe_load((folder / "values.yaml").read_text()) or {})
hub, user, storage = values["hub"], values["singleuser"], values["singleuser"]["storage"]

c = get_config()  # noqa: F821
c.JupyterHub.spawner_class = "kubespawner.KubeSpawner"
c.JupyterHub.db_url = "sqlite:///jupyterhub.sqlite"
c.JupyterHub.bind_url = "http://:8000"
c.JupyterHub.hub_bind_url = "http://:8081"
c.JupyterHub.hub_connect_url = "http://hub:8081"
c.JupyterHub.cookie_secret = binascii.a2b_hex(secret("hub.config.JupyterHub.cookie_secret"))
c.JupyterHub.cleanup_servers = False  # notebooks outlive the hub
c.JupyterHub.last_activity_interval = 60
c.JupyterHub.concurrent_spawn_limit = 64
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
c.CryptKeeper.keys = secret("hub.config.CryptKeeper.keys").split(";")
c.ConfigurableHTTPProxy.api_url = "http://proxy-api:8001"
c.ConfigurableHTTPProxy.should_start = False

spawner = c.KubeSpawner
spawner.namespace = os.environ["POD_NAMESPACE"]
chart = f"{values['Chart']['Name']}-{values['Chart']['Version']}"
spawner.common_labels = {
    "app": "jupyterhub",
    "chart": chart,
    "release": values["Release"]["Name"],
    "app.kubernetes.io/name": "jupyterhub",
    "app.kubernetes.io/instance": values["Release"]["Name"],
    "app.kubernetes.io/managed-by": "kubespawner",
}
spawner.extra_labels = {"hub.jupyter.org/network-access-hub": "true"}
spawner.image = f"{user['image']['name']}:{user['image']['tag']}"
for trait, value in {
    "allow_privilege_escalation": user["allowPrivilegeEscalation"],
    "cmd": user["cmd"],
    "cpu_guarantee": user["cpu"].get("guarantee"),
    "cpu_limit": user["cpu"].get("limit"),
    "default_url": user.get("defaultUrl"),
    "environment": user["extraEnv"],
    "events_enabled": user["events"],
    "extra_pod_config": user["extraPodConfig"],
    "fs_gid": user["fsGid"],
    "mem_guarantee": user["memory"].get("guarantee"),
    "mem_limit": user["memory"].get("limit"),
    "node_affinity_required": user["extraNodeAffinity"].get("required"),
    "profile_list": user["profileList"],
    "start_timeout": user["startTimeout"],
    "storage_access_modes": storage["dynamic"]["storageAccessModes"],
    "storage_capacity": storage["capacity"],
    "storage_class": storage["dynamic"].get("storageClass"),
    "tolerations": values["scheduling"]["userPods"]["tolerations"] + user["extraTolerations"],
    "uid": user["uid"],
}.items():
    if value is not None:
        setattr(spawner, trait, value)
purpose = {"key": "hub.jupyter.org/node-purpose", "operator": "In", "values": ["user"]}
spawner.node_affinity_preferred = [{"weight": 100, "preference": {"matchExpressions": [purpose]}}]
spawner.storage_pvc_ensure = True
spawner.pvc_name_template = "claim-{user_server}"
home = {"name": "volume-{user_server}", "mountPath": storage["homeMountPath"]}
spawner.volumes = [
    {"name": home["name"], "persistentVolumeClaim": {"claimName": spawner.pvc_name_template}},
    *storage["extraVolumes"],
]
spawner.volume_mounts = [home, *storage["extraVolumeMounts"]]

services = [
    {**service, "name": name, "api_token": secret(f"hub.services.{name}.apiToken")}
    for name, service in hub["services"].items()
]
roles = [{"name": name, **role} for name, role in hub["loadRoles"].items()]
cull = values["cull"]
if cull["enabled"]:
    name = "jupyterhub-idle-culler"
    options = [f"--timeout={cull['timeout']}", f"--cull-every={cull['every']}", "--concurrency=10"]
    scopes = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
    if cull["users"]:
        options.append("--cull-users=true")
        scopes.append("admin:users")
    command = ["python3", "-m", "jupyterhub_idle_culler", "--url=http://localhost:8081/hub/api", *options]
    services.append({"name": name, "command": command})
    roles.append({"name": name, "services": [name], "scopes": scopes})
c.JupyterHub.services = services
c.JupyterHub.load_roles = roles

# last: it wins over everything above; the merged values hold what the operator's Secret adds
for section, traits in hub["config"].items():
    c[section].update(traits)
