"""Every deed on tenants, members, tokens and limits; each is audited in its own transaction."""

from tenants.services.limits import limits_put
from tenants.services.members import member_add, member_remove, member_role_set
from tenants.services.tenants import tenant_change, tenant_create
from tenants.services.tokens import (
    operator_token_issue,
    token_issue,
    token_revoke,
    token_version,
)

__all__ = [
    "limits_put",
    "member_add",
    "member_remove",
    "member_role_set",
    "operator_token_issue",
    "tenant_change",
    "tenant_create",
    "token_issue",
    "token_revoke",
    "token_version",
]
