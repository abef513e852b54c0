"""A real browser on a whole platform: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.platforms import Platform

CHROMIUM = shutil.which("chromium")
Submit = Callable[..., str]

expect.set_options(timeout=30_000)


@pytest.fixture(scope="session", autouse=True)
def _needs_chromium() -> None:
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Start the system's Chromium; root cannot use its sandbox."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": arguments}


@pytest.fixture
def yard(platform: Platform, page: Page) -> Iterator[Page]:
    """A page that is logged in. Any error of a script, and any refusal by the CSP, fails the test."""
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None,
    )
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.goto(f"{platform.url}/login")
    page.get_by_label("User name or email").fill(platform.credentials["user"])
    page.get_by_label("Password").fill(platform.credentials["password"])
    page.get_by_role("button", name="Log in").click()
    # Live: the scripts are there, and with them the keyboard.
    expect(page.locator("#live")).to_contain_text("Live")
    yield page
    assert wrong == []


@pytest.fixture
def submit(platform: Platform) -> Submit:
    """Submit a task by the API and return the address of its page."""

    def send(type: str = "test.dummy", **params: Any) -> str:
        with httpx2.Client(trust_env=False, timeout=30) as client:
            answer = client.post(
                f"{platform.url}/api/v1/tenants/{platform.tenant}/tasks",
                headers={"Authorization": f"Bearer {platform.credentials['token']}"},
                json={"type": type, "params": params, "max_retries": 0},
            )
        answer.raise_for_status()
        return str(answer.json()["links"]["html"])

    return send
