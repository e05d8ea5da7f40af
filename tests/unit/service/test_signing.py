"""Who signs: the target's secrets, else its bucket's, else the installation's; what signed before signs for a while."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from cloudfinite.adapters.seal import AesSeal
from cloudfinite.domain.delivery import SigningSecret, Target
from cloudfinite.errors import InvalidArgument, SetupError
from cloudfinite.service.signing import Signer
from cloudfinite.wire.webhooks import new_secret

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
INSTALLATION, BUCKET, TARGET, NEWER = (new_secret() for _ in range(4))
NAMES = {INSTALLATION: "installation", BUCKET: "bucket", TARGET: "target", NEWER: "newer"}


@pytest.fixture(autouse=True)
def read_the_clock() -> None:
    global NOW  # the official library refuses signatures that are five minutes old, and this module may be older
    NOW = datetime.now(UTC)


@pytest.fixture
def signer() -> Signer:
    return Signer([INSTALLATION], AesSeal("test"))


def verifies(secret: str, signature: str) -> bool:
    headers = {"webhook-id": "msg-1", "webhook-timestamp": str(int(NOW.timestamp())), "webhook-signature": signature}
    try:
        Webhook(secret).verify(b"{}", headers)
    except WebhookVerificationError:
        return False
    return True


def who_signs(signer: Signer, secrets: Sequence[SigningSecret] = (), bucket: str = "b-1") -> set[str]:
    """As the official library finds out, among all secrets of these tests."""
    signature = signer.signature(Target("http://x/", secrets=tuple(secrets)), bucket, "msg-1", NOW, b"{}")
    return {name for secret, name in NAMES.items() if verifies(secret, signature)}


def test_the_nearest_secret_signs(signer: Signer) -> None:
    own = signer.rotated((), TARGET, NOW, timedelta(0))
    assert who_signs(signer) == {"installation"}
    signer.know_buckets({"b-1": signer.rotated((), BUCKET, NOW, timedelta(0))})
    assert who_signs(signer) == {"bucket"}
    assert who_signs(signer, bucket="b-2") == who_signs(signer, bucket="") == {"installation"}
    assert who_signs(signer, own) == {"target"}


def test_first_own_secret_lets_the_inherited_one_sign_during_the_overlap(signer: Signer) -> None:
    signer.know_buckets({"b-1": signer.rotated((), BUCKET, NOW, HOUR)})
    assert who_signs(signer) == {"bucket", "installation"}
    assert who_signs(signer, signer.rotated((), TARGET, NOW, HOUR)) == {"target", "bucket", "installation"}
    long_ago = NOW - 2 * HOUR
    assert who_signs(signer, signer.rotated((), TARGET, long_ago, HOUR)) == {"target"}


def test_rotation_keeps_the_last_secret_for_the_overlap_only(signer: Signer) -> None:
    first = signer.rotated((), TARGET, NOW - HOUR, timedelta(0))
    assert who_signs(signer, signer.rotated(first, NEWER, NOW, HOUR)) == {"newer", "target"}
    assert who_signs(signer, signer.rotated(first, NEWER, NOW, timedelta(0))) == {"newer"}


def test_second_rotation_does_not_prolong_the_first_overlap(signer: Signer) -> None:
    first = signer.rotated((), TARGET, NOW - HOUR, timedelta(minutes=59))
    assert who_signs(signer, signer.rotated(first, NEWER, NOW - timedelta(minutes=2), HOUR)) == {"newer", "target"}


def test_dropped_secret_gives_way_to_the_inherited_one_after_the_overlap(signer: Signer) -> None:
    own = signer.rotated((), TARGET, NOW - HOUR, timedelta(0))
    assert who_signs(signer, signer.rotated(own, "", NOW, HOUR)) == {"target", "installation"}
    assert who_signs(signer, signer.rotated(own, "", NOW, timedelta(0))) == {"installation"}


def test_several_installation_secrets_sign_together() -> None:
    assert who_signs(Signer([NEWER, INSTALLATION], AesSeal("test"))) == {"newer", "installation"}


def test_secrets_are_sealed_and_bad_ones_refused(signer: Signer) -> None:
    assert TARGET.encode() not in signer.rotated((), TARGET, NOW, HOUR)[0].sealed
    with pytest.raises(InvalidArgument, match="at least 16 bytes"):
        signer.rotated((), "whsec_c2hvcnQ=", NOW, HOUR)
    with pytest.raises(SetupError, match="callback_secret"):
        Signer([INSTALLATION, "whsec_?"], AesSeal("test"))
