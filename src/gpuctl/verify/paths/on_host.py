"""Runs on the hosts as root (standard library only), sent over and never imported: what gets through between pods.

python3 - serve POD_UID ADDRESS SECONDS   listen in the pod's network and in the host's; print where, and what carries
                                          them (ADDRESS is the host's)
python3 - look POD_UID NAME PEER=ADDRESS:PORT ...   from the pod: how often NAME is resolved; of each peer, how many
                                          small packets are lost and the largest one that arrives unfragmented
python3 - push POD_UID POD=ADDRESS:PORT HOST=ADDRESS:PORT SECONDS   TCP as fast as it goes, from the host itself to
                                          one, then from the pod to the other; bit/s, or why not
"""

import contextlib
import ctypes
import glob
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
# linux/in.h: set "don't fragment" and ignore what is remembered of the path
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3
HEADERS, SMALLEST = 28, 576
PACKETS, PACKET_SECONDS = 10, 2.0
LOOKUPS, LOOKUP_SECONDS, HOPELESS = 100, 3.0, 5
TRIES, ANSWER_SECONDS, CONNECT_SECONDS = 3, 0.4, 5.0
BLOCK = 1 << 18
# gpuctl's firewall lets node ports in
HOST_PORTS = range(32767, 32667, -1)


def enter(pod: str) -> str:
    """Go into the network of the pod with this UID, which the cgroup's name of its processes holds; one's /proc."""
    marks = (pod.encode(), pod.replace("-", "_").encode())
    for path in glob.glob("/proc/[0-9]*/cgroup"):
        try:
            with open(path, "rb") as stream:
                text = stream.read()
            if any(mark in text for mark in marks):
                with open(os.path.dirname(path) + "/ns/net") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                return os.path.dirname(path)
        except FileNotFoundError:
            continue  # it ended meanwhile
    raise SystemExit(f"no process of pod {pod} runs here")


def mtu_of_default() -> int:
    """Of the interface with the default route, in the network we are in."""
    route = json.loads(subprocess.check_output(["ip", "-j", "route", "show", "default"]))[0]["dev"]
    link = json.loads(subprocess.check_output(["ip", "-j", "link", "show", "dev", route]))[0]
    return int(link["mtu"])


def interface(address: str) -> "dict[str, object]":
    """The host's interface with this address; a speed only where a card (or a virtual one) is behind it."""
    for link in json.loads(subprocess.check_output(["ip", "-j", "-4", "addr"])):
        if any(item.get("local") == address for item in link["addr_info"]):
            name, base = link["ifname"], "/sys/class/net/" + link["ifname"]
            speed = -1
            if os.path.exists(base + "/device"):
                try:
                    with open(base + "/speed") as stream:
                        speed = int(stream.read())
                except (OSError, ValueError):
                    speed = -1
            return {"name": name, "mtu": link["mtu"], "speed": speed * 1e6 if speed > 0 else None}
    raise SystemExit(f"no interface has the address {address}")


def listener(ports: "range | tuple[int, ...]") -> socket.socket:
    for port in ports:
        made = socket.socket()
        try:
            made.bind(("", port))
        except OSError:
            made.close()
            continue
        made.listen(8)
        return made
    raise SystemExit("no port is free")


def sink(connection: socket.socket) -> None:
    """Swallow all, then say how much came in how long."""
    buffer, total, began = bytearray(BLOCK), 0, 0.0
    connection.settimeout(CONNECT_SECONDS)
    while got := connection.recv_into(buffer):
        began = began or time.monotonic()
        total += got
    connection.sendall(f"{total} {time.monotonic() - began}".encode())


def attend(tcp: socket.socket, udp: "socket.socket | None") -> None:
    while True:
        for ready in select.select([tcp, *([udp] if udp else [])], [], [])[0]:
            try:
                if ready is udp:
                    data, sender = udp.recvfrom(65536)
                    udp.sendto(str(len(data)).encode(), sender)
                else:
                    connection = tcp.accept()[0]
                    sink(connection)
                    connection.close()
            except OSError:
                continue  # that sender went away


def daemon(pod: str, seconds: int) -> "dict[str, object]":
    """A process of its own that listens, for this long at most; where, from its own mouth."""
    reader, writer = os.pipe()
    process = os.fork()
    if process:
        os.close(writer)
        with os.fdopen(reader) as stream:
            said = stream.read()
        if not said:
            raise SystemExit("could not listen: " + (f"in pod {pod}" if pod else "on the host"))
        return json.loads(said)  # type: ignore[no-any-return]
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.alarm(seconds)
    udp = None
    found: dict[str, object] = {"process": os.getpid()}
    if pod:
        enter(pod)
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("", 0))
        found.update(udp=udp.getsockname()[1], mtu=mtu_of_default())
    tcp = listener((0,) if pod else HOST_PORTS)
    found["tcp"] = tcp.getsockname()[1]
    os.write(writer, json.dumps(found).encode())
    os.close(writer)
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    attend(tcp, udp)
    return {}


