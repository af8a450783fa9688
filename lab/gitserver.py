"""A Git server of the site: smart HTTP by git's own http-backend. Anybody reads; a push needs the password.

A repository of any name is there when it is asked for the first time.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
import shlex
from pathlib import Path

from aiohttp import web

from lab.shell import LabError, run

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*?(\.git)?")
BODY = 64 << 20
REFUSAL = "#!/bin/sh\necho {message} >&2\nexit 1\n"


class GitServer:
    """Bare repositories below ``root``. ``fault`` changes how it behaves from then on."""

    def __init__(self, root: Path, password: str) -> None:
        self._root, self._password = root, password
        self._down = False
        self._refusal = ""
        root.mkdir(exist_ok=True)

    def fault(self, *, down: bool = False, refuse: str = "") -> None:
        """``down``: connections break. ``refuse``: every push is refused with this message. Neither: it works."""
        self._down, self._refusal = down, refuse
        for repository in self._root.glob("*.git"):
            self._hook(repository)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=BODY)
        app.router.add_route("*", "/{name}/{rest:.*}", self._serve)
        return app

    def _hook(self, repository: Path) -> None:
        hook = repository / "hooks/pre-receive"
        hook.unlink(missing_ok=True)
        if self._refusal:
            hook.write_text(REFUSAL.format(message=shlex.quote(self._refusal)), encoding="utf-8")
            hook.chmod(0o755)

    def _repository(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise web.HTTPNotFound
        path = self._root / f"{name.removesuffix('.git')}.git"
        if not path.exists():
            run(["git", "init", "--quiet", "--bare", "--initial-branch=main", path])
            self._hook(path)
        return path

    def _user(self, request: web.Request) -> str:
        """Who asks, "" for nobody in particular; 401 for whoever gives a wrong password."""
        given = request.headers.get("Authorization", "")
        if not given:
            return ""
        try:
            user, _, password = base64.b64decode(given.removeprefix("Basic ")).decode().partition(":")
        except ValueError:
            user = password = ""
        if not user or not hmac.compare_digest(password.encode(), self._password.encode()):
            raise _unauthorized()
        return user

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if self._down:
            assert request.transport
            request.transport.abort()
            return web.Response(status=503)
        name, rest = request.match_info["name"], request.match_info["rest"]
        user = self._user(request)
        if "git-receive-pack" in (rest, request.query.get("service")) and not user:
            raise _unauthorized()
        try:
            repository = await asyncio.to_thread(self._repository, name)
        except LabError as error:
            raise web.HTTPInternalServerError(text=str(error)) from error
        environment = {
            "PATH": "/usr/bin:/bin",
            "GIT_PROJECT_ROOT": str(self._root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "PATH_INFO": f"/{repository.name}/{rest}",
            "REQUEST_METHOD": request.method,
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            **({"REMOTE_USER": user} if user else {}),
        }
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        # aiohttp has undone a gzip encoding of the body already
        out, _ = await process.communicate(await request.read())
        return _answer(out)


def _unauthorized() -> web.HTTPUnauthorized:
    return web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="rehearsal lab"'})


def _answer(out: bytes) -> web.Response:
    """What a CGI program says: headers, an empty line, the body."""
    head, _, body = out.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200").split()[0])
    return web.Response(status=status, headers=headers, body=body)
