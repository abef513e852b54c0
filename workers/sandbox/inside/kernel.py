"""System calls that Python 3.11 does not offer, each raising OSError with the call's name.

Numbers are those of x86_64 and aarch64; most are the same there since Linux 5.
"""

from __future__ import annotations

import ctypes
import os
from _signal import SIGCHLD  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MACHINE = os.uname().machine
X86_64, AARCH64 = "x86_64", "aarch64"

CLONE_PARENT = 0x00008000
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
PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 22, 36, 38
PR_GET_CHILD_SUBREAPER = 37
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_CLEAR_ALL = 47, 2, 4
SECCOMP_MODE_FILTER = 2
CAP_LAST = 63

_NUMBERS = {
    X86_64: {"clone": 56, "pivot_root": 155, "capset": 126, "capget": 125},
    AARCH64: {"clone": 220, "pivot_root": 41, "capset": 91, "capget": 90},
}
_SHARED = {
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
_libc = ctypes.CDLL(None, use_errno=True)
# Looked up here, once: each fork would do it again, and copy the pages for it. What the first two are
# given are integers, or where something is.
_prctl, _syscall = _libc.prctl, _libc.syscall
_prctl.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 4]
_syscall.argtypes = [ctypes.c_long, *[ctypes.c_void_p] * 6]
_syscall.restype = ctypes.c_long
_unshare, _mount, _umount, _sethostname = _libc.unshare, _libc.mount, _libc.umount2, _libc.sethostname
_mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
_socket, _ioctl = _libc.socket, _libc.ioctl
_close_range = getattr(_libc, "close_range", None)  # a C library of 2021 or later has it


def syscall(name: str, *arguments: object) -> int:
    """Make a system call by name; integers are passed as long, bytes and structures as pointers."""
    number = _SHARED.get(name) or _NUMBERS.get(MACHINE, {}).get(name)
    if number is None:
        raise OSError(38, f"{name} is not known on {MACHINE}")
    return _checked(name, int(_syscall(number, *arguments, *(0,) * (6 - len(arguments)))))


def prctl(option: int, *arguments: object) -> int:
    """prctl(2); missing arguments are 0."""
    return _checked(f"prctl {option}", int(_prctl(option, *arguments, *(0,) * (4 - len(arguments)))))


def bare_fork(flags: int = 0) -> Callable[[], int] | None:
    """Return what forks as `os.fork` does, by clone(2) with these flags and nothing else; None where the
    number of that call is not known.

    What Python and the C library do around a fork is to make locks and other threads' state anew. A
    process with one thread needs nothing of it, and its child copies 230 pages of a worker's for it. The
    child is for our own code: its random numbers are its parent's, and no module is told.
    """
    number = _NUMBERS.get(MACHINE, {}).get("clone")
    if number is None:
        return None
    # With the interpreter's lock held, which the child then holds as well.
    call = ctypes.PyDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    words = [ctypes.c_long(each) for each in (number, flags | SIGCHLD, 0, 0, 0, 0)]

    def fork() -> int:
        return _checked("clone", int(call(*words)))

    return fork


fork = bare_fork() or os.fork


def unshare(flags: int) -> None:
    """unshare(2)."""
    _checked("unshare", int(_unshare(flags)))


def mount(
    source: str | None, target: str, kind: str | None, flags: int = 0, options: str | None = None
) -> None:
    """mount(2)."""
    words = [None if each is None else each.encode() for each in (source, target, kind, options)]
    _checked(f"mount {target}", int(_mount(*words[:3], flags, words[3])))


def umount(target: str) -> None:
    """umount2(2), lazily: what is still open there goes when it is closed."""
    _checked(f"umount {target}", int(_umount(target.encode(), MNT_DETACH)))


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
    _checked("sethostname", int(_sethostname(name.encode(), len(name))))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


_Capabilities = _CapabilityData * 2
_of_this_thread = _CapabilityHeader(0x20080522, 0)


def set_capabilities(kept: int) -> None:
    """Hold exactly the capabilities of the bit mask `kept`, inheritable too; the first 32 only."""
    data = _Capabilities(_CapabilityData(kept, kept, kept))
    syscall("capset", ctypes.byref(_of_this_thread), ctypes.byref(data))


def drop_bounding_set(kept: int = 0) -> None:
    """Remove capabilities from what any later exec could gain; needs CAP_SETPCAP, else does nothing."""
    for capability in range(CAP_LAST + 1):
        if kept >> capability & 1:
            continue
        try:
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
    if _close_range is None or _close_range(first, -1, 0) != 0:
        os.closerange(first, 65536)


def set_filesystem_identity(uid: int, gid: int) -> None:
    """Let this thread alone use files as another user; raises PermissionError when refused."""
    _libc.setfsgid(gid)
    _libc.setfsuid(uid)
    if _libc.setfsuid(-1) != uid or _libc.setfsgid(-1) != gid:
        raise PermissionError(1, f"setfsuid {uid} needs CAP_SETUID and CAP_SETGID")


_SIOCSIFFLAGS = 0x8914
_LOOPBACK_IS_UP = ctypes.create_string_buffer(b"lo".ljust(16, b"\0") + (1).to_bytes(2, "little"), 40)


def bring_up_loopback() -> None:
    """Make 127.0.0.1 usable in a new net namespace."""
    sock = _checked("socket", int(_socket(2, 2 | 0o2000000, 0)))
    result = _ioctl(sock, ctypes.c_ulong(_SIOCSIFFLAGS), _LOOPBACK_IS_UP)
    os.close(sock)
    _checked("loopback", int(result))


def _checked(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result