def arrives(size: int, peer: "tuple[str, int]") -> bool:
    """Whether a packet of this size, headers included, arrives whole."""
    for _ in range(TRIES):
        sender = socket.socket(type=socket.SOCK_DGRAM)
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        sender.settimeout(ANSWER_SECONDS)
        try:
            sender.sendto(b"x" * (size - HEADERS), peer)
            if int(sender.recv(64)) == size - HEADERS:
                return True
        except OSError:
            continue  # too long for the interface, or no answer
        finally:
            sender.close()
    return False


def largest(peer: "tuple[str, int]") -> int:
    """In bytes; 0 when not even a small one arrives."""
    high = mtu_of_default()
    if arrives(high, peer):
        return high
    low = SMALLEST
    if not arrives(low, peer):
        return 0
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (middle, high) if arrives(middle, peer) else (low, middle)
    return low


def lost(peers: "dict[str, tuple[str, int]]") -> "dict[str, int]":
    """Percent of small packets that no echo came back for, by peer."""
    waiting = {(name, 100 + number) for name in peers for number in range(PACKETS)}
    with contextlib.ExitStack() as stack:
        sockets = {stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)): name for name in peers}
        for made, name in sockets.items():
            made.connect(peers[name])
        for number in range(PACKETS):
            for made in sockets:
                with contextlib.suppress(OSError):  # what the last one met, or no way there: lost
                    made.send(b"x" * (100 + number))
        ends = time.monotonic() + PACKET_SECONDS
        while waiting and (left := ends - time.monotonic()) > 0:
            for made in select.select(list(sockets), [], [], left)[0]:
                with contextlib.suppress(OSError):
                    waiting.discard((sockets[made], int(made.recv(64))))
    missing = [name for name, _ in waiting]
    return {name: 100 * missing.count(name) // PACKETS for name in peers}


def resolved(name: str, nameserver: str) -> int:
    """How many of LOOKUPS questions for its IPv4 address are answered with one, each in time."""
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0\0\1\0\1"
    good = 0
    for number in range(1, LOOKUPS + 1):
        if number > HOPELESS and not good:
            break  # each of the rest would only wait
        head = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0)
        with socket.socket(type=socket.SOCK_DGRAM) as asking:
            asking.settimeout(LOOKUP_SECONDS)
            try:
                asking.connect((nameserver, 53))
                asking.send(head + question)
                identity, flags, _, answers = struct.unpack(">HHHH", asking.recv(4096)[:8])
            except (OSError, struct.error):
                continue
        good += identity == number and not flags & 0x000F and answers > 0
    return good


def nameserver_of(process: str) -> str:
    with open(process + "/root/etc/resolv.conf") as stream:
        for line in stream:
            if line.startswith("nameserver "):
                return line.split()[1]
    raise SystemExit("the pod has no nameserver")


def push(peer: "tuple[str, int]", seconds: float) -> "float | str":
    try:
        return pushed(peer, seconds)
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def pushed(peer: "tuple[str, int]", seconds: float) -> float:
    data = memoryview(bytes(BLOCK))
    with socket.create_connection(peer, timeout=CONNECT_SECONDS) as connection:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        # what is still on the way of a slow path takes its time
        connection.settimeout(max(CONNECT_SECONDS, 10 * seconds))
        total, took = connection.recv(64).split()
    return 8 * int(total) / float(took)


def peer_of(text: str) -> "tuple[str, int]":
    host, _, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    what, pod, *rest = sys.argv[1:]
    if what == "serve":
        address, seconds = rest[0], int(rest[1])
        print(
            json.dumps({"pod": daemon(pod, seconds), "host": daemon("", seconds), "interface": interface(address)}),
            flush=True,
        )
        return
    peers = {name: peer_of(peer) for name, _, peer in (item.rpartition("=") for item in rest) if name}
    if what == "look":
        own = enter(pod)
        found = {"resolved": resolved(rest[0], nameserver_of(own)), "asked": LOOKUPS, "lost": lost(peers)}
        print(json.dumps({**found, "passed": {name: largest(peer) for name, peer in peers.items()}}))
    else:
        host = push(peers["HOST"], float(rest[-1]))
        enter(pod)
        print(json.dumps({"hosts": host, "pods": push(peers["POD"], float(rest[-1]))}))


if __name__ == "__main__":
    main()
