"""The memory of a process that has loaded all it needs: what the collector and forks may leave alone."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

#: Of the collector's three generations. By Python's first one (700) a process that makes many objects at
#: once would look for cycles again and again: a dispatcher's rounds, a child that ends with all of them.
COLLECT_AFTER = (20_000, 10, 10)

#: Of asm-generic/mman-common.h; since Linux 6.1.
MADV_COLLAPSE = 25
HUGE = 2 * 1024 * 1024


def settle_heap() -> None:
    """Collect once, move everything that lives out of the collector's sight, and have it look rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def collapse_memory() -> int:
    """Put what this process has allocated into huge pages; return how many there are then.

    None where the kernel does not know how. Everything is copied once for it: 50 MiB in 20 ms.
    """
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    done = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split()
        if words[1] != "rw-p" or words[5:] not in ([], ["[heap]"]):
            continue
        first, last = (int(each, 16) for each in words[0].split("-"))
        for start in range(-(-first // HUGE) * HUGE, last - HUGE + 1, HUGE):
            done += madvise(start, HUGE, MADV_COLLAPSE) == 0
    return done
