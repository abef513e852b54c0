"""What is vendored is exactly what its manifest says, and no page runs code of anywhere else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import web

ROOT = Path(web.__file__).parent
VENDOR = ROOT / "static" / "vendor"


def test_every_vendored_file_is_in_the_manifest_with_its_version_licence_and_hash() -> None:
    listed = set()
    for entry in json.loads((VENDOR / "manifest.json").read_text()):
        content = (VENDOR / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["file"]
        assert entry["version"] in content.decode()
        assert entry["licence"] in (VENDOR / entry["licence_file"]).read_text()
        listed |= {entry["file"], entry["licence_file"]}
    assert {path.name for path in VENDOR.iterdir()} == listed | {"manifest.json"}


def test_no_template_has_an_inline_script_or_style_or_a_handler_attribute() -> None:
    bad = re.compile(
        r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|\|safe|autoescape off|hx-on",
        re.IGNORECASE,
    )
    for path in ROOT.glob("templates/**/*.html"):
        assert not bad.search(path.read_text()), path


def test_scripts_put_output_into_the_page_as_text_only() -> None:
    """Only the task list parses HTML: rows that our own template has rendered and escaped."""
    risky = re.compile(r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function")
    for path in ROOT.glob("static/web/js/*.js"):
        found = risky.findall(path.read_text())
        assert found == ([".innerHTML"] if path.name == "task_list.js" else []), path
