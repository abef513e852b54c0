"""Logging in: one door for the pages and the operators' admin, with a second factor and a limit."""

from __future__ import annotations

import re
import time
import uuid

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, generate_totp_secret, hotp_value
from django.contrib.auth.models import User
from django.core import mail
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from tests.web.conftest import PAGE

PASSWORD = "a-good-password-1"
ADMIN_LOGIN = "/admin/login/?next=/admin/tenants/tenant/"


def code_of(secret: str) -> str:
    """Return what an authenticator app shows now."""
    return format_hotp_value(hotp_value(secret, int(time.time()) // 30))


@pytest.fixture
def staff(db: None) -> User:
    # A name of its own, because the limits of failed attempts outlive a test.
    name = f"stan-{uuid.uuid4().hex[:8]}"
    return User.objects.create_superuser(name, f"{name}@example.org", PASSWORD)


@pytest.fixture
def visitor() -> Client:
    """A browser at an address of its own, for the same reason."""
    number = uuid.uuid4().int
    address = f"10.{number % 251}.{number // 251 % 251}.{number // 63001 % 251}"
    return Client(headers=PAGE, REMOTE_ADDR=address)


def enter(client: Client, user: User, password: str, path: str = "/login") -> HttpResponse:
    """Send what either log-in form asks for."""
    form = {"login": user.username, "username": user.username, "password": password}
    return client.post(path, form)


def logged_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_the_admin_sends_to_the_one_log_in_page_and_back(staff: User, visitor: Client) -> None:
    asked = visitor.get("/admin/tenants/tenant/")
    assert asked["Location"] == ADMIN_LOGIN
    door = visitor.get(ADMIN_LOGIN)
    assert door["Location"] == "/login?next=/admin/tenants/tenant/"
    assert enter(visitor, staff, PASSWORD, door["Location"])["Location"] == "/admin/tenants/tenant/"
    assert visitor.get("/admin/tenants/tenant/").status_code == 200
    assert visitor.get(ADMIN_LOGIN)["Location"] == "/admin/tenants/tenant/"


@pytest.mark.parametrize("as_somebody", [False, True])
def test_the_admins_own_form_takes_no_password(staff: User, visitor: Client, as_somebody: bool) -> None:
    if as_somebody:
        visitor.force_login(User.objects.create(username="looker", is_staff=True))
    before = visitor.session.get("_auth_user_id")
    enter(visitor, staff, PASSWORD, "/admin/login/")
    assert visitor.session.get("_auth_user_id") == before


def test_who_is_no_staff_is_refused_there_and_sent_nowhere(visitor: Client, db: None) -> None:
    visitor.force_login(User.objects.create(username="mia"))
    assert visitor.get("/admin/", follow=True).status_code == 403


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/"])
def test_the_admins_log_in_leads_to_our_own_pages_only(
    staff: User, visitor: Client, target: str
) -> None:
    assert "evil" not in visitor.get("/admin/login/", {"next": target})["Location"]
    visitor.force_login(staff)
    assert visitor.get("/admin/login/", {"next": target})["Location"] == "/admin/"


def test_a_word_is_taken_for_an_address_and_not_for_the_name_of_a_page(
    staff: User, visitor: Client
) -> None:
    visitor.force_login(staff)
    answer = visitor.get("/admin/login/", {"next": "foo"})
    assert (answer.status_code, answer["Location"]) == (302, "foo")


def test_a_second_factor_is_asked_for_on_the_way_to_the_admin(staff: User, visitor: Client) -> None:
    secret = generate_totp_secret()
    TOTP.activate(staff, secret)
    halfway = enter(visitor, staff, PASSWORD, visitor.get(ADMIN_LOGIN)["Location"])
    assert halfway["Location"] == reverse("mfa_authenticate")
    assert not logged_in(visitor)
    page = visitor.get(halfway["Location"]).content.decode()
    assert "tokens.css" in page
    assert visitor.get("/admin/tenants/tenant/").status_code == 302
    wrong = visitor.post(halfway["Location"], {"code": "000000x"})
    assert "Incorrect code" in wrong.content.decode()
    assert not logged_in(visitor)
    right = visitor.post(halfway["Location"], {"code": code_of(secret)})
    assert right["Location"] == "/admin/tenants/tenant/"
    assert visitor.get("/admin/tenants/tenant/").status_code == 200


def test_failed_attempts_are_limited_on_the_way_to_the_admin(staff: User, visitor: Client) -> None:
    for _ in range(5):
        enter(visitor, staff, "wrong", visitor.get(ADMIN_LOGIN)["Location"])
    refused = enter(visitor, staff, PASSWORD, visitor.get(ADMIN_LOGIN)["Location"])
    assert "Too many failed login attempts" in refused.content.decode()
    assert not logged_in(visitor)


def test_wrong_codes_are_limited_too(staff: User, visitor: Client) -> None:
    secret = generate_totp_secret()
    TOTP.activate(staff, secret)
    path = enter(visitor, staff, PASSWORD)["Location"]
    for _ in range(5):
        visitor.post(path, {"code": "000000x"})
    assert "Too many failed" in visitor.post(path, {"code": code_of(secret)}).content.decode()
    assert not logged_in(visitor)


def test_a_user_turns_the_second_factor_on_and_what_is_stored_is_encrypted(
    staff: User, visitor: Client
) -> None:
    assert enter(visitor, staff, PASSWORD)["Location"] == "/"
    path = reverse("mfa_activate_totp")
    again = visitor.get(path, follow=True)
    page = visitor.post(again.request["PATH_INFO"], {"password": PASSWORD}, follow=True)
    page = visitor.get(path) if "otpauth" not in page.content.decode() else page
    secret = visitor.session["mfa.totp.secret"]
    codes = visitor.post(path, {"code": code_of(secret)}, follow=True)
    assert codes.status_code == 200
    found = re.findall(r"\b\d{8}\b", codes.content.decode())
    assert len(found) == 10
    stored = {each.type: str(each.data) for each in Authenticator.objects.filter(user=staff)}
    assert set(stored) == {"totp", "recovery_codes"}
    assert secret not in stored["totp"]
    assert "fernet:" in stored["totp"]
    assert "fernet:" in stored["recovery_codes"]
    visitor.post("/logout")
    halfway = enter(visitor, staff, PASSWORD)["Location"]
    assert visitor.post(halfway, {"code": found[0]})["Location"] == "/"
    assert logged_in(visitor)


@pytest.mark.parametrize("place", ["", "add/", "1/change/"])
def test_the_admin_shows_no_second_factor(staff: User, visitor: Client, place: str) -> None:
    Authenticator.objects.create(pk=1, user=staff, type="totp", data={"secret": "JBSWY3DPEHPK3PXP"})
    visitor.force_login(staff)
    assert visitor.get(f"/admin/mfa/authenticator/{place}").status_code == 404
    assert visitor.get(f"/admin/auth/user/{staff.pk}/delete/").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/password/reset/",
        "/accounts/email/",
        "/accounts/confirm-email/",
        "/accounts/signup/",
        "/accounts/login/",
        "/accounts/login/code/confirm/",
    ],
)
@pytest.mark.parametrize("as_somebody", [False, True])
def test_no_address_sends_mail_or_opens_a_second_door(
    staff: User, visitor: Client, path: str, as_somebody: bool
) -> None:
    if as_somebody:
        visitor.force_login(staff)
    form = {"email": "nobody@example.org", "action_add": ""}
    assert visitor.get(path).status_code == 404
    assert visitor.post(path, form).status_code == 404
    assert mail.outbox == []


@pytest.mark.parametrize(
    "name", ["account_change_password", "account_reauthenticate", "mfa_index", "account_inactive"]
)
def test_the_pages_of_an_account_open_and_link_to_pages_that_exist(
    staff: User, visitor: Client, name: str
) -> None:
    visitor.force_login(staff)
    page = visitor.get(reverse(name))
    assert page.status_code == 200
    for link in re.findall(r'(?:href|action)="(/[^"]*)"', page.content.decode()):
        assert visitor.get(link).status_code in (200, 302, 405), link


def test_a_password_is_changed_without_mail(staff: User, visitor: Client) -> None:
    visitor.force_login(staff)
    form = {"oldpassword": PASSWORD, "password1": "another-good-2", "password2": "another-good-2"}
    assert visitor.post(reverse("account_change_password"), form).status_code == 302
    staff.refresh_from_db()
    assert staff.check_password("another-good-2")
    assert mail.outbox == []
