"""What a page says when a request behind it fails: in sight, and closed without a mouse."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.e2e.platforms import Platform


def test_a_refusal_is_shown_in_the_servers_words_and_closed_by_keyboard(
    yard: Page, platform: Platform
) -> None:
    yard.goto(f"{platform.url}/t/{platform.tenant}/submit?type=test.dummy")
    alert = yard.locator("#problem")
    expect(alert).to_be_hidden()
    yard.context.clear_cookies(name="switchyard_csrf")
    yard.get_by_role("button", name="Submit", exact=True).press("Enter")
    expect(alert).to_be_visible()
    expect(alert).to_have_role("alert")
    expect(alert).to_contain_text("Load the page again")
    box = alert.bounding_box()
    assert box is not None
    assert box["width"] > 200
    close = alert.get_by_role("button", name="Dismiss")
    for _ in range(60):
        yard.keyboard.press("Tab")
        if close.evaluate("it => it === document.activeElement"):
            break
    expect(close).to_be_focused()
    yard.keyboard.press("Enter")
    expect(alert).to_be_hidden()


def test_a_server_out_of_reach_is_shown_until_it_answers_again(yard: Page) -> None:
    away = "**/tasks?*"
    yard.route(away, lambda route: route.abort("connectionrefused"))
    yard.get_by_label("Queue", exact=True).select_option("batch")
    alert = yard.get_by_role("alert").filter(has_text="The server cannot be reached; try again.")
    expect(alert).to_be_visible()
    yard.keyboard.press("Escape")
    expect(alert).to_be_hidden()
    yard.get_by_label("Queue", exact=True).select_option("normal")
    expect(alert).to_be_visible()
    yard.unroute(away)
    yard.get_by_label("Queue", exact=True).select_option("critical")
    expect(alert).to_be_hidden()


def test_an_answer_without_words_of_ours_is_shown_by_its_number(yard: Page) -> None:
    yard.route("**/tasks?*", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    yard.get_by_label("Queue", exact=True).select_option("batch")
    expect(yard.get_by_role("alert")).to_contain_text("The server answered 502; load the page again.")
