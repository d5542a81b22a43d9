"""Sends a SYN to port 21 in two IPv6 fragments, of which the first ends before the TCP header."""

import re
import socket
import struct
import subprocess
import time

source = socket.inet_pton(socket.AF_INET6, "2001:db8:1::2")
server = socket.inet_pton(socket.AF_INET6, "2001:db8:2::2")
router = "2001:db8:1::1"


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn():
    tcp = struct.pack("!HHIIBBHHH", 4444, 21, 1, 0, 5 << 4, 2, 1000, 0, 0)
    pseudo = source + server + struct.pack("!IxxxB", len(tcp), socket.IPPROTO_TCP)
    return tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]


# The router's hardware address is known once something was sent there.
socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"x", (router, 9))
time.sleep(0.3)
neighbours = subprocess.run(["ip", "-6", "neigh"], capture_output=True, text=True).stdout
hardware = bytes.fromhex(re.search(rf"{router} .*lladdr (\S+)", neighbours)[1].replace(":", ""))
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)

OPTIONS, FRAGMENT, MORE = 60, 44, 1
padding = bytes([socket.IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0])
for offset_and_flags, part in [(0 | MORE, padding), (1 << 3, syn())]:
    payload = struct.pack("!BBHI", OPTIONS, 0, offset_and_flags, 77) + part
    header = struct.pack("!IHBB", 6 << 28, len(payload), FRAGMENT, 64) + source + server
    wire.sendto(header + payload, ("eth0", 0x86DD, 0, 0, hardware))
