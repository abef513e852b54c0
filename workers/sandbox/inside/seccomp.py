"""The seccomp filter: system calls that no handler needs and exploits like.

Refused calls fail with EPERM; those that the C library or a program then does by others, with ENOSYS:
clone3 (clone's flags can be looked at), and files that are nothing but memory, which no limit of ours
would see. Numbers: Linux's tables for x86_64 and aarch64; calls that an architecture lacks are left out.
"""

from __future__ import annotations

import ctypes

from . import kernel

# (x86_64, aarch64); None where the call does not exist.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes' memory
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    # the kernel's keyrings, which ignore namespaces
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # large attack surfaces
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "modify_ldt": (154, None),
    "vmsplice": (278, 75),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    # the machine
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
}
UNKNOWN = {"clone3": (435, 435), "memfd_create": (319, 279), "memfd_secret": (447, 447)}
"""Refused as if the kernel did not have them."""
OUTLIVING = {"shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)}
"""What they make belongs to the machine, and stays, where the run has no namespace of its own for it."""
CLONE = (56, 220)
SOCKET = (41, 198)
IOCTL = (16, 29)
NAMESPACES = (
    kernel.CLONE_NEWNS
    | kernel.CLONE_NEWCGROUP
    | kernel.CLONE_NEWUTS
    | kernel.CLONE_NEWIPC
    | kernel.CLONE_NEWUSER
    | kernel.CLONE_NEWPID
    | kernel.CLONE_NEWNET
)
TIOCSTI, TIOCLINUX = 0x5412, 0x541C
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
AUDIT_ARCH = {kernel.X86_64: 0xC000003E, kernel.AARCH64: 0xC00000B7}

LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_SET, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x00050001, 0x00050026
NUMBER, ARCHITECTURE, FIRST_ARGUMENT, SECOND_ARGUMENT = 0, 4, 16, 24

Instruction = tuple[int, int, int, int]


def program(machine: str, families: tuple[int, ...], own: bool) -> list[Instruction]:
    """The filter as (code, jump if true, jump if false, value); `families` may be used by socket(),
    `own` says that the run has namespaces of its own.

    Jumps are relative and short: each refused call is a compare and its own return.
    """
    column = 0 if machine == kernel.X86_64 else 1
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == kernel.X86_64:  # the x32 calls are the same calls under other numbers
        code += [(JUMP_GREATER_EQUAL, 0, 1, 0x40000000), (RETURN, 0, 0, EPERM)]
    for numbers in (*REFUSED.values(), *(() if own else OUTLIVING.values())):
        number = numbers[column]
        if number is not None:
            code += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, EPERM)]
    for unknown in UNKNOWN.values():
        code += [(JUMP_EQUAL, 0, 1, unknown[column]), (RETURN, 0, 0, ENOSYS)]
    code += [
        (JUMP_EQUAL, 0, 4, CLONE[column]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (JUMP_SET, 0, 1, NAMESPACES),
        (RETURN, 0, 0, EPERM),
        (RETURN, 0, 0, ALLOW),
        (JUMP_EQUAL, 0, 5, IOCTL[column]),
        (LOAD, 0, 0, SECOND_ARGUMENT),
        (JUMP_EQUAL, 1, 0, TIOCSTI),
        (JUMP_EQUAL, 0, 1, TIOCLINUX),
        (RETURN, 0, 0, EPERM),
        (RETURN, 0, 0, ALLOW),
        (JUMP_EQUAL, 0, 2 + 2 * len(families), SOCKET[column]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
    ]
    for family in families:
        code += [(JUMP_EQUAL, 0, 1, family), (RETURN, 0, 0, ALLOW)]
    code += [(RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)]
    return code


class _Filter(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Filter)))


_made: dict[tuple[bool, bool], _Program] = {}


def prepare() -> None:
    """Make every filter once, for forks of this process: making one costs more than installing it."""
    for own in (True, False):
        for internet in (True, False):
            _made[own, internet] = _make(own, internet)


def install(own: bool, internet: bool) -> None:
    """Filter this process and all it starts; needs NO_NEW_PRIVS.

    `own` says that it has namespaces of its own: only there AF_UNIX sockets (socketpair() is always
    permitted) and System V's shared memory reach nothing else. `internet` permits IPv4 and IPv6.
    """
    whole = _made.get((own, internet)) or _make(own, internet)
    kernel.prctl(kernel.PR_SET_SECCOMP, kernel.SECCOMP_MODE_FILTER, ctypes.byref(whole))


def _make(own: bool, internet: bool) -> _Program:
    families = ((AF_UNIX,) if own else ()) + ((AF_INET, AF_INET6) if internet else ())
    code = program(kernel.MACHINE, families, own)
    filters = (_Filter * len(code))(*(_Filter(*each) for each in code))
    return _Program(len(code), ctypes.cast(filters, ctypes.POINTER(_Filter)))
