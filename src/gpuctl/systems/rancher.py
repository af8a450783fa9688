"""Rancher's API through the ingress: its own accounts, for the first login. Everything else is Kubernetes objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gpuctl.run.errors import GpuctlError

if TYPE_CHECKING:
    from gpuctl.systems.https import Answer, Https

ADMIN = "admin"


class Rancher:
    """Raises GpuctlError only."""

    def __init__(self, https: Https) -> None:
        self._https = https

    def pings(self) -> bool:
        """Whether it says pong."""
        answer = self._https.request("GET", "/ping")
        return answer.status == 200 and str(answer.body).strip() == "pong"

    def login(self, password: str) -> str:
        """A token of the admin; "" when the password is not the right one. ``logout`` ends it."""
        body = {"username": ADMIN, "password": password, "responseType": "json", "description": "gpuctl"}
        answer = self._https.request("POST", "/v3-public/localProviders/local?action=login", body=body)
        if answer.status == 401:
            return ""
        return str(self._good(answer, "login")["token"])

    def change_password(self, token: str, old: str, new: str) -> None:
        """Of the admin."""
        body = {"currentPassword": old, "newPassword": new}
        answer = self._https.request("POST", "/v3/users?action=changepassword", body=body, headers=_bearer(token))
        self._good(answer, "changepassword")

    def set(self, token: str, name: str, value: str) -> None:
        """A setting of Rancher."""
        body = {"name": name, "value": value}
        self._good(
            self._https.request("PUT", f"/v3/settings/{name}", body=body, headers=_bearer(token)), f"setting {name}"
        )

    def logout(self, token: str) -> None:
        self._https.request("POST", "/v3/tokens?action=logout", body={}, headers=_bearer(token))

    def _good(self, answer: Answer, what: str) -> Any:
        if answer.status in (200, 201):
            return answer.body
        said = answer.body.get("message", "") if isinstance(answer.body, dict) else str(answer.body)[:200]
        raise GpuctlError(
            f"Rancher refused ({what}): {answer.status}",
            where=self._https.where,
            cause=str(said),
            next="kubectl -n cattle-system logs deployment/rancher; then run the same command again",
            status=answer.status,
        )


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
