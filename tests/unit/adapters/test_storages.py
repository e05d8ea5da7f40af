"""Which storage a bucket's URL in the settings means, and what is refused before anything is asked of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cloudfinite.adapters.folder import FolderStorage
from cloudfinite.adapters.s3 import S3Storage
from cloudfinite.adapters.storages import StorageAccess, open_storages, remote_names
from cloudfinite.errors import SetupError
from cloudfinite.settings import read_settings

ACCESS = StorageAccess("http://s3.internal:8333", "id", "secret")
TELLING = StorageAccess("http://s3.internal:8333", "id", "secret", tells_creations=True)


def now() -> datetime:
    return datetime.now(UTC)


async def test_urls_name_their_storages(tmp_path: Path) -> None:
    urls = {"a-1": "s3://scans", "b-2": f"file://{tmp_path}"}
    storages = open_storages(urls, {"default": ACCESS, "c-3": TELLING}, now)
    assert isinstance(storages["a-1"], S3Storage) and not storages["a-1"].tells_creations
    assert isinstance(storages["b-2"], FolderStorage)
    for storage in storages.values():
        await storage.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://", "kept at"),
        ("s3://scans/prefix", "kept at"),
        ("s3://id:topsecret@scans", "kept at"),
        ("https://s3.internal/scans", "kept at"),
        ("file://server/scans", "kept at"),
    ],
)
def test_url_that_is_no_place_is_refused_without_its_secrets(url: str, told: str) -> None:
    with pytest.raises(SetupError, match=told) as caught:
        open_storages({"a-1": url}, {"default": ACCESS}, now)
    assert "topsecret" not in caught.value.message


def test_bucket_without_access_is_refused() -> None:
    with pytest.raises(SetupError, match="nothing says how to reach it") as caught:
        open_storages({"a-1": "s3://scans"}, {"b-2": ACCESS}, now)
    assert "[storages.default]" in caught.value.advice


@pytest.mark.parametrize("endpoint", ["s3.internal:8333", "ftp://s3.internal", "http://id:secret@s3.internal"])
def test_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(SetupError, match="no http or https address"):
        open_storages({"a-1": "s3://scans"}, {"default": StorageAccess(endpoint, "id", "secret")}, now)


def test_telling_storages_stand_for_our_buckets_and_twice_is_refused() -> None:
    urls = {"a-1": "s3://scans", "b-2": "s3://pages", "c-3": "file:///srv"}
    assert remote_names(urls, {"a-1": TELLING, "default": ACCESS}) == {"scans": "a-1"}
    with pytest.raises(SetupError, match="both kept"):
        remote_names({"a-1": "s3://scans", "b-2": "s3://scans"}, {"default": TELLING})


def test_settings_read_places_and_hide_secrets(tmp_path: Path) -> None:
    config = tmp_path / "cloudfinite.toml"
    config.write_text(
        'buckets = "a-1:ap-x=s3://scans, b-2:ap-y, c-3:ap-z=file:///srv/x"\n'
        '[storages.a-1]\nendpoint = "http://s3"\naccess_key_id = "id"\nsecret_access_key = "topsecret"\n'
    )
    settings = read_settings(config)
    assert settings.storage_urls() == {"a-1": "s3://scans", "c-3": "file:///srv/x"}
    assert settings.bucket_list() == [("a-1", "ap-x"), ("b-2", "ap-y"), ("c-3", "ap-z")]
    assert not settings.keeps_all_elsewhere
    assert settings.storages["a-1"].secret_access_key == "topsecret"
    assert "topsecret" not in str(settings.shown())


def test_unknown_name_in_a_storage_is_told_without_its_secrets(tmp_path: Path) -> None:
    config = tmp_path / "cloudfinite.toml"
    config.write_text('[storages.a-1]\nendpoint = "http://s3"\nsecret_access_key = "topsecret"\n')
    with pytest.raises(SetupError, match=r"storages\.a-1\.access_key_id") as caught:
        read_settings(config)
    assert "topsecret" not in caught.value.message
