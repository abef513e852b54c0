"""What must hold of the tree as a whole."""

from __future__ import annotations

import inspect
import re
import sys
from functools import cached_property
from pathlib import Path

import pytest
from django.core.management import call_command

from config.environment import Environment
from tasks.fault_points import POINTS, check_fault_points

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "docs" / "faults.md"
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = ("bench", "docker", "docs", "platform", "tasks", "tenants", "tests", "workers")
READ = ("", ".css", ".html", ".js", ".md", ".py", ".toml", ".txt", ".yaml", ".yml")
HOMES = (ROOT / "docs", ROOT / "bench")
"""Where a document may be that is named without its folder."""
TABLE = re.compile(r"^=+  =+\n(.*?)^=+  =+\n", re.DOTALL | re.MULTILINE)
TABLE_OF_MODULES = {
    path: table.group(1)
    for folder in ("platform", "tasks", "tenants", "workers")
    for path in (ROOT / folder).rglob("__init__.py")
    if (table := TABLE.search(path.read_text(encoding="utf-8")))
}
"""What the docstring of a package tells of its modules, a line each."""


def sources() -> list[Path]:
    """All files of ours that people read, but those of others that the pages bring along."""
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return [
        path
        for path in (*ROOT.glob("[!.]*"), *below)
        if path.is_file() and path.suffix in READ and not {"vendor", "__pycache__"} & {*path.parts}
    ]


def test_what_the_sources_refer_to_is_in_the_repository() -> None:
    missing = []
    for path in sources():
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            named = re.findall(r"\b[\w./-]+\.md\b", line)
            missing += [
                f"{path.relative_to(ROOT)}:{number}: {name}"
                for name in named
                if not any((folder / name).is_file() for folder in (ROOT, path.parent, *HOMES))
            ]
            if re.search(r"\b(DESIGN|SCENARIOS)\b (§|\d|faults)", line):
                missing.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert missing == []


def test_packages_with_a_table_are_found() -> None:
    assert len(TABLE_OF_MODULES) >= 5


def test_platform_is_a_source_root_and_never_a_package() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_no_package_of_ours_has_the_name_of_a_standard_module() -> None:
    ours = {
        path.parent.name for root in (ROOT, ROOT / "platform") for path in root.glob("*/__init__.py")
    }
    assert ours
    assert ours & sys.stdlib_module_names == set()


@pytest.mark.parametrize(
    "name", sorted((field.alias or name).upper() for name, field in Environment.model_fields.items())
)
def test_every_setting_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README


def test_every_setting_is_read_by_the_code() -> None:
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("platform", "tasks", "tenants", "workers")
        for path in (ROOT / folder).rglob("*.py")
    )
    asked = set(re.findall(r"\b(?:SWITCHYARD|environment)\.(\w+)", code))
    made = {name: each for name, each in vars(Environment).items() if isinstance(each, cached_property)}
    used_for = "\n".join(inspect.getsource(each.func) for name, each in made.items() if name in asked)
    read = asked | set(re.findall(r"\bself\.(\w+)", used_for))
    assert Environment.model_fields.keys() - read == set()


@pytest.mark.django_db
def test_the_models_have_all_their_migrations() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_fault_points_are_named_in_one_list() -> None:
    assert check_fault_points("after_claim:kill9, before_finish:stop*") == []
    assert check_fault_points("nowhere:kill9,after_claim:explode") == [
        "nowhere:kill9",
        "after_claim:explode",
    ]
    used = {
        line.split('reach("')[1].split('"')[0]
        for folder in ("tasks", "workers")
        for path in (ROOT / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if 'fault_points.reach("' in line
    }
    assert used == set(POINTS)


@pytest.mark.parametrize("package", sorted(TABLE_OF_MODULES), ids=lambda path: path.parent.name)
def test_the_table_of_a_package_names_its_modules_and_no_others(package: Path) -> None:
    rows = TABLE_OF_MODULES[package].splitlines()
    named = [row.split()[0] for row in rows]
    assert sorted(named) == sorted(path.stem for path in package.parent.glob("[a-z]*.py"))


def test_every_test_and_every_line_that_the_page_of_faults_names_is_there() -> None:
    told = FAULTS.read_text(encoding="utf-8")
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    tests = set(re.findall(r"^(?:async )?def (test_\w+)", "\n".join(sources), re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", told))
    assert len(named) > 80
    assert named - tests == set()
    modules = [path.as_posix() for path in ROOT.rglob("*.py") if ".venv" not in path.parts]
    for module, names in re.findall(r"`([\w/]+\.py)`: ((?:`\w+`(?: and )?)+)", told):
        (path,) = [each for each in modules if each.endswith(f"/{module}")]
        text = Path(path).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", text), f"{module} has no {name}"
