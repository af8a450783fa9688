"""Who holds an address on the LAN, asked by ARP as RFC 5227 describes it: without claiming an address."""

from __future__ import annotations

import select
import socket
import struct
import time

ETHERTYPE_ARP = 0x0806
PROBES = 3


def who_has(address: str, interface: str, seconds: float = 1.2) -> str:
    """The MAC address that answers for the address, "" when nobody does. Needs root."""
    wanted = socket.inet_aton(address)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE_ARP)) as wire:
        wire.bind((interface, ETHERTYPE_ARP))
        mine: bytes = wire.getsockname()[4]
        ethernet = b"\xff" * 6 + mine + struct.pack("!H", ETHERTYPE_ARP)
        request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mine + b"\0" * 4 + b"\0" * 6 + wanted
        for _ in range(PROBES):
            wire.send(ethernet + request)
            until = time.monotonic() + seconds / PROBES
            while (left := until - time.monotonic()) > 0:
                if not select.select([wire], [], [], left)[0]:
                    break
                frame = wire.recv(2048)
                operation, sender, sender_address = frame[20:22], frame[22:28], frame[28:32]
                if operation == b"\0\2" and sender_address == wanted and sender != mine:
                    return ":".join(f"{byte:02x}" for byte in sender)
    return ""
