"""The wheel that CI installs: the package `switchyard` alone, working without Django and Celery."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ops.install import index_settings
from tests.e2e.platforms import Platform

ROOT = Path(__file__).resolve().parents[2]
UV = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv") or ""
NEEDS = "needs uv: pip install -e '.[dev]'"

pytestmark = [pytest.mark.skipif(not UV, reason=NEEDS), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: the checkout stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    for package in ("switchyard", "ops"):
        shutil.copytree(
            ROOT / "platform" / package,
            source / "platform" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--wheel", "--out-dir", str(folder), str(source))
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment in which nothing but the wheel was installed."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(UV, "venv", "--python", sys.executable, str(folder))
    run(UV, "pip", "install", "--python", str(folder / "bin" / "python"), str(wheel))
    return folder / "bin"


def run(*argv: str, code: int = 0) -> str:
    """Run a program away from the checkout and its paths; return what it printed.

    uv gets pip's indexes and certificates, as `make install` gives them.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("SWITCHYARD_")
    }
    environment = index_settings(environment) | environment
    done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_holds_the_package_switchyard_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {"switchyard"}
    assert "switchyard/cli/main.py" in names
    assert "switchyard/client/client.py" in names


def test_neither_django_nor_celery_comes_with_it(empty: Path) -> None:
    for module in ("django", "celery", "tasks", "ops"):
        assert "ModuleNotFoundError" in run(str(empty / "python"), "-c", f"import {module}", code=1)


def test_handlers_client_and_command_can_be_imported(empty: Path) -> None:
    code = (
        "import switchyard, switchyard.client, pkgutil, importlib, switchyard.cli as cli\n"
        "for module in pkgutil.iter_modules(cli.__path__):\n"
        "    importlib.import_module('switchyard.cli.' + module.name)"
    )
    run(str(empty / "python"), "-W", "error", "-c", code)


@pytest.mark.parametrize("argv", [("--help",), ("run", "--help"), ("tasks", "list", "--help")])
def test_the_command_helps(empty: Path, argv: tuple[str, ...]) -> None:
    assert "Usage: switchyard" in run(str(empty / "switchyard"), *argv)


def test_up_says_how_to_install_the_server(empty: Path) -> None:
    told = run(str(empty / "switchyard"), "up", code=1)
    assert "The server is not installed here" in told
    assert told.count("\n") == 1


def test_a_server_that_does_not_answer_is_one_sentence(empty: Path) -> None:
    told = run(str(empty / "switchyard"), "tasks", "list", "--url", "http://127.0.0.1:9", code=1)
    assert told.startswith("switchyard: Cannot reach http://127.0.0.1:9")


def test_the_wheel_alone_follows_a_run_on_a_platform(empty: Path, platform: Platform) -> None:
    command = (str(empty / "switchyard"), "run", "shell.command", "--queue", "critical", "--follow")
    connection = (
        *("--url", platform.url),
        *("--token", str(platform.credentials["token"])),
        *("--tenant", platform.tenant),
    )
    told = run(*command, *connection, "--", "sh", "-c", "echo from the wheel; sleep 0.3; echo done")
    assert "from the wheel\ndone\n" in told
    run(*command, *connection, "--", "sh", "-c", "exit 3", code=4)
