"""Without a mouse, on a small screen, in the dark."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Submit
from tests.e2e.platforms import Platform


def test_the_list_is_used_by_keyboard(yard: Page, submit: Submit) -> None:
    submit()
    submit()
    yard.reload()
    expect(yard.locator("#live")).to_contain_text("Live")
    yard.keyboard.press("/")
    expect(yard.get_by_label("Beginning of a task id")).to_be_focused()
    yard.keyboard.press("Escape")
    yard.keyboard.press("j")
    yard.keyboard.press("j")
    yard.keyboard.press("k")
    first = yard.locator(".row-link").first
    expect(first).to_be_focused()
    yard.keyboard.press("Enter")
    yard.wait_for_url(re.compile(r"/tasks/[0-9a-f-]{36}$"))
    yard.keyboard.press("g")
    yard.keyboard.press("t")
    yard.wait_for_url(re.compile(r"/tasks$"))


def test_the_shortcuts_are_listed_and_the_list_closes_with_escape(yard: Page) -> None:
    yard.keyboard.press("?")
    dialog = yard.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    yard.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_typing_in_a_field_is_no_command(yard: Page) -> None:
    yard.keyboard.press("/")
    yard.keyboard.type("?j")
    expect(yard.get_by_role("dialog")).to_have_count(0)
    expect(yard.get_by_label("Beginning of a task id")).to_have_value("?j")


def test_filters_are_in_the_address_and_survive_going_back(yard: Page, submit: Submit) -> None:
    task = submit().rpartition("/")[2]
    yard.reload()
    row = yard.locator(f'.row-link[href$="{task}"]')
    expect(row).to_be_visible()
    yard.get_by_label("Queue", exact=True).select_option("batch")
    yard.wait_for_url(re.compile("queue=batch"))
    expect(row).to_have_count(0)
    yard.go_back()
    expect(row).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_small_screen_and_colours_follow_the_system(
    yard: Page, platform: Platform, submit: Submit, scheme: str
) -> None:
    yard.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    yard.set_viewport_size({"width": 380, "height": 760})
    base = f"{platform.url}/t/{platform.tenant}"
    address = submit(stdout="x" * 500)
    for path in (
        f"{base}/tasks",
        f"{base}/submit",
        f"{base}/submit?type=shell.command",
        f"{base}/task-types",
        address,
    ):
        yard.goto(path)
        width = yard.evaluate("document.documentElement.scrollWidth")
        assert width <= 380, path
    ground = yard.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in re.findall(r"\d+", ground)[:3])
    assert (brightness > 600) is (scheme == "light")
