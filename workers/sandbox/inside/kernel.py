"""System calls that Python 3.11 does not offer, each raising OSError with the call's name.

Numbers are those of x86_64 and aarch64; most are the same there since Linux 5.
"""

from __future__ import annotations

import ctypes
import os

MACHINE = os.uname().machine
X86_64, AARCH64 = "x86_64", "aarch64"

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 2, 4, 8, 4096, 16384
MS_SLAVE = 1 << 19
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME, PR_CAPBSET_DROP = 1, 4, 8, 15, 24
PR_CAPBSET_READ, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 23, 22, 36, 38
PR_GET_CHILD_SUBREAPER = 37
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4
SECCOMP_MODE_FILTER = 2
CAP_LAST = 63

_NUMBERS = {
    X86_64: {"pivot_root": 155, "capset": 126, "capget": 125},
    AARCH64: {"pivot_root": 41, "capset": 91, "capget": 90},
}
_SHARED = {
    "close_range": 436,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl  # each fork of a supervisor's would look it up again


def syscall(name: str, *arguments: object) -> int:
    """Make a system call by name; integers are passed as long, bytes and structures as pointers."""
    number = _SHARED.get(name) or _NUMBERS.get(MACHINE, {}).get(name)
    if number is None:
        raise OSError(38, f"{name} is not known on {MACHINE}")
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return _checked(name, int(_libc.syscall(ctypes.c_long(number), *words)))


def prctl(option: int, *arguments: object) -> int:
    """prctl(2); missing arguments are 0."""
    words: list[object] = [ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments]
    words += [ctypes.c_ulong(0)] * (4 - len(words))
    return _checked(f"prctl {option}", int(_prctl(option, *words)))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked("unshare", int(_libc.unshare(flags)))


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None
) -> None:
    """mount(2)."""
    words = [None if each is None else each.encode() for each in (source, target, kind)]
    data = None if options is None else options.encode()
    result = _libc.mount(*words, ctypes.c_ulong(flags), data)
    _checked(f"mount {target}", int(result))


def umount(target: str) -> None:
    """umount2(2), lazily: what is still open there goes when it is closed."""
    _checked(f"umount {target}", int(_libc.umount2(target.encode(), MNT_DETACH)))


class MountAttributes(ctypes.Structure):
    """struct mount_attr."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def restrict_mount(target: str, attributes: int, recursive: bool = True) -> None:
    """Add attributes (read-only, nosuid, …) to a mount and to what is mounted below it."""
    wanted = MountAttributes(attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    size = ctypes.sizeof(wanted)
    syscall("mount_setattr", AT_FDCWD, target.encode(), flags, ctypes.byref(wanted), size)


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    _checked("sethostname", int(_libc.sethostname(name.encode(), len(name))))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def set_capabilities(kept: int) -> None:
    """Hold exactly the capabilities of the bit mask `kept`, inheritable too; the first 32 only."""
    header = _CapabilityHeader(0x20080522, 0)
    data = (_CapabilityData * 2)()
    data[0].effective = data[0].permitted = data[0].inheritable = kept
    syscall("capset", ctypes.byref(header), ctypes.byref(data))


def drop_bounding_set(kept: int = 0) -> None:
    """Remove capabilities from what any later exec could gain; needs CAP_SETPCAP, else does nothing."""
    for capability in range(CAP_LAST + 1):
        if kept >> capability & 1:
            continue
        try:
            if prctl(PR_CAPBSET_READ, capability):
                prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # past the last one, or not permitted: NO_NEW_PRIVS still holds
            return


def drop_all_capabilities() -> None:
    """Be without any power over others, for good: bounding, ambient, permitted and effective set."""
    drop_bounding_set()
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    set_capabilities(0)


def die_with_parent(parent: int) -> None:
    """SIGKILL this process when the thread that made it ends; exit at once if it already has.

    `parent` is the expected getppid(); 0 when it cannot be known (a new pid namespace).
    A change of user clears this, so it comes after that.
    """
    prctl(PR_SET_PDEATHSIG, 9)
    if parent and os.getppid() != parent:
        os._exit(125)


def set_name(name: str) -> None:
    """Name this process, and what it forks, in /proc/PID/comm and `ps -o comm`: 15 bytes of it."""
    prctl(PR_SET_NAME, ctypes.c_char_p(name.encode()))


def close_descriptors_from(first: int) -> None:
    """Close every descriptor from `first` on, also those that nobody remembers."""
    try:
        syscall("close_range", first, 0xFFFFFFFF, 0)
    except OSError:
        os.closerange(first, 65536)


def set_filesystem_identity(uid: int, gid: int) -> None:
    """Let this thread alone use files as another user; raises PermissionError when refused."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    if _libc.setfsuid(-1) != uid or _libc.setfsgid(-1) != gid:
        raise PermissionError(1, f"setfsuid {uid} needs CAP_SETUID and CAP_SETGID")


def bring_up_loopback() -> None:
    """Make 127.0.0.1 usable in a new net namespace."""
    sock = _checked("socket", int(_libc.socket(2, 2 | 0o2000000, 0)))
    request = ctypes.create_string_buffer(b"lo".ljust(16, b"\0") + (1).to_bytes(2, "little"), 40)
    siocsifflags = 0x8914
    result = _libc.ioctl(sock, ctypes.c_ulong(siocsifflags), request)
    os.close(sock)
    _checked("loopback", int(result))


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
