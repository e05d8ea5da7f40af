"""Who a request is from, and whether they may make this call: the signature, the token beside it, the row's action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cloudfinite.domain.access import Action, Grant, Scope
from cloudfinite.errors import AccessDenied
from cloudfinite.web.request import Query, Request
from cloudfinite.wire.signature import Refusals, SignedRequest, is_signed, verify

# Wire: cos-python-sdk-v5 and cos-nodejs-sdk-v5 send the one to object hosts and the other to API hosts, cos-go-sdk-v5
# the first to both; in presigned URLs they are parameters.
_TOKENS = ("x-cos-security-token", "x-ci-security-token")

_READING = frozenset({"GET", "HEAD"})


class Keys(Protocol):
    """Who may sign, and what for; see `service.access.Keyring`."""

    def secret_of(self, secret_id: str, token: str = "") -> str | None: ...
    def grant_of(self, secret_id: str, token: str = "") -> Grant:
        """Raises ExpiredToken."""

    async def public_grant(self, bucket: str) -> Grant: ...


def find_token(headers: Mapping[str, str], query: Query) -> str:
    """The token of temporary credentials, "" without one. It need not be signed: it makes the secret that signs."""
    return next(filter(None, (headers.get(name) or query.get(name) for name in _TOKENS)), "")


async def identify(
    keys: Keys, signed: SignedRequest, authorization: str, token: str, bucket: str, now_s: int, refusals: Refusals
) -> tuple[str, Grant]:
    """Who signed ("" where the bucket is open to anybody and nobody did), and what they may do.

    Raises what `verify` raises, and ExpiredToken.
    """
    if signed.method in _READING and not is_signed(authorization, signed.params):
        grant = await keys.public_grant(bucket)
        if grant.policies:
            return "", grant
    secret_id = verify(signed, authorization, lambda name: keys.secret_of(name, token), now_s, refusals)
    return secret_id, keys.grant_of(secret_id, token)


def check_bucket(action: Action | None, request: Request) -> None:
    """Raises AccessDenied for a bucket that does not exist for the signer, whether or not it exists."""
    is_of_account = action is not None and action.scope is Scope.ACCOUNT
    if not is_of_account and not request.grant.sees(request.bucket):
        raise AccessDenied(f"this key may not see the bucket {request.bucket}")


def check_action(action: Action, request: Request) -> None:
    """Raises AccessDenied unless the signer may make the call. What the scope EACH leaves open the handler checks."""
    match action.scope:
        case Scope.ACCOUNT:
            is_allowed = request.grant.allows_somewhere(action)
        case Scope.EACH:
            is_allowed = bool(request.grant.prefixes(action, request.bucket))
        case Scope.BUCKET:
            is_allowed = request.grant.allows(action, request.bucket)
        case Scope.LISTING:
            is_allowed = request.grant.allows(action, request.bucket, request.query.get("prefix"))
        case Scope.OBJECT:
            is_allowed = request.grant.allows(action, request.bucket, request.key)
    if not is_allowed:
        raise AccessDenied(f"this key may not {action.wire} here")
