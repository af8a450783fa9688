"""Where Terraform keeps its state."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.spec.model import Cluster
from gpuctl.spec.resolved import Resolved
from gpuctl.spec.rules.base import Broken, Rule

PLACE = ("site", "backend")
# what each cannot do without and has no variable for. Not here: cloud, which is no backend, and remote, whose settings
# are more than texts
KNOWN: dict[str, tuple[str, ...]] = {
    "azurerm": ("container_name", "key"),
    "consul": ("path",),
    "cos": ("bucket",),
    "gcs": ("bucket",),
    "http": (),
    "kubernetes": ("secret_suffix",),
    "local": (),
    "oss": ("bucket",),
    "pg": (),
    "s3": ("bucket", "key"),
}


def _complete(_: Resolved, cluster: Cluster) -> Iterator[Broken]:
    settings = cluster.site.backend
    if not settings:
        return
    kind = settings.get("type")
    if kind is None:
        yield PLACE, "the backend has settings and no type", f"type: one of {', '.join(KNOWN)}"
    elif kind not in KNOWN:
        yield (*PLACE, "type"), f"Terraform has no backend {kind!r}", f"one of {', '.join(KNOWN)}"
    elif missing := [name for name in KNOWN[kind] if name not in settings]:
        yield (
            PLACE,
            f"the backend {kind} wants {', '.join(missing)} as well",
            "developer.hashicorp.com has its settings",
        )


RULES = (
    Rule(
        "BAK-01", "error", "The backend is one of Terraform's", "terraform init would refuse it.", _complete,
        "developer.hashicorp.com/terraform/language/backend: required settings of each",
    ),
)  # fmt: skip
