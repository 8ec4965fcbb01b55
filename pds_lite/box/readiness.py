"""Tells systemd how far the service is (sd_notify(3)), where systemd started it as Type=notify; nothing elsewhere.

One datagram to the socket that NOTIFY_SOCKET names. A lost one does not keep the box from serving: systemd says so.
"""

import contextlib
import os
import socket

READY = b"READY=1"
STOPPING = b"STOPPING=1"


def notify(state: bytes) -> None:
    """Sends `state`, if anybody asked to be told."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(state, address)
