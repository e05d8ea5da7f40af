"""Settings come from flags, environment and TOML, in this order, and say what is wrong with a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudfinite.errors import SetupError
from cloudfinite.settings import read_settings, setting_rows


def test_a_flag_beats_the_environment_and_that_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "c.toml"
    config.write_text("port = 1\nlease_s = 1\nlog_level = 'debug'\n")
    monkeypatch.setenv("CLOUDFINITE_PORT", "2")
    monkeypatch.setenv("CLOUDFINITE_LEASE_S", "2")
    settings = read_settings(config, port=3)
    assert (settings.port, settings.lease_s, settings.log_level) == (3, 2.0, "debug")


def test_the_file_in_the_working_folder_is_found_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cloudfinite.toml").write_text("port = 4321\n")
    monkeypatch.chdir(tmp_path)
    assert read_settings().port == 4321


def test_lists_and_tables_are_written_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDFINITE_ALLOW_CIDRS", "10.0.0.0/8, 192.168.0.0/16")
    monkeypatch.setenv("CLOUDFINITE_RETRY_SCHEDULE_S", "0, 1.5")
    monkeypatch.setenv("CLOUDFINITE_HOSTS", "scans.example.com=b-1250000000")
    settings = read_settings()
    assert settings.allow_cidrs == ["10.0.0.0/8", "192.168.0.0/16"]
    assert settings.retry_schedule_s == [0, 1.5]
    assert settings.hosts == {"scans.example.com": "b-1250000000"}
    assert read_settings(ocr_options='{"threads": 1}').ocr_options == {"threads": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = 70000", "port"),
        ("role = 'boss'", "role"),
        ("colour = 'red'", "colour"),
        ("lease_s = 0", "lease_s"),
        ("port = ", "settings cannot be read"),
    ],
)
def test_a_wrong_value_names_the_setting(tmp_path: Path, text: str, told: str) -> None:
    config = tmp_path / "c.toml"
    config.write_text(text)
    with pytest.raises(SetupError, match=told):
        read_settings(config)


def test_a_named_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="does not exist"):
        read_settings(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["nonumber:ap-x", "b-125", "b-x:ap-y", "-125:"])
def test_a_bucket_without_number_or_region_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match="buckets"):
        read_settings(buckets=text).bucket_list()


@pytest.mark.parametrize(
    ("host", "profile", "is_strict"),
    [("127.0.0.1", "", False), ("::1", "", False), ("0.0.0.0", "", True), ("127.0.0.1", "strict", True),
     ("0.0.0.0", "dev", False)],
)  # fmt: skip
def test_the_profile_follows_the_address_unless_given(host: str, profile: str, is_strict: bool) -> None:
    assert read_settings(host=host, profile=profile).is_strict is is_strict


def test_every_setting_has_a_sentence_of_help() -> None:
    assert [name for name, field in setting_rows() if not field.description] == []
