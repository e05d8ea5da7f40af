"""The JSON API's access keys: list, add, show, change, remove; and temporary credentials derived from them."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from pydantic import Field

from cloudfinite.domain.access import EVERYTHING, AccessKey, Policy, policy_data, read_policy
from cloudfinite.errors import InvalidArgument
from cloudfinite.service.access import Keyring
from cloudfinite.web.api_routes import Answer, Question, Time, operation

_MAX_LIFETIME_S = 36 * 3_600  # Wire: CAM documentation, "GetFederationToken", DurationSeconds of the main account.
_SECRET_ID = r"^[A-Za-z0-9_-]{0,64}$"


class AccessRule(Question):
    """Allows the actions on keys that begin with one of the prefixes, in these buckets."""

    buckets: list[str] = Field(["*"], description="Names, or * for all")
    prefixes: list[str] = Field([""], description="Beginnings of keys; plain text")
    actions: list[str] = Field(["*"], description="As cos:GetObject, cos:Get*, ci:*; or read-only")


class KeyView(Answer):
    """A key pair without its secret. Whatever one of the rules allows is allowed."""

    secret_id: str
    is_enabled: bool
    created_at: Time
    policy: list[AccessRule]


class Keys(Answer):
    """Oldest first."""

    items: list[KeyView]


class NewKey(Question):
    """What is left out is made up; without a policy the key may do everything."""

    secret_id: str = Field("", pattern=_SECRET_ID)
    secret_key: str = Field("", max_length=128, pattern=r"^[!-~]*$")
    policy: list[AccessRule] | None = None


class KeyPair(Answer):
    """The secret key is shown here and nowhere else."""

    secret_id: str
    secret_key: str


class KeyChange(Question):
    """What is left out stays as it is."""

    is_enabled: bool | None = Field(None, description="Whether it may sign; what was derived from it follows")
    policy: list[AccessRule] | None = None


class RemovedKey(Answer):
    secret_id: str


class NewCredentials(Question):
    """Of which key, for how long, and for what: no more than the key may do, whatever the policy says."""

    secret_id: str
    lifetime_s: int = Field(1_800, ge=1, le=_MAX_LIFETIME_S)
    policy: list[AccessRule] | None = None


class CredentialsView(Answer):
    """A pair for a time. SDKs take the token as `Token`, `SecurityToken` or `SessionToken`."""

    secret_id: str
    secret_key: str
    token: str
    expires_at: Time


class KeysApi:
    """Access keys: who may sign requests, and what for."""

    group: ClassVar[str] = "keys"

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    @operation("GET", "/keys")
    async def list_keys(self) -> Keys:
        """List the access keys with what they may do."""
        return Keys(items=[_view(key) for key in self._keyring.all()])

    @operation("POST", "/keys", status=201)
    async def add_key(self, body: NewKey) -> KeyPair:
        """Add an access key; the answer is the only place that shows its secret."""
        secret_id, secret_key = await self._keyring.create(body.secret_id, body.secret_key, _policy(body.policy))
        return KeyPair(secret_id=secret_id, secret_key=secret_key)

    @operation("GET", "/keys/{secret_id}")
    async def show_key(self, secret_id: str) -> KeyView:
        """Show an access key, never its secret."""
        return _view(self._keyring.find(secret_id))

    @operation("PATCH", "/keys/{secret_id}")
    async def change_key(self, secret_id: str, body: KeyChange) -> KeyView:
        """Change what an access key may do, or disable it; at once, for credentials derived from it too."""
        policy = None if body.policy is None else _policy(body.policy)
        return _view(await self._keyring.change(secret_id, policy=policy, is_enabled=body.is_enabled))

    @operation("DELETE", "/keys/{secret_id}")
    async def remove_key(self, secret_id: str) -> RemovedKey:
        """Remove an access key; what it signs is refused from now on, with what was derived from it.

        The key of the settings comes back at the next start. The last key cannot be removed.
        """
        await self._keyring.remove(secret_id)
        return RemovedKey(secret_id=secret_id)

    @operation("POST", "/credentials", status=201)
    async def issue_credentials(self, body: NewCredentials) -> CredentialsView:
        """Make temporary credentials. They are stored nowhere, and end with their time or their key."""
        lifetime = timedelta(seconds=body.lifetime_s)
        made = self._keyring.issue(body.secret_id, _policy(body.policy), lifetime)
        return CredentialsView(
            secret_id=made.secret_id, secret_key=made.secret_key, token=made.token, expires_at=made.expires_at
        )


def _policy(rules: list[AccessRule] | None) -> Policy:
    if rules is None:
        return EVERYTHING
    try:
        return read_policy([rule.model_dump() for rule in rules])
    except ValueError as exc:
        raise InvalidArgument(str(exc)) from exc


def _view(key: AccessKey) -> KeyView:
    rules = [AccessRule.model_validate(rule) for rule in policy_data(key.policy)]
    return KeyView(secret_id=key.secret_id, is_enabled=key.is_enabled, created_at=key.created_at, policy=rules)
