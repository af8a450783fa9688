"""What is shown of a release, and when its record differs from what is wanted."""

from __future__ import annotations

from dataclasses import replace

from gpuctl.phases import releases
from gpuctl.render.charts import Release
from gpuctl.systems.helm import Installed

WANTED = Release("hub", "jupyterhub", "jupyterhub", "4.4.0", "https://charts.example", {"a": {"b": 1}})
INSTALLED = Installed("hub", "jupyterhub", 3, "deployed", "jupyterhub", "4.4.0", {"a": {"b": 1}}, "", {})
MANIFEST = """\
---
# Source: hub/secret.yaml
kind: Secret
apiVersion: v1
metadata:
  name: hub
data:
  hub.config.ConfigurableHTTPProxy.auth_token: "c2VjcmV0LW9uZQ=="
  values.yaml: |
    c2VjcmV0LXR3bw==
type: Opaque
---
# Source: hub/configmap.yaml
apiVersion: v1
kind: ConfigMap
data:
  open: c2VjcmV0LWxpa2U=
"""


def test_a_diff_never_shows_what_is_in_a_secret() -> None:
    shown = releases._shown(MANIFEST)
    assert "c2VjcmV0LW9uZQ" not in shown
    assert "c2VjcmV0LXR3bw" not in shown
    assert "type: Opaque" in shown
    assert "open: c2VjcmV0LWxpa2U=" in shown
    assert releases._difference(shown, releases._shown(MANIFEST.replace("LW9uZQ", "LW5ldw"))) == ""


def test_a_record_differs_by_its_status_its_chart_and_its_values_but_not_by_what_fleet_adds() -> None:
    assert releases.differences(INSTALLED, WANTED) == []
    fleet = {"fleet": {"clusterLabels": {"name": "local"}}}
    assert releases.differences(replace(INSTALLED, values={"a": {"b": 1}, "global": fleet}), WANTED) == []
    assert releases.differences(replace(INSTALLED, values={"a": {"b": 2}}), WANTED) == ["values a.b"]
    # Helm's JSON tells no 2.0 from 2
    half, whole = {"a": [{"cpus": 2.0}]}, {"a": [{"cpus": 2}]}
    assert releases.differences(replace(INSTALLED, values=whole), replace(WANTED, values=half)) == []
    assert releases.differences(replace(INSTALLED, version="4.3.0"), WANTED) == ["jupyterhub 4.3.0 -> 4.4.0"]
    assert releases.differences(replace(INSTALLED, status="failed"), WANTED) == ["left failed by an earlier run"]
