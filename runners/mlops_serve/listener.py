"""The listening socket: taken at once, given up without resetting anybody."""

from __future__ import annotations

import ctypes
import socket
import struct
import sys

BACKLOG = 2048
_SO_ATTACH_FILTER = 26  # Linux; the module `socket` has no name for it before Python 3.14
# Classic BPF over the TCP header: drop what has the SYN flag (byte 13, bit 1), pass everything else.
_DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def listen(host: str, port: int) -> socket.socket:
    """Listen at once (two sockets may share a port until one of them listens); raises OSError."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def turn_away(listener: socket.socket) -> None:
    """Let the kernel drop new connections before they exist, while those that it has made can still be accepted.

    Closing a listening socket resets every connection that waits in its queue: requests may have been sent into
    them. After this call the queue only gets shorter. Whoever was turned away tries again after a second and is
    then refused. Elsewhere than on Linux nothing is done, and that small window stays.
    """
    if not sys.platform.startswith("linux"):
        return
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
    kept = ctypes.create_string_buffer(program)
    option = struct.pack("HL", len(_DROP_SYN), ctypes.addressof(kept))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
    except OSError:
        return  # a sandbox may forbid filters; then as elsewhere than on Linux
