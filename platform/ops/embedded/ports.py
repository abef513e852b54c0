"""Choose TCP ports on the loopback address, and keep them from one start to the next."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of the last server may still linger; a new server is not hindered by them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def any_free(host: str = "127.0.0.1") -> int:
    """Return a port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def remembered(memory: Path, name: str) -> int:
    """Return the port kept under ``name`` in a JSON file; another one when it is taken or new."""
    ports: dict[str, int] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        ports = dict(json.loads(memory.read_text()))
    port = ports.get(name)
    if not isinstance(port, int) or not 1024 <= port <= 65535 or not is_free(port):
        taken = set(ports.values())
        port = any_free()
        while port in taken:
            port = any_free()
        ports[name] = port
        memory.write_text(json.dumps(ports))
    return port
