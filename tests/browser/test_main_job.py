"""The main job in a browser: submit by form, watch it live, cancel it."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Submit
from tests.e2e.platforms import Platform


def status(page: Page) -> object:
    return expect(page.locator("#task-head .status"))


def test_a_task_submitted_by_the_form_is_watched_to_its_end(yard: Page, platform: Platform) -> None:
    yard.goto(f"{platform.url}/t/{platform.tenant}/submit?type=test.dummy")
    form = yard.locator("#submit-form")
    for more in form.get_by_text("more", exact=False).and_(form.locator("summary")).all():
        more.click()
    form.locator("[name='params.seconds']").fill("3")
    form.locator("[name='params.steps']").fill("6")
    form.locator("[name='params.stdout']").fill("hello from the yard")
    expect(yard.locator("#calls")).to_contain_text("-p seconds=3")
    yard.get_by_role("button", name="Check only").click()
    expect(yard.get_by_text("This would be accepted")).to_be_visible()
    yard.get_by_role("button", name="Submit", exact=True).click()
    yard.wait_for_url(re.compile(r"/tasks/[0-9a-f-]{36}$"))
    expect(yard.locator("#progress")).to_be_visible()
    status(yard).to_have_text("completed")
    expect(yard.locator(".line", has_text="hello from the yard").first).to_be_visible()
    expect(yard.locator("#live")).to_contain_text("Complete")
    expect(yard).to_have_title(re.compile("^completed: test.dummy"))


def test_a_wrong_value_is_marked_at_its_field(yard: Page, platform: Platform) -> None:
    yard.goto(f"{platform.url}/t/{platform.tenant}/submit?type=test.dummy")
    form = yard.locator("#submit-form")
    form.locator("[name='priority']").fill("1000")
    yard.get_by_role("button", name="Submit", exact=True).click()
    expect(yard.get_by_role("alert")).to_contain_text("Not submitted")
    expect(form.locator("[name='priority']")).to_have_attribute("aria-invalid", "true")
    expect(form.locator("[name='priority']")).to_have_value("1000")


def test_a_running_task_is_cancelled_with_a_reason(yard: Page, submit: Submit) -> None:
    yard.goto(submit(seconds=120, steps=120))
    status(yard).to_have_text("running")
    yard.locator("#cancel-button").click()
    yard.get_by_label("Reason").fill("wrong branch")
    yard.get_by_role("button", name="Cancel the task").click()
    status(yard).to_have_text("cancelled")
    expect(yard.locator("#task-head")).to_contain_text("wrong branch")
    expect(yard.locator("#cancel-button")).to_have_count(0)


def test_a_failure_is_shown_first_and_can_be_retried(yard: Page, submit: Submit) -> None:
    yard.goto(submit(fail="it broke", stderr="the last words"))
    expect(yard.locator(".box-bad")).to_contain_text("it broke")
    expect(yard.locator(".box-bad .tail")).to_contain_text("the last words")
    yard.get_by_role("button", name="Retry").click()
    expect(yard.get_by_text("The task has a new life")).to_be_visible()
    expect(yard.locator(".runs tbody tr:not(.under)")).to_have_count(2)


def test_the_list_changes_by_itself(yard: Page, submit: Submit) -> None:
    expect(yard.locator("#live")).to_contain_text("Live")
    task_id = submit(seconds=2, steps=4).rpartition("/")[2]
    row = yard.locator(f"#task-{task_id}")
    expect(row).to_be_visible()
    expect(row.locator(".status")).to_have_text("completed")
