# SPDX-License-Identifier: Apache-2.0
"""A network interface as a pipe: frames in hexadecimal, one a line, from
standard input onto the wire, and from the wire to standard output.

    station.py INTERFACE

The kernel takes the tag off a frame before anybody sees it and says so beside
the frame (packet(7), PACKET_AUXDATA); it is put back here.
"""

import errno
import socket
import struct
import sys
import threading

ALL = 0x0003
SOL_PACKET = 263
PACKET_AUXDATA = 8
OUTGOING = 4
TAG_VALID = 0x10
TPID_VALID = 0x40


def tagged(frame: bytes, beside: list) -> bytes:
    for level, kind, data in beside:
        if (level, kind) != (SOL_PACKET, PACKET_AUXDATA):
            continue
        status, _, _, _, _, tci, tpid = struct.unpack("=IIIHHHH", data[:20])
        if status & TAG_VALID or tci:
            ethertype = tpid if status & TPID_VALID else 0x8100
            return frame[:12] + struct.pack("!HH", ethertype, tci) + frame[12:]
    return frame


def hear(wire: socket.socket) -> None:
    while True:
        try:
            frame, beside, _, address = wire.recvmsg(65535, 256)
        except OSError:
            # The interface was taken down; it comes up again.
            continue
        if address[2] != OUTGOING:
            print(tagged(frame, beside).hex(), flush=True)


def main(interface: str) -> None:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    wire.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    wire.bind((interface, 0))
    # Frames for others are of interest, too: 1 is PACKET_ADD_MEMBERSHIP, and 1
    # again PACKET_MR_PROMISC.
    index = socket.if_nametoindex(interface)
    wire.setsockopt(SOL_PACKET, 1, struct.pack("=iHH8s", index, 1, 0, b""))
    threading.Thread(target=hear, args=(wire,), daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            wire.send(bytes.fromhex(line))
        except OSError as error:
            # The other end of the wire doesn't take it: it is longer than what
            # that end may have.
            if error.errno != errno.ENOBUFS:
                raise


main(sys.argv[1])
