"""Compares the ICRC of every RoCEv2 packet in a capture with one computed here, and prints the outcome as JSON.

usage: icrc.py CAPTURE

IPv4 packets are checked by scapy's own RoCE layer, an implementation that shares nothing with the one under
test. That layer leaves IPv6 out; IPv6 packets are checked with zlib's CRC-32 over the fields that the InfiniBand
specification's annex A17 (RoCEv2) names. For each packet it is also tried that its ICRC doesn't fit any more
when one bit is changed.
"""

import json
import sys
from zlib import crc32

from scapy.contrib.roce import BTH
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import rdpcap

ETHERNET = 14
ICRC = 4


def scapy_icrc(packet):
    """The ICRC that scapy computes for these bytes of an IPv4 packet."""
    ip = IP(packet)
    # Whatever scapy takes the UDP ports for, this is RoCE.
    content = bytes(ip[UDP].payload)
    ip[UDP].remove_payload()
    ip[UDP].add_payload(BTH(content))
    return ip[BTH].compute_icrc(content)


def ipv6_icrc(packet):
    """The ICRC of these bytes of an IPv6 packet without extension headers."""
    masked = bytearray(packet[:-ICRC])
    masked[0] |= 0x0F  # traffic class and flow label
    masked[1:4] = b"\xff" * 3
    masked[7] = 0xFF  # hop limit
    masked[46:48] = b"\xff" * 2  # UDP checksum
    masked[52] = 0xFF  # FECN, BECN and reserved bits of the BTH
    return crc32(b"\xff" * 8 + masked).to_bytes(4, "little")


def main(capture):
    checked = {"ipv4": 0, "ipv6": 0}
    wrong = []
    unnoticed = []
    for number, frame in enumerate(rdpcap(capture), start=1):
        version = "ipv4" if IP in frame else "ipv6"
        compute = scapy_icrc if version == "ipv4" else ipv6_icrc
        header = frame[IP if version == "ipv4" else IPv6]
        end = header.len if version == "ipv4" else 40 + header.plen
        packet = bytes(frame)[ETHERNET:ETHERNET + end]
        if compute(packet) != packet[-ICRC:]:
            wrong.append(number)
        changed = bytearray(packet)
        changed[-ICRC - 1] ^= 1
        if compute(bytes(changed)) == packet[-ICRC:]:
            unnoticed.append(number)
        checked[version] += 1
    print(json.dumps({"checked": checked, "wrong": wrong, "unnoticed": unnoticed}))


main(sys.argv[1])
