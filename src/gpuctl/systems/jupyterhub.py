"""The hub's REST API, and kernels of notebooks by websocket, as a user's browser reaches them.

Paths and answers: JupyterHub's REST API; kernel messages: Jupyter's messaging protocol 5.3.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import GpuctlError
from gpuctl.systems.https import Answer, Https

# the hub writes empty lines into a progress stream every 8 s
ANSWER_SECONDS, SILENT_SECONDS = 15.0, 30.0
# a start or a stop is answered after slow_spawn_timeout or slow_stop_timeout: 10 s, more when the hub is busy
SLOW_SECONDS = 60.0
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Server:
    """A user's notebook server. ``pending``: spawn, stop or ""."""

    ready: bool
    pending: str

    @property
    def stopped(self) -> bool:
        return not self.ready and not self.pending


class Hub:
    """As the service whose token it is given. Errors are GpuctlError, with the answer's code as ``status``."""

    def __init__(self, https: Https, token: str) -> None:
        self._https = https
        self._headers = {"Authorization": f"token {token}"}

    @property
    def where(self) -> str:
        return self._https.where

    def version(self) -> str:
        """JupyterHub's version; needs no token."""
        return str(self._call("GET", "/hub/api/")["version"])

    def healthy(self) -> bool:
        """The hub answers and its database does."""
        return self._https.request("GET", "/hub/health").status == 200

    def info(self) -> dict[str, Any]:
        """The hub's own description (versions, spawner, authenticator); only for those with a token."""
        found: dict[str, Any] = self._call("GET", "/hub/api/info")
        return found

    def users(self) -> list[str]:
        """Names of every user."""
        names: list[str] = []
        while True:
            page = self._call("GET", f"/hub/api/users?limit=200&offset={len(names)}")
            names += [str(user["name"]) for user in page]
            if len(page) < 200:
                return names

    def create_user(self, user: str) -> None:
        self._call("POST", f"/hub/api/users/{quote(user)}")

    def delete_user(self, user: str) -> None:
        """Already gone is fine."""
        try:
            self._call("DELETE", f"/hub/api/users/{quote(user)}")
        except GpuctlError as error:
            if error.status != 404:
                raise

    def token_for(self, user: str, seconds: int) -> str:
        """A token that opens this user's notebooks, for so long."""
        asked = {"expires_in": seconds, "note": "gpuctl", "scopes": [f"access:servers!user={user}"]}
        return str(self._call("POST", f"/hub/api/users/{quote(user)}/tokens", asked)["token"])

    def server(self, user: str) -> Server:
        """The user's only server."""
        servers = self._call("GET", f"/hub/api/users/{quote(user)}").get("servers") or {}
        found = servers.get("") or {}
        return Server(bool(found.get("ready")), str(found.get("pending") or ""))

    def start(self, user: str, profile: str) -> None:
        """Ask for a server. The hub ignores another profile while one is pending, so none may be."""
        if not self.server(user).stopped:
            raise GpuctlError(f"{user} has a server already", where=self.where)
        self._call("POST", f"/hub/api/users/{quote(user)}/server", {"profile": profile}, seconds=SLOW_SECONDS)

    def progress(self, user: str, deadline: Deadline) -> Iterator[str]:
        """What the hub says while the server starts, to its end, and "" now and then. GpuctlError when it failed.

        Its end is no proof: a server that was stopped meanwhile is announced as ready too; ``server`` knows.
        """
        path = f"/hub/api/users/{quote(user)}/server/progress"
        headers = {**self._headers, "Accept": "text/event-stream"}
        with self._https.lines(path, headers=headers, seconds=min(SILENT_SECONDS, deadline.left or 0.1)) as lines:
            for line in lines:
                deadline.check(where=self.where)
                event = _event(line)
                if event.get("failed"):
                    raise GpuctlError(f"the hub could not start it: {event.get('message', '')}", where=self.where)
                if event.get("ready"):
                    return
                if deadline.stop.is_set():
                    return
                yield str(event.get("message") or "")

    def stop(self, user: str, deadline: Deadline) -> None:
        """Stop the server and wait until it is gone."""
        path = f"/hub/api/users/{quote(user)}/server"
        answer = self._https.request("DELETE", path, headers=self._headers, seconds=SLOW_SECONDS)
        if answer.status not in (202, 204, 400, 404):  # 400: there is none
            raise self._refused("DELETE", "the server", answer)
        for _ in deadline.ticks(POLL_SECONDS):
            if self.server(user).stopped:
                return
        deadline.check(where=self.where)

    @contextmanager
    def kernel(self, user: str, token: str) -> Iterator[Kernel]:
        """A Python kernel in the user's running server; it goes again."""
        headers = {"Authorization": f"token {token}"}
        base = f"/user/{quote(user)}/api/kernels"
        answer = self._https.request("POST", base, body={"name": "python3"}, headers=headers)
        if answer.status != 201:
            raise self._refused("POST", base, answer)
        path = f"{base}/{answer.body['id']}"
        try:
            yield Kernel(self._https, f"{path}/channels", headers)
        finally:
            self._https.request("DELETE", path, headers=headers)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, seconds: float = ANSWER_SECONDS
    ) -> Any:
        answer = self._https.request(method, path, body=body, headers=self._headers, seconds=seconds)
        if not 200 <= answer.status < 300:
            raise self._refused(method, path, answer)
        return answer.body

    def _refused(self, method: str, what: str, answer: Answer) -> GpuctlError:
        said = answer.body.get("message", "") if isinstance(answer.body, dict) else str(answer.body)[:200]
        return GpuctlError(
            f"the hub answered {answer.status} to {method} {what}",
            where=self.where,
            cause=str(said),
            status=answer.status,
        )


