"""Make the virtual environment and install exactly the locked packages (`make install`).

Runs on a bare Python 3.11 and uses the standard library alone. Steps: `.venv` (anew when it is
missing, broken or of another place or Python) → the locked `uv`, by pip, hash-checked → the locked
set, by uv, hash-checked → this project, editable → byte code of what the server imports. When
nothing has changed since the last time it returns at once.

Package indexes are whatever pip is configured to use: its settings are handed on to uv, which would
not read them by itself.
"""

from __future__ import annotations

import ast
import errno
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed"
LOCK = ROOT / "requirements.txt"
PRECOMPILE = ROOT / "platform" / "ops" / "precompile.py"
STEP_SECONDS = 900
# What pip calls it, and the variable by which uv is told the same.
INDEX_SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_EXTRA_INDEX_URL",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


class InstallFailed(Exception):
    """A step failed; the message is for the user."""


def main() -> int:
    """Return 0 when the environment is ready, 1 with a sentence when it cannot be made."""
    # What is installed must be readable for the accounts that a platform started by root drops to.
    os.umask(0o022)
    began = time.monotonic()
    try:
        if not _install_alone():
            return 0
    except InstallFailed as failure:
        print(f"switchyard: {failure}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"switchyard: {_told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("switchyard: interrupted; the next `make` begins where it is needed.", file=sys.stderr)
        return 130
    _say(f"installed in {time.monotonic() - began:.1f} s")
    return 0


def _install_alone() -> bool:
    """Install while nobody else does in this folder; return whether there was anything to do."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if _is_current():
            return False
        with tempfile.TemporaryDirectory(prefix="switchyard-install-") as scratch:
            _install(Path(scratch))
        return True
    finally:
        os.close(folder)


def _told(error: OSError) -> str:
    """Say what of the file system stands in the way, and what to do."""
    what = f"{error.filename or VENV}: {error.strerror}"
    if isinstance(error, PermissionError):
        return f"{what}. It belongs to somebody else: remove it, or install as that user."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}. Free some space (about 1 GB is needed), then try again."
    return f"{what}. Remove what stands there, then try again."


def _say(sentence: str) -> None:
    print(f"install: {sentence}", flush=True)


def _wanted() -> str:
    """Return what the stamp must say: everything that decides how the environment looks."""
    digest = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes())
    return f"{digest.hexdigest()} {ROOT} {sys.version_info[:3]} {sys.base_prefix}\n"


def _is_current() -> bool:
    try:
        return STAMP.read_text() == _wanted() and os.access(PYTHON, os.X_OK)
    except OSError:
        return False


def _install(scratch: Path) -> None:
    environment = _environment(scratch)
    STAMP.unlink(missing_ok=True)
    if not _is_ours():
        _say(f"making .venv with Python {'.'.join(map(str, sys.version_info[:3]))}")
        _run(
            [sys.executable, "-m", "venv", "--clear", str(VENV)],
            environment,
            "The virtual environment could not be made (on Debian: apt-get install python3-venv)",
        )
    lock = LOCK.read_text()
    version, wheel_lines = _locked(lock, "uv")
    if not _has_uv(version):
        only_uv = scratch / "uv.txt"
        only_uv.write_text(wheel_lines)
        _say(f"installing uv {version}")
        _run(
            [
                *(str(PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"),
                *("--disable-pip-version-check", "-r", str(only_uv)),
            ],
            environment,
            "pip could not install the locked uv",
        )
    environment = index_settings(environment) | environment
    count = len(re.findall(r"^[a-z0-9][^ ]*==", lock, re.MULTILINE))
    _say(f"installing {count} locked packages")
    uv = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--python", str(PYTHON)]
    _run(
        [*uv, "--require-hashes", "-r", str(LOCK)],
        environment,
        "The locked packages could not be installed",
    )
    _say("installing switchyard itself (editable)")
    _run(
        [*uv, "--no-deps", "--build-constraints", str(LOCK), "-e", str(ROOT)],
        environment,
        "The project itself could not be installed",
    )
    _say("compiling what the server imports")
    _run([str(PYTHON), "-I", str(PRECOMPILE)], environment, "The packages could not be compiled")
    STAMP.write_text(_wanted())


def _is_ours() -> bool:
    """Whether `.venv` works, was made for this place and has the Python that runs us."""
    asks = "import sys; print(sys.base_prefix, sys.version_info[:3], sys.prefix)"
    try:
        told = subprocess.run(
            [str(PYTHON), "-I", "-c", asks], capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()
        config = (VENV / "pyvenv.cfg").read_text()
        # Scripts carry the path that the environment was made at; a copy elsewhere is useless.
        shebang = (VENV / "bin" / "pip").read_text(errors="replace").splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return False
    here = f"{sys.base_prefix} {sys.version_info[:3]} {VENV}"
    return told == here and str(VENV) in shebang and "home" in config


def _has_uv(version: str) -> bool:
    try:
        told = subprocess.run(
            [str(VENV / "bin" / "uv"), "--version"], capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return told.split()[1:2] == [version]


def _locked(lock: str, name: str) -> tuple[str, str]:
    """Return a package's version in the lock, and its lines with the hashes."""
    found = re.search(rf"^{name}==(\S+)(?: ;[^\\]*)?(?: \\\n    --hash=\S+)+", lock, re.MULTILINE)
    if found is None:
        raise InstallFailed(f"requirements.txt does not pin {name}: run `make lock`.")
    return found[1], found[0] + "\n"


def _environment(scratch: Path) -> dict[str, str]:
    """Return the variables of all steps: the caller's, minus what redirects installations."""
    misleading = {"PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in misleading}
    environment |= {"UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy", "UV_NO_PROGRESS": "1"}
    environment.setdefault("UV_HTTP_TIMEOUT", "180")
    home = Path(os.environ.get("HOME") or "/nonexistent")
    if not os.access(home, os.W_OK):
        # Nowhere to keep a cache: make it for this installation alone.
        cache = scratch / "cache"
        environment |= {"HOME": str(scratch), "PIP_CACHE_DIR": str(cache), "UV_CACHE_DIR": str(cache)}
    return environment


def index_settings(environment: dict[str, str]) -> dict[str, str]:
    """Return pip's index settings in uv's variables."""
    try:
        listed = subprocess.run(
            [str(PYTHON), "-m", "pip", "config", "list"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[str, str] = {}
    for line in listed.splitlines():
        key, _, quoted = line.partition("=")
        scope, _, name = key.rpartition(".")
        if name in INDEX_SETTINGS and scope in ("global", "install", ":env:"):
            value = " ".join(str(ast.literal_eval(quoted)).split())
            separator = "," if name == "find-links" else " "
            found[INDEX_SETTINGS[name]] = value.replace(" ", separator)
    if "UV_EXTRA_INDEX_URL" in found:
        # As pip does it: the best match of all indexes. The hashes make that safe.
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def _run(command: list[str], environment: dict[str, str], failure: str) -> None:
    """Run one step quietly; on failure show what it said."""
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InstallFailed(f"{failure}: {error}") from None
    if done.returncode != 0:
        told = done.stdout.decode("utf-8", "replace").strip().splitlines()[-25:]
        raise InstallFailed("\n".join([f"{failure}:", *told]))


if __name__ == "__main__":
    if sys.version_info < (3, 11) or sys.version_info >= (3, 12):
        sys.exit("switchyard: Python 3.11 is needed; name one with `make PYTHON=…`.")
    sys.exit(main())
