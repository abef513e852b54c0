"""Landlock: files by path, TCP, abstract sockets and signals, as far as the kernel's ABI goes.

Best effort by ABI, as the kernel's documentation asks for: 1 files, 2 links across folders,
3 truncate, 4 TCP, 5 ioctl on devices, 6 abstract sockets and signals. It also keeps the process
from tracing, or reading /proc/PID/{mem,environ} of, anything outside of its own domain.
"""

from __future__ import annotations

import ctypes
import os
import stat

from . import kernel

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
ALL_OF_ABI_1 = (1 << 13) - 1
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
READ = EXECUTE | READ_FILE | READ_DIR
FOR_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1, 2
O_PATH = 0o10000000


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """The kernel's Landlock ABI, 0 when there is none."""
    try:
        return kernel.syscall("landlock_create_ruleset", None, 0, 1)
    except OSError:
        return 0


def restrict(readable: list[str], writable: list[str], tcp: bool) -> None:
    """Leave this process and all it starts `readable` to read and execute, `writable` for everything.

    A path that does not exist is skipped. Without `tcp` neither bind nor connect works (ABI 4).
    """
    version = abi()
    if version == 0:
        raise OSError(38, "landlock: this kernel has none")
    files = ALL_OF_ABI_1
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        files |= right if version >= since else 0
    network = BIND_TCP | CONNECT_TCP if version >= 4 and not tcp else 0
    scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if version >= 6 else 0
    attributes = _Ruleset(files, network, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = kernel.syscall("landlock_create_ruleset", ctypes.byref(attributes), size, 0)
    for path in readable:
        _allow(ruleset, path, READ)
    for path in writable:
        _allow(ruleset, path, files)
    kernel.syscall("landlock_restrict_self", ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(parent).st_mode):
        rights &= FOR_FILES
    rule = _PathRule(rights, parent)
    path_beneath = 1
    kernel.syscall("landlock_add_rule", ruleset, path_beneath, ctypes.byref(rule), 0)
    os.close(parent)
