"""The cluster's kubeconfig: in its own 0600 file, and on request merged into the operator's."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import yaml

from gpuctl.run.errors import Exit, GpuctlError
from gpuctl.run.workspace import Workspace, write_private
from gpuctl.spec.resolved import Resolved


def through_vip(text: str, resolved: Resolved) -> str:
    """K3s' own admin kubeconfig with the VIP for its address and the cluster's name for its names."""
    found = _parsed(text, "K3s' kubeconfig")
    cluster, user = found["clusters"][0]["cluster"], found["users"][0]["user"]
    name = resolved.name
    made = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {**cluster, "server": f"https://{resolved.network.api_vip}:6443"}},
        ],
        "users": [{"name": f"{name}-admin", "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin"}}],
        "current-context": name,
    }
    return yaml.safe_dump(made, sort_keys=False)


def merge(workspace: Workspace, resolved: Resolved) -> Path:
    """Add the cluster to the operator's kubeconfig, in place of an older entry; where that is.

    GpuctlError when the names there belong to another server.
    """
    ours = _parsed(workspace.kubeconfig.read_text(encoding="utf-8"), str(workspace.kubeconfig))
    path = _operators()
    theirs = _load(path)
    _refuse_another(theirs, ours, path, workspace.kubeconfig)
    for section in ("clusters", "users", "contexts"):
        names = {entry["name"] for entry in ours[section]}
        kept = [entry for entry in theirs.get(section) or [] if entry.get("name") not in names]
        theirs[section] = [*kept, *ours[section]]
    theirs.setdefault("current-context", resolved.name)
    write_private(path, yaml.safe_dump(theirs, sort_keys=False))
    return path


def _refuse_another(theirs: dict[str, Any], ours: dict[str, Any], path: Path, own: Path) -> None:
    """Entries of our names would be replaced: their server must be ours."""
    cluster, user = ours["clusters"][0], ours["users"][0]["name"]
    name, server = cluster["name"], cluster["cluster"]["server"]
    servers = {c.get("name"): (c.get("cluster") or {}).get("server") for c in theirs.get("clusters") or []}
    touched = {name}
    for context in theirs.get("contexts") or []:
        uses = context.get("context") or {}
        if context.get("name") == name or uses.get("user") == user:
            touched.add(uses.get("cluster"))
    for other in sorted(str(servers[t]) for t in touched if t in servers and servers[t] != server):
        raise GpuctlError(
            f"your kubeconfig has another cluster under the name {name}",
            where=str(path),
            cause=f"the server there is {other}, this cluster's is {server}; nothing was changed",
            next="rename the other one's entries; or, if it is no longer needed: "
            f"kubectl config delete-context {name}; kubectl config delete-cluster {name}; "
            f"kubectl config delete-user {user}\n"
            f"without merging: export KUBECONFIG={shlex.quote(str(own))}",
            exit_code=Exit.USAGE,
        )


def remove(resolved: Resolved) -> bool:
    """Take the cluster out of the operator's kubeconfig; whether it was there."""
    path = _operators()
    theirs = _load(path)
    context = next((c for c in theirs.get("contexts") or [] if c.get("name") == resolved.name), None)
    server = f"https://{resolved.network.api_vip}:6443"
    ours = any(
        c.get("name") == resolved.name and (c.get("cluster") or {}).get("server") == server
        for c in theirs.get("clusters") or []
    )
    if context is None or not ours:
        return False
    for section, name in (
        ("clusters", resolved.name),
        ("contexts", resolved.name),
        ("users", f"{resolved.name}-admin"),
    ):
        theirs[section] = [entry for entry in theirs.get(section) or [] if entry.get("name") != name]
    if theirs.get("current-context") == resolved.name:
        theirs["current-context"] = ""
    write_private(path, yaml.safe_dump(theirs, sort_keys=False))
    return True


def _operators() -> Path:
    """Where a symlink leads, so that it stays one when the file is replaced."""
    first = os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    return (Path(first) if first else Path.home() / ".kube" / "config").resolve()


def _load(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"apiVersion": "v1", "kind": "Config"}
    return _parsed(path.read_text(encoding="utf-8"), str(path))


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text) or {"apiVersion": "v1", "kind": "Config"}
    except yaml.YAMLError as error:
        raise GpuctlError(f"{where} is not YAML", where=where, cause=str(error)) from error
    if not isinstance(found, dict):
        raise GpuctlError(f"{where} is not a kubeconfig", where=where)
    return found
