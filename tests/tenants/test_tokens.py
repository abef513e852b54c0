"""API tokens: their form, how they are looked up, and what their end looks like."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models.functions import Now

from audit.models import AuditEntry
from rest.errors import ValidationFailed
from tenants import authentication, tokens
from tenants.actor import SYSTEM, Actor
from tenants.authentication import authenticate_token
from tenants.errors import (
    InvalidToken,
    OperatorRequired,
    ScopesExceeded,
    TokenExpired,
    TokenRevoked,
)
from tenants.models import ApiToken
from tenants.scopes import SCOPES, scopes_of
from tenants.services import operator_token_issue, token_issue, token_revoke
from tests.questions import questions
from tests.tenants.callers import World

TOKENS = "/api/v1/tenants/acme/tokens"


def test_a_token_reads_back_as_what_was_written() -> None:
    parts = tokens.generate()
    raw = tokens.write(parts)
    assert raw.startswith(f"sy_{parts.prefix}_")
    assert tokens.read(raw) == parts


def test_a_typing_error_is_seen_without_asking_the_database(world: World) -> None:
    _, raw = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    last = "A" if raw[-1] != "A" else "B"
    with questions() as asked:
        for wrong in (raw[:-1] + last, raw[:-1], raw + "A", "sy_", "", raw.upper(), raw + "\n"):
            with pytest.raises(InvalidToken):
                authenticate_token(wrong)
    assert not asked


def test_only_the_hash_of_the_secret_is_stored(world: World) -> None:
    token, raw = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    secret = tokens.read(raw).secret  # type: ignore[union-attr]
    row = ApiToken.objects.filter(pk=token.pk).values().get()
    assert secret not in str(row)
    assert secret not in str(list(AuditEntry.objects.values()))
    assert row["hash"] == tokens.hash_of(secret)


def test_known_and_unknown_prefixes_do_the_same_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, _ = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    compared: list[str] = []

    def matches(stored: str, secret: str) -> bool:
        compared.append(stored)
        return tokens.matches(stored, secret)

    monkeypatch.setattr(authentication, "matches", matches)
    other = tokens.generate()
    for prefix in (token.prefix, other.prefix):
        with pytest.raises(InvalidToken):
            authenticate_token(tokens.write(tokens.TokenParts(prefix, other.secret)))
    with pytest.raises(InvalidToken):
        authenticate_token("malformed")
    assert compared == [token.hash, tokens.NOBODY, tokens.NOBODY]


def test_expired_and_revoked_are_told_only_to_one_who_knows_the_secret(world: World) -> None:
    token, raw = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    wrong = tokens.write(tokens.TokenParts(token.prefix, tokens.generate().secret))
    ApiToken.objects.filter(pk=token.pk).update(expires_at=Now())
    with pytest.raises(TokenExpired):
        authenticate_token(raw)
    with pytest.raises(InvalidToken):
        authenticate_token(wrong)
    token_revoke(actor=SYSTEM, token=token)
    with pytest.raises(TokenRevoked):
        authenticate_token(raw)
    with pytest.raises(InvalidToken):
        authenticate_token(wrong)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (None, "not_authenticated"),
        ("", "not_authenticated"),
        ("Bearer", "invalid_token"),
        ("Bearer nonsense", "invalid_token"),
        ("Basic YTpi", "invalid_token"),
        ("Bearer \u0661", "invalid_token"),
        ("Bearer " + "x" * 10_000, "invalid_token"),
    ],
)
def test_without_a_good_token_the_answer_is_401(world: World, header: str | None, code: str) -> None:
    caller = world.anonymous()
    if header is not None:
        caller.headers["Authorization"] = header
    answer = caller.get("/api/v1/me")
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert answer.json()["code"] == code


def test_a_revoked_token_is_refused_at_the_next_request(world: World) -> None:
    admin, victim = world.token(), world.token(name="victim")
    token = ApiToken.objects.get(name="victim")
    assert victim.get("/api/v1/me").status_code == 200
    assert admin.send("DELETE", f"{TOKENS}/{token.uid}").status_code == 204
    answer = victim.get("/api/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (401, "revoked")
    assert admin.send("DELETE", f"{TOKENS}/{token.uid}").status_code == 204
    shown = admin.get(f"{TOKENS}/{token.uid}").json()
    assert shown["revoked_at"] is not None
    assert AuditEntry.objects.filter(action="token.revoke").count() == 1


def test_a_token_is_shown_once_and_works(world: World) -> None:
    answer = world.token().post(TOKENS, {"name": "new", "scopes": ["tasks:read"], "expires_in": 60})
    assert answer.status_code == 201
    made = answer.json()
    assert world.bearer(made["token"]).get("/api/v1/tenants/acme").json()["scopes"] == ["tasks:read"]
    again = world.token().get(answer["Location"]).json()
    assert "token" not in again
    assert "hash" not in again
    assert made["prefix"] == again["prefix"] == made["token"][3:11]


def test_last_used_moves_at_most_once_a_minute(world: World) -> None:
    token, raw = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    authenticate_token(raw)
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None
    with questions() as asked:
        authenticate_token(raw)
    assert len(asked) == 1
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=first - timedelta(seconds=61))
    authenticate_token(raw)
    token.refresh_from_db()
    assert token.last_used_at is not None
    assert token.last_used_at >= first


def test_nobody_gives_scopes_that_they_do_not_have(world: World) -> None:
    caller = world.token("tokens:write", "tasks:read")
    refused = caller.post(TOKENS, {"name": "x", "scopes": ["tasks:read", "tasks:write"]})
    assert (refused.status_code, refused.json()["required"]) == (403, ["tasks:write"])
    assert caller.post(TOKENS, {"name": "x", "scopes": ["*"]}).status_code == 403
    assert caller.post(TOKENS, {"name": "x", "scopes": ["tasks:read"]}).status_code == 201


def test_who_has_every_scope_may_give_the_star(world: World) -> None:
    issuer = Actor(kind="user", name="user:adam", scopes=scopes_of("admin"))
    token, _ = token_issue(tenant=world.acme, actor=issuer, name="x", scopes=["*"])
    assert token.scopes == ["*"]
    less = Actor(kind="user", name="user:adam", scopes=SCOPES - {"kv:read"})
    with pytest.raises(ScopesExceeded):
        token_issue(tenant=world.acme, actor=less, name="x", scopes=["*"])


def test_an_unknown_scope_is_pointed_at(world: World) -> None:
    with pytest.raises(ValidationFailed) as caught:
        token_issue(tenant=world.acme, actor=SYSTEM, name="x", scopes=["tasks:read", "tasks:*"])
    assert caught.value.errors[0].pointer == "/scopes/1"


def test_only_an_operator_issues_operator_tokens(world: World) -> None:
    with pytest.raises(OperatorRequired):
        operator_token_issue(actor=Actor(kind="token", name="token:ci"), name="x")
    token, raw = operator_token_issue(actor=SYSTEM, name="root")
    assert authenticate_token(raw).operator
    assert token.tenant is None


def test_issuing_is_audited_with_the_request_that_asked(world: World) -> None:
    body = {"name": "seen", "scopes": ["kv:read"]}
    world.token().post(TOKENS, body, X_Request_ID="req-1")
    entry = AuditEntry.objects.get(action="token.issue", data__name="seen")
    assert (entry.actor, entry.tenant_id, entry.request_id) == (
        "token:ci",
        world.acme.pk,
        "req-1",
    )
    assert entry.data == {"name": "seen", "scopes": ["kv:read"], "operator": False}


def test_a_token_is_revoked_in_the_version_that_was_seen(world: World) -> None:
    alice = world.user("alice")
    row, _ = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    path = f"{TOKENS}/{row.uid}"
    seen = alice.get(path)["ETag"]
    assert alice.send("DELETE", path, If_Match='"other"').status_code == 412
    assert alice.get(path).json()["revoked_at"] is None
    assert alice.send("DELETE", path, If_Match=seen).status_code == 204
    stale = alice.send("DELETE", path, If_Match=seen)
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert alice.send("DELETE", path).status_code == 204
    assert AuditEntry.objects.filter(action="token.revoke").count() == 1


def test_a_token_that_is_used_stays_the_version_that_it_is(world: World) -> None:
    row, raw = token_issue(tenant=world.acme, actor=SYSTEM, name="ci", scopes=["*"])
    path = f"{TOKENS}/{row.uid}"
    unused = world.user("alice").get(path)
    assert world.bearer(raw).get(path)["ETag"] == unused["ETag"]
