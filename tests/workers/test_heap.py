"""The heap of a process that forks: memory in huge pages: as it was, and fewer entries for a fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
from workers.heap import collapse_memory
kept = [bytes([n % 256]) * 100_000 for n in range(400)]
done = collapse_memory()
(line,) = [each for each in open("/proc/self/smaps_rollup") if each.startswith("AnonHugePages")]
assert all(each == bytes([n % 256]) * 100_000 for n, each in enumerate(kept))
print(done, line.split()[1])
"""


def test_what_is_allocated_is_in_huge_pages_and_still_the_same() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    done, huge = map(int, said.stdout.split())
    if not done:
        pytest.skip("this kernel has no MADV_COLLAPSE (Linux 6.1), or no memory for huge pages")
    assert huge >= 2048 * (done - 1) > 0
