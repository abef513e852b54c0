"""What can go wrong with tenants, members, tokens and limits, in the words of the API."""

from __future__ import annotations

from rest.errors import Conflict, FieldError, Forbidden, NotFound, Unauthenticated


class InvalidToken(Unauthenticated):
    """Unknown and malformed tokens look alike."""

    code = "invalid_token"
    title = "Invalid token"
    default_detail = "The token is not valid. Check that it was copied whole."


class TokenExpired(Unauthenticated):
    """The token's time is over."""

    code = "expired"
    title = "Token expired"
    default_detail = "The token has expired; issue a new one."


class TokenRevoked(Unauthenticated):
    """Somebody has revoked the token."""

    code = "revoked"
    title = "Token revoked"
    default_detail = "The token was revoked; issue a new one."


class RoleRequired(Forbidden):
    """The caller lacks a role; ``required`` in the answer names it."""

    code = "role_required"
    title = "Role required"

    def __init__(self, required: str) -> None:
        super().__init__(f"This needs the role {required}.", required=required)


class OperatorRequired(RoleRequired):
    """Only platform operators may do this."""

    code = "operator_required"

    def __init__(self) -> None:
        super().__init__("operator")
        self.detail = "This needs a platform operator's token, or a staff user."


class OperatorReasonRequired(Forbidden):
    """An operator acts in somebody's tenant without saying why."""

    code = "operator_reason_required"
    title = "Reason required"
    default_detail = "An operator who acts in a tenant gives a reason in X-Operator-Reason."

    def __init__(self) -> None:
        place = FieldError("header:X-Operator-Reason", "required", self.default_detail)
        super().__init__(errors=[place])


class ScopesExceeded(Forbidden):
    """A token or role has more scopes than the caller who gives or takes it."""

    code = "scopes_exceeded"
    title = "Scopes exceeded"

    def __init__(self, missing: list[str]) -> None:
        super().__init__(
            f"You cannot give or take away what you do not have: {', '.join(missing)}.",
            required=missing,
        )


class SlugTaken(Conflict):
    """There is a tenant with this slug."""

    code = "slug_taken"
    title = "Slug taken"
    default_detail = "There is a tenant with this slug; choose another."


class AlreadyMember(Conflict):
    """The user is a member."""

    code = "already_member"
    title = "Already a member"
    default_detail = "The user is a member of this tenant; change the role instead."


class LastOwner(Conflict):
    """The tenant would be left without an owner."""

    code = "last_owner"
    title = "Last owner"
    default_detail = "The last owner stays; make somebody else an owner first."


__all__ = [
    "AlreadyMember",
    "InvalidToken",
    "LastOwner",
    "NotFound",
    "OperatorReasonRequired",
    "OperatorRequired",
    "RoleRequired",
    "ScopesExceeded",
    "SlugTaken",
    "TokenExpired",
    "TokenRevoked",
]
