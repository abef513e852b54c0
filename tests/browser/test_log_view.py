"""The log view: text stays text, lines have addresses, following stops for a hand."""

from __future__ import annotations

import httpx2
from playwright.sync_api import Page, expect

from tests.browser.conftest import Submit
from tests.e2e.platforms import Platform

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script> <b>bold</b>"


def test_output_that_looks_like_a_page_stays_text(yard: Page, submit: Submit) -> None:
    yard.goto(submit(stdout=EVIL, stderr="\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202eback", fail=EVIL))
    lines = yard.locator(".line > span")
    expect(lines.get_by_text(EVIL, exact=True)).to_be_visible()
    expect(yard.locator(".error-message")).to_have_text(EVIL)
    expect(yard.locator(".log-lines img, .log-lines script, .log-lines b")).to_have_count(0)
    expect(yard.locator(".line.stderr .ansi-red-fg")).to_have_text("red")
    expect(yard.locator(".hidden-char", has_text="U+202E")).to_be_visible()


def test_a_line_has_an_address_and_following_is_off_there(yard: Page, submit: Submit) -> None:
    address = submit(stdout="line", repeat=5000)
    yard.goto(address)
    expect(yard.locator("#live")).to_contain_text("Complete")
    expect(yard.locator("#L5000")).to_be_in_viewport()
    # A page that is opened later holds the end of the log only; the address makes it begin earlier.
    yard.reload()
    expect(yard.locator("#L5000")).to_be_in_viewport()
    expect(yard.locator("#L1200")).to_have_count(0)
    yard.goto("about:blank")
    yard.goto(f"{address}#L1200")
    expect(yard.locator("#L1200")).to_be_in_viewport()
    expect(yard.locator("#L1200")).to_have_class("line stdout marked")
    expect(yard.locator("[data-toggle=follow]")).to_have_attribute("aria-pressed", "false")


def test_older_lines_come_on_demand_and_none_is_missing(yard: Page, submit: Submit) -> None:
    yard.goto(submit(stdout="line", repeat=5000))
    expect(yard.locator("#live")).to_contain_text("Complete")
    yard.reload()
    button = yard.get_by_role("button", name="Show older lines")
    expect(button).to_be_visible()
    for _ in range(5):
        if not button.is_visible():
            break
        before = yard.locator(".line").count()
        button.click()
        yard.wait_for_function("count => document.querySelectorAll('.line').length > count", arg=before)
    numbers = yard.locator(".line > a").all_text_contents()
    shown = [int(number) for number in numbers]
    assert shown == sorted(set(shown))
    assert {*range(1, 5001)} <= {*shown}


def test_scrolling_up_pauses_following_and_the_button_goes_back(yard: Page, submit: Submit) -> None:
    yard.goto(submit(stdout="line", repeat=400, seconds=6, steps=6))
    expect(yard.locator("#L300")).to_be_attached()
    follow = yard.locator("[data-toggle=follow]")
    expect(follow).to_have_attribute("aria-pressed", "true")
    yard.locator(".log-lines").hover()
    yard.mouse.wheel(0, -800)
    expect(follow).to_have_attribute("aria-pressed", "false")
    yard.keyboard.press("f")
    expect(follow).to_have_attribute("aria-pressed", "true")


def test_a_lost_connection_comes_back_without_a_gap_or_a_double(
    yard: Page, submit: Submit, platform: Platform
) -> None:
    script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); echo tick $i; sleep 0.2; done"
    yard.goto(submit("shell.command", command=script))
    expect(yard.locator(".line", has_text="tick 3").first).to_be_attached()
    old = platform.signal("web")
    expect(yard.locator("#live")).to_contain_text("trying again")
    platform.wait_for_another("web", old)
    expect(yard.locator("#live")).to_contain_text("Complete", timeout=40_000)
    ticks = yard.locator(".line.stdout > span").all_text_contents()
    assert ticks == [f"tick {number}" for number in range(1, 61)]


def test_the_raw_log_is_downloaded_as_text(yard: Page, submit: Submit) -> None:
    yard.goto(submit(stdout="raw \x1b[32mgreen\x1b[0m"))
    expect(yard.locator("#live")).to_contain_text("Complete")
    with yard.expect_download() as waiting:
        yard.get_by_role("button", name="Raw").click()
    content = waiting.value.path().read_text()
    assert "raw \x1b[32mgreen" in content
    assert httpx2.URL(yard.url).path.rpartition("/")[2] in waiting.value.suggested_filename
