"""What of this machine a handler sees: the system, the interpreter, our code, listed toolchains.

Everything is read-only. At `full` these paths are all there is; at `container` Landlock refuses the
rest; at `process` nothing is refused and the list only makes PATH.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
CONFIGURATION = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "group",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "passwd",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "protocols",
    "resolv.conf",
    "services",
    "ssh/ssh_config",
    "ssh/ssh_known_hosts",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
MADE_INSIDE = ("/etc/passwd", "/etc/group")
"""What `full` has a version of its own of."""
SPECIAL = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
FACTS = ("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/self")
"""What `container` may read of /proc: the machine and, while it is the same process, itself."""

PACKAGES = Path(__file__).resolve().parents[1]
ROOT = PACKAGES.parent
HANDLER_API = ROOT / "platform" / "switchyard"
ROOTS = (str(ROOT), str(HANDLER_API.parent))
"""Where our code that a handler's process imports is found: `workers` and `switchyard`."""
OURS = (str(HANDLER_API), *(f"{PACKAGES}/{each}" for each in ("__init__.py", "handlers", "sandbox")))
"""What of it is imported."""


@lru_cache(maxsize=1)
def interpreter() -> tuple[Path, Path]:
    """The real executable of the running Python, and the folder it is installed in."""
    return Path(os.path.realpath(sys.executable)), Path(os.path.realpath(sys.base_prefix))


@lru_cache(maxsize=1)
def site_packages() -> tuple[Path, ...]:
    """Where installed packages with handlers are imported from."""
    paths = sysconfig.get_paths()
    return tuple(dict.fromkeys(Path(os.path.realpath(paths[each])) for each in ("purelib", "platlib")))


@lru_cache(maxsize=1)
def system_paths() -> tuple[str, ...]:
    """Paths of the operating system and the interpreter that exist here."""
    configuration = (f"/etc/{name}" for name in CONFIGURATION)
    found = [path for path in (*SYSTEM, *configuration) if os.path.exists(path)]
    return (*found, str(interpreter()[1]))


def code_paths() -> tuple[str, ...]:
    """Our code that a handler's process imports, and installed packages."""
    return (*OURS, *map(str, site_packages()))


def readable(extra: Iterable[Path], code: bool) -> tuple[str, ...]:
    """Every path a process may read; our code only for handlers, not for programs."""
    return (*system_paths(), *(code_paths() if code else ()), *(str(path) for path in extra))


@lru_cache(maxsize=64)
def binds_and_links(
    paths: tuple[str, ...],
) -> tuple[list[str], list[tuple[str, str]]]:
    """What to mount (real paths, outermost first, none below another) and which links to make.

    A path that is a link, or stands below one, is mounted where it really is and linked to.
    """
    binds: list[str] = []
    links: list[tuple[str, str]] = []
    wanted = {path: os.path.realpath(path) for path in paths if os.path.exists(path)}
    for real in sorted(set(wanted.values())):
        if real not in MADE_INSIDE and not _below(real, binds):
            binds.append(real)
    for path, real in wanted.items():
        if path != real and not _below(path, binds) and not _below(path, [each for each, _ in links]):
            links.append((path, real))
    return binds, links


def find_all(toolchains: tuple[Path, ...]) -> None:
    """Look all paths up once, for forks of this process to know them."""
    for code in (True, False):
        binds_and_links(readable(toolchains, code))
    search_path(toolchains)
    site_packages()


@lru_cache(maxsize=64)
def search_path(toolchains: tuple[Path, ...]) -> str:
    """PATH: each toolchain's `bin` (or itself, where it has none), the interpreter's, the system's."""
    folders = [path / "bin" if (path / "bin").is_dir() else path for path in toolchains]
    executable, prefix = interpreter()
    system = ("/usr/local/bin", "/usr/bin", "/bin")
    own = [str(prefix / "bin")] if executable.is_relative_to(prefix) else []
    return ":".join(dict.fromkeys([*map(str, folders), *own, *system]))


def _below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
