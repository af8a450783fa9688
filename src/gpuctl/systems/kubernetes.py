"""The Kubernetes API through the cluster's virtual IP, with the workspace's kubeconfig. Objects are plain JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import Exit, GpuctlError

if TYPE_CHECKING:
    from gpuctl.context import Context

SECONDS = 15
PAGE = 500
# how often a server that is busy is asked again, and seconds in between at most
BUSY_TIMES, BUSY_SECONDS = 10, 2.0
APPLY = "application/apply-patch+yaml"


class Kubernetes:
    """Every call has a timeout and raises GpuctlError only. ``server`` overrides the kubeconfig's address."""

    def __init__(self, kubeconfig: Path, server: str = "") -> None:
        self._kubeconfig = kubeconfig
        self._server = server
        self._client: Any = None
        self._resources: dict[str, dict[str, tuple[str, bool]]] = {}

    @classmethod
    def of(cls, ctx: Context) -> Kubernetes:
        return cls(ctx.workspace.kubeconfig)

    def at(self, server: str) -> Kubernetes:
        """The same cluster through another address (``https://10.0.0.11:6443``)."""
        return Kubernetes(self._kubeconfig, server)

    def api(self) -> Any:
        """The client (``kubernetes.client.ApiClient``)."""
        if self._client is None:
            self._client = self._new_client()
        return self._client

    def renew(self) -> None:
        """Read the kubeconfig again: it was replaced."""
        self._client = None
        self._resources.clear()

    def _new_client(self) -> Any:
        from kubernetes import client, config
        from kubernetes.config.config_exception import ConfigException

        configuration = client.Configuration()
        try:
            load: Any = config.load_kube_config
            load(str(self._kubeconfig), client_configuration=configuration)
        except (ConfigException, OSError) as error:
            raise GpuctlError(
                "there is no usable kubeconfig in the workspace",
                where=str(self._kubeconfig),
                cause=str(error),
                next="gpuctl bootstrap",
            ) from error
        if self._server:
            configuration.host = self._server
        # the client would repeat a request three times by itself, past our own deadlines
        configuration.retries = False
        configuration.proxy = None
        return client.ApiClient(configuration)

    def nodes(self) -> list[dict[str, Any]]:
        """All Node objects."""
        return self.list("/api/v1/nodes")

    def list(self, path: str, **query: object) -> list[dict[str, Any]]:
        """Every item of a collection, page by page."""
        items: list[dict[str, Any]] = []
        following = ""
        while True:
            answer = self.get(path, limit=PAGE, **query, **({"continue": following} if following else {}))
            items += answer["items"]
            following = (answer.get("metadata") or {}).get("continue", "")
            if not following:
                return items

    def get(self, path: str, **query: object) -> Any:
        """Parsed JSON of any API path, or text for the paths that answer text (/readyz)."""
        return self._call("GET", path, query=query)

    def find(self, path: str) -> Any | None:
        """As ``get``; None when there is no such object, or the cluster does not know its kind."""
        try:
            return self.get(path)
        except GpuctlError as error:
            if error.status == 404:
                return None
            raise

    def anonymous_status(self, path: str) -> int:
        """The HTTP status that somebody without credentials gets."""
        from kubernetes import client

        known = self.api().configuration
        bare = client.Configuration()
        bare.host, bare.ssl_ca_cert, bare.retries, bare.proxy = known.host, known.ssl_ca_cert, False, None
        with self.translate(f"GET {path} without credentials"), client.ApiClient(bare) as api:
            request = api.param_serialize("GET", path, header_params={"Accept": "application/json"}, auth_settings=[])
            return int(api.call_api(*request, _request_timeout=SECONDS).status)

    def post(self, path: str, body: object) -> Any:
        return self._call("POST", path, body=body)

    def patch(self, path: str, body: object, *, custom: bool = False) -> Any:
        """Strategic merge patch; ``custom``: plain merge patch, the only one for kinds that are not Kubernetes' own."""
        kind = "merge-patch" if custom else "strategic-merge-patch"
        return self._call("PATCH", path, body=body, content=f"application/{kind}+json")

    def path_of(self, item: Mapping[str, Any], namespace: str) -> str:
        """The API path of an object, as the cluster's discovery has it; ``namespace`` where it names none itself.

        GpuctlError with status 404 when the cluster does not know its kind.
        """
        version, kind = str(item["apiVersion"]), str(item["kind"])
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if version not in self._resources:
            found = self.get(base)["resources"]
            self._resources[version] = {r["kind"]: (r["name"], r["namespaced"]) for r in found if "/" not in r["name"]}
        if kind not in self._resources[version]:
            del self._resources[version]
            raise GpuctlError(f"the cluster does not know the kind {kind} of {version}", status=404)
        plural, namespaced = self._resources[version][kind]
        where = f"/namespaces/{item['metadata'].get('namespace') or namespace}" if namespaced else ""
        return f"{base}{where}/{plural}/{item['metadata']['name']}"

    def apply(self, path: str, item: Mapping[str, Any], *, dry_run: bool = False) -> Any:
        """Server-side apply as field manager gpuctl; the object as it is (or, with ``dry_run``, would be) then."""
        query: dict[str, object] = {"fieldManager": "gpuctl", "force": "true", **({"dryRun": "All"} if dry_run else {})}
        return self._call("PATCH", path, query=query, body=item, content=APPLY)

    def drift(self, item: Mapping[str, Any], namespace: str) -> str:
        """In a word how the live object differs from what was applied: ``missing``, ``changed`` or "".

        The API server itself is asked, by a dry run: it knows defaults and merge keys. An object that it would not
        apply in a dry run counts as unchanged.
        """
        try:
            path = self.path_of(item, namespace)
            live = self.get(path)
        except GpuctlError as error:
            if error.status != 404:
                raise
            return "missing"
        try:
            wanted = self.apply(path, item, dry_run=True)
        except GpuctlError as error:
            if error.status in (400, 409, 422, 500):
                return ""
            raise
        return "" if _substance(live) == _substance(wanted) else "changed"

    def delete(self, path: str) -> None:
        """Delete; already gone is fine."""
        try:
            self._call("DELETE", path)
        except GpuctlError as error:
            if error.status != 404:
                raise

    def exec(self, namespace: str, pod: str, command: Sequence[str], *, deadline: Deadline) -> str:
        """Standard output and error of a command in a pod's first container that ends with exit code 0.

        Raises GpuctlError: it ended with another code, the connection was lost before its end, we are being stopped;
        DeadlineExceeded.
        """
        from kubernetes import client
        from kubernetes.stream import stream
        from kubernetes.stream.ws_client import ERROR_CHANNEL
        from websocket import WebSocketException

        where = f"pod {namespace}/{pod}"
        # stream() changes the client it is given, so it gets one of its own
        own = self._new_client()
        with self.translate(f"exec in {namespace}/{pod}"):
            socket = stream(
                client.CoreV1Api(own).connect_get_namespaced_pod_exec,
                pod,
                namespace,
                command=list(command),
                stdin=False,
                stdout=True,
                stderr=True,
                tty=False,
                _preload_content=False,
                _request_timeout=SECONDS,
            )
            try:
                with suppress(WebSocketException):  # a lost connection, told by the missing status
                    while socket.is_open() and not deadline.expired and not deadline.stop.is_set():
                        socket.update(timeout=min(1.0, deadline.left or 0.1))
                # read_all() empties every channel, so the status comes first
                status = socket.read_channel(ERROR_CHANNEL)
                said = str(socket.read_all())
            finally:
                socket.close()
        if status:
            _must_be_success(status, where, said)
            return said
        if deadline.stop.is_set():
            raise GpuctlError(f"{deadline.what}: interrupted", where=where)
        deadline.check(where=where)
        raise GpuctlError(
            "the connection to a pod was lost before its command ended", where=where, cause=said.strip()[-300:]
        )

    def _call(
        self, method: str, path: str, *, query: dict[str, object] | None = None, body: object = None, content: str = ""
    ) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import ProtocolError

        api = self.api()
        with self.translate(f"{method} {path}"):
            request = api.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": "application/json", "Content-Type": content or "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
            try:
                response, text = _answer(api, request)
            except ProtocolError:
                # cut off in mid-answer, as when the VIP moves or a server restarts; these may be said twice
                if method not in ("GET", "DELETE") and content != APPLY:
                    raise
                response, text = _answer(api, request)
            if not 200 <= response.status < 300:
                raise ApiException(status=response.status, reason=response.reason, body=text)
        try:
            return json.loads(text)
        except ValueError:
            return text  # /readyz

    @contextmanager
    def translate(self, what: str = "") -> Iterator[None]:
        """Turn the client's errors into ours; the error of an answer carries its code as ``status``."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        where = f"{self._server or 'the API VIP'} ({what})"
        try:
            yield
        except ApiException as error:
            if not error.status:  # the client's way to tell that TLS has failed
                reason = " ".join(str(error.reason).split())
                if "CERTIFICATE_VERIFY_FAILED" not in reason:
                    raise _silent(where, reason) from error
                raise GpuctlError(
                    "the Kubernetes API's certificate is not of the CA in the kubeconfig",
                    where=where,
                    cause=reason[-300:],
                    next="gpuctl bootstrap fetches a fresh kubeconfig",
                    exit_code=Exit.CREDENTIALS,
                ) from error
            text = _message(error)
            refused = error.status in (401, 403)
            raise GpuctlError(
                f"the Kubernetes API refused: {error.status} {text}",
                where=where,
                next="gpuctl bootstrap fetches a fresh kubeconfig" if refused else "",
                exit_code=Exit.CREDENTIALS if refused else Exit.FAILED,
                status=error.status,
            ) from error
        except (HTTPError, OSError) as error:
            raise _silent(where, str(error)) from error


def _silent(where: str, said: str) -> GpuctlError:
    return GpuctlError(
        "the Kubernetes API does not answer",
        where=where,
        cause=" ".join(said.split())[-300:],
        next="gpuctl status; gpuctl bootstrap repairs the servers",
    )


def _answer(api: Any, request: tuple[Any, ...]) -> tuple[Any, str]:
    for left in reversed(range(BUSY_TIMES + 1)):
        response = api.call_api(*request, _request_timeout=SECONDS)
        text = (response.read() or b"").decode()
        if response.status != HTTPStatus.TOO_MANY_REQUESTS or not left:
            break
        # sent away unread: too many at once, or the storage of a new kind is being made ready
        said = response.headers.get("Retry-After") or ""
        time.sleep(min(BUSY_SECONDS, float(said)) if said.isdecimal() else BUSY_SECONDS)
    return response, text


def _must_be_success(status: str, where: str, said: str) -> None:
    """Raise for the last word of an exec (the channel's Status object) unless the command ended with 0."""
    try:
        verdict = json.loads(status)
        succeeded, message = verdict["status"] == "Success", str(verdict.get("message", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        succeeded, message = False, status
    if not succeeded:
        raise GpuctlError(
            f"a command in a pod failed: {message}", where=where, cause="\n".join(said.strip().splitlines()[-5:])
        )


def _substance(item: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what the server keeps for itself."""
    metadata = {key: item["metadata"].get(key) for key in ("labels", "annotations", "ownerReferences", "finalizers")}
    return {**{k: v for k, v in item.items() if k not in ("metadata", "status")}, "metadata": metadata}


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason or "no reason given")