class Kernel:
    """Runs code in a kernel."""

    def __init__(self, https: Https, path: str, headers: Mapping[str, str]) -> None:
        self._https, self._path, self._headers = https, path, headers

    def run(self, code: str, deadline: Deadline) -> str:
        """What the code prints. GpuctlError when it raises, or when the kernel does not get done in time."""
        import websocket

        session, message = secrets.token_hex(8), secrets.token_hex(8)
        header = {"msg_id": message, "username": "gpuctl", "session": session, "msg_type": "execute_request"}
        request = {
            "header": {**header, "version": "5.3", "date": ""},
            "parent_header": {},
            "metadata": {},
            "content": {"code": code, "silent": False, "store_history": False, "allow_stdin": False},
            "channel": "shell",
            "buffers": [],
        }
        said, failed = "", ""
        try:
            socket = websocket.create_connection(
                f"wss://{self._https.hostname}{self._path}?session_id={session}",
                socket=self._https.connect(),
                header=[f"{name}: {value}" for name, value in self._headers.items()],
                timeout=max(deadline.left, 0.1),
            )
            try:
                socket.send(json.dumps(request))
                while True:
                    socket.settimeout(max(deadline.left, 0.1))
                    answer = json.loads(socket.recv())
                    if (answer.get("parent_header") or {}).get("msg_id") != message:
                        continue
                    content = answer["content"]
                    if answer["msg_type"] == "stream" and content["name"] == "stdout":
                        said += content["text"]
                    elif answer["msg_type"] == "error":
                        failed = f"{content['ename']}: {content['evalue']}"
                    elif answer["msg_type"] == "status" and content["execution_state"] == "idle":
                        break
            finally:
                socket.close()
        except (websocket.WebSocketException, OSError, ValueError) as error:
            deadline.check(where=self._https.where, cause=str(error))
            raise GpuctlError("the kernel does not answer", where=self._https.where, cause=str(error)) from error
        if failed:
            raise GpuctlError("code failed in the notebook", where=self._https.where, cause=failed)
        return said


def _event(line: str) -> dict[str, Any]:
    """A server-sent event's data; {} of every other line."""
    if not line.startswith("data:"):
        return {}
    try:
        found = json.loads(line.removeprefix("data:"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
