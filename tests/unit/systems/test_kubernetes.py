"""Calls and exec through the real client, against a server on loopback that says what a kubelet would, or goes away."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest
from websocket import ABNF

from gpuctl.run.deadline import Deadline
from gpuctl.run.errors import DeadlineExceeded, GpuctlError
from gpuctl.systems.kubernetes import Kubernetes

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
SUCCESS = {"metadata": {}, "status": "Success"}
FAILURE = {
    "status": "Failure",
    "message": "command terminated with non-zero exit code: exit status 3",
    "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}
Serve = Callable[..., Kubernetes]


def frame(channel: int, text: str) -> bytes:
    made = ABNF.create_frame(bytes([channel]) + text.encode(), ABNF.OPCODE_BINARY)
    made.mask_value = 0  # a server does not mask
    return bytes(made.format())


CLOSE = b"\x88\x02\x03\xe8"


def known(folder: Path, port: int) -> Kubernetes:
    kubeconfig = folder / "kubeconfig"
    config = {
        "current-context": "x",
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "x", "user": {}}],
    }
    kubeconfig.write_text(json.dumps(config), encoding="utf-8")
    return Kubernetes(kubeconfig)


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    def start(*frames: bytes, then: Flag | None = None) -> Kubernetes:
        listener = socket.create_server(("127.0.0.1", 0))

        def answer() -> None:
            with listener, listener.accept()[0] as connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                headers = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[1:] if ": " in line)
                key = {name.lower(): value for name, value in headers.items()}["sec-websocket-key"]
                accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
                connection.sendall(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n".encode()
                )
                connection.sendall(b"".join(frames))
                if then:
                    then.wait(20)

        Thread(target=answer, daemon=True).start()
        return known(tmp_path, listener.getsockname()[1])

    return start


def run(kubernetes: Kubernetes, seconds: float = 20.0, stop: Flag | None = None) -> str:
    return kubernetes.exec("space", "pod", ["true"], deadline=Deadline.after(seconds, "asking the pod", stop))


def test_what_a_command_says_comes_in_its_order(serve: Serve) -> None:
    assert run(serve(frame(1, "a\n"), frame(2, "b\n"), frame(1, "c\n"), frame(3, json.dumps(SUCCESS)), CLOSE)) == (
        "a\nb\nc\n"
    )


def test_another_exit_code_is_an_error_with_what_was_said(serve: Serve) -> None:
    with pytest.raises(GpuctlError, match="exit status 3") as caught:
        run(serve(frame(2, "sh: no such file\n"), frame(3, json.dumps(FAILURE)), CLOSE))
    assert (caught.value.where, caught.value.cause) == ("pod space/pod", "sh: no such file")


@pytest.mark.parametrize("end", [CLOSE, b""])
def test_a_lost_connection_is_not_an_end(serve: Serve, end: bytes) -> None:
    with pytest.raises(GpuctlError, match="lost before its command ended"):
        run(serve(frame(1, "cards 0\n"), end))


def test_a_stopped_run_and_a_late_command_give_no_partial_output(serve: Serve) -> None:
    held, stopped = Flag(), Flag()
    stopped.set()
    try:
        with pytest.raises(GpuctlError, match="interrupted"):
            run(serve(frame(1, "cards 0\n"), then=held), stop=stopped)
        with pytest.raises(DeadlineExceeded):
            run(serve(frame(1, "cards 0\n"), then=held), seconds=0.5)
    finally:
        held.set()


WHOLE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 16\r\n\r\n" + b'{"kind": "Node"}'
CUT_OFF = WHOLE[:-5]
BUSY = (
    b"HTTP/1.1 429 Too Many Requests\r\nConnection: close\r\nRetry-After: 0\r\nContent-Length: 53\r\n\r\n"
    b'{"kind":"Status","message":"storage is initializing"}'
)
Answers = Callable[..., tuple[Kubernetes, list[str]]]


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    """A server with these answers, one a connection, and what it was asked."""

    def made(*given: bytes) -> tuple[Kubernetes, list[str]]:
        listener, asked = socket.create_server(("127.0.0.1", 0)), list[str]()

        def answer() -> None:
            with listener:
                for body in given:
                    connection = listener.accept()[0]
                    with connection:
                        request = b""
                        while b"\r\n\r\n" not in request:
                            request += connection.recv(4096)
                        asked.append(request.decode().split("\r\n")[0])
                        connection.sendall(body)

        Thread(target=answer, daemon=True).start()
        return known(tmp_path, listener.getsockname()[1]), asked

    return made


def test_what_may_be_said_twice_is_repeated_when_the_answer_breaks_off(answers: Answers) -> None:
    kubernetes, asked = answers(CUT_OFF, WHOLE)
    assert kubernetes.apply("/api/v1/nodes/n", {"kind": "Node"}, dry_run=True) == {"kind": "Node"}
    assert len(asked) == 2


def test_what_may_not_be_said_twice_is_not_repeated(answers: Answers) -> None:
    kubernetes, asked = answers(CUT_OFF, WHOLE)
    with pytest.raises(GpuctlError, match="does not answer"):
        kubernetes.post("/api/v1/nodes", {"kind": "Node"})
    assert len(asked) == 1


def test_what_a_busy_server_sent_away_is_asked_again(answers: Answers) -> None:
    kubernetes, asked = answers(BUSY, BUSY, WHOLE)
    assert kubernetes.post("/api/v1/nodes", {"kind": "Node"}) == {"kind": "Node"}
    assert len(asked) == 3


def test_a_server_that_stays_busy_is_an_error_in_its_own_words(answers: Answers) -> None:
    kubernetes, _ = answers(*[BUSY] * 20)
    with pytest.raises(GpuctlError, match="429 storage is initializing"):
        kubernetes.get("/api/v1/nodes")


def test_a_connection_that_breaks_is_not_taken_for_a_missing_object(answers: Answers) -> None:
    kubernetes, _ = answers(CUT_OFF, CUT_OFF)
    with pytest.raises(GpuctlError, match="does not answer"):
        kubernetes.drift({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}, "")
