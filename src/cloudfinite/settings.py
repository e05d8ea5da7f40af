"""Every setting, as one table: name, default, unit, help. Options, environment, TOML and the docs all come from it.

Precedence: command line, `CLOUDFINITE_<NAME>`, the TOML file, the default. Read by `app` and `cli` only.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from cloudfinite.errors import SetupError


def _split(value: Any) -> Any:
    """A list as people write it on a line: `a, b`."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def _split_pairs(value: Any) -> Any:
    """A table as people write it on a line: `host=bucket, host2=bucket2`."""
    if not isinstance(value, str):
        return value
    if value.startswith("{"):
        return json.loads(value)
    return dict(part.split("=", 1) for part in _split(value))


def _read_object(value: Any) -> Any:
    """A JSON object, written out on the command line or in the environment."""
    return json.loads(value) if isinstance(value, str) else value


class StorageTable(BaseModel):
    """How the storage of one bucket is reached; see docs/remote-buckets.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: str
    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"
    path_style: bool = True
    opaque_keys: bool = False
    tells_creations: bool = False


Storages = Annotated[dict[str, StorageTable], NoDecode, BeforeValidator(_read_object)]
Object = Annotated[dict[str, Any], NoDecode, BeforeValidator(_read_object)]
Words = Annotated[list[str], NoDecode, BeforeValidator(_split)]
Numbers = Annotated[list[float], NoDecode, BeforeValidator(_split)]
Pairs = Annotated[dict[str, str], NoDecode, BeforeValidator(_split_pairs)]


def _setting(default: Any, help_text: str, *, unit: str = "", group: str) -> Any:
    return Field(default, description=help_text, json_schema_extra={"unit": unit, "group": group})


class Settings(BaseSettings):
    """The table. `unit` and `group` are for people; values are checked when read."""

    model_config = SettingsConfigDict(env_prefix="CLOUDFINITE_", extra="forbid", toml_file=None)
    config_file: ClassVar[Path | None] = None

    # --- where and what
    host: str = _setting("127.0.0.1", "Address to listen on", group="server")
    port: int = _setting(9000, "Port to listen on; 0 picks a free one and prints it", group="server")
    data: Path = _setting(Path("cloudfinite-data"), "Data folder: database, objects, keys, token", group="server")
    database: str = _setting("", "postgresql://… for many machines; empty: SQLite in the data folder", group="server")
    role: Literal["all", "api", "worker", "deliver"] = _setting("all", "What this process does", group="server")
    profile: Literal["", "dev", "strict"] = _setting(
        "",
        "dev allows callbacks to loopback and private addresses, strict refuses them; default: dev on loopback",
        group="server",
    )
    shared_objects: bool = _setting(False, "The data folder's objects are shared by all machines", group="server")

    # --- who may, and what there is
    secret_id: str = _setting(
        "", "Secret id of the first key pair; empty: a development pair, on loopback only", group="access"
    )
    secret_key: str = _setting("", "Secret key of the first key pair", group="access")
    encryption_key: str = _setting(
        "", "Key that seals secrets in the database; empty: secret.key in the data folder", group="access"
    )
    admin_token: str = _setting(
        "", "Token of the console and the JSON API; empty: admin.token in the data folder", group="access"
    )
    buckets: str = _setting(
        "examplebucket-1250000000:ap-chongqing",
        "Buckets to make at start: name-number:region, comma separated; =s3://… or =file:///… behind it: kept there",
        group="access",
    )
    storages: Storages = _setting(
        {},
        "Buckets kept at s3://…, or default, and how to reach each: endpoint, access_key_id, secret_access_key, "
        "region, path_style, opaque_keys, tells_creations",
        group="objects",
    )
    hosts: Pairs = _setting({}, "Host names of yours and the bucket each stands for", group="access")
    host_suffixes: Words = _setting(
        ["myqcloud.com", "tencentcos.cn", "tencentci.cn", "localhost"],
        "Suffixes of bucket hosts: <bucket>.cos.<region>.<suffix>",
        group="access",
    )

    # --- jobs
    workers: int = _setting(-1, "Child processes that run operations; -1: one per core", group="jobs")
    ocr_engine: str = _setting("rapidocr", "OCR engine: a built-in name or module:factory", group="jobs")
    ocr_options: Object = _setting({}, "Options of the OCR engine", group="jobs")
    operation_modules: Words = _setting([], "Modules with operations of your own, imported at start", group="jobs")
    queue_max_size: int = _setting(1_000_000, "Jobs that may wait in a new queue", group="jobs")
    queue_max_concurrent: int = _setting(1_000, "Jobs of a new queue that may run at once", group="jobs")
    lease_s: float = _setting(10.0, "How long a worker's claim on a job holds unless renewed", unit="s", group="jobs")
    drain_s: float = _setting(30.0, "How long a stop waits for running jobs", unit="s", group="jobs")
    keep_days: float = _setting(
        30.0, "How long ended jobs, deliveries, attempts and counters are kept", unit="days", group="jobs"
    )
    poll_s: float = _setting(
        5.0, "How often jobs and callbacks are looked for when nothing wakes us", unit="s", group="jobs"
    )
    run_limit_s: float = _setting(
        120.0, "Longest run of one operation; then its child is killed", unit="s", group="jobs"
    )
    child_memory_mb: int = _setting(3072, "Memory one child may use", unit="MiB", group="jobs")
    input_limit_bytes: int = _setting(
        5_505_024, "Largest input of an operation (7 MiB after base64)", unit="bytes", group="jobs"
    )
    process_limit: int = _setting(64, "Synchronous calls that may wait at once", group="jobs")

    # --- objects
    object_limit_bytes: int = _setting(5 * 1024**3, "Largest object of one upload", unit="bytes", group="objects")

    events_secret: str = _setting(
        "", "Secret of /-/events/s3, where other stores tell of new objects; empty: closed", group="objects"
    )
    event_buckets: Pairs = _setting(
        {}, "Buckets of other stores and the bucket of ours that their events are for", group="objects"
    )

    # --- callbacks
    retry_schedule_s: Numbers = _setting(
        [],
        "Delays before each attempt; empty: 0, (dev: 1,) 5, 60, 300, 1800, then 2 to 24 hours",
        unit="s",
        group="callbacks",
    )
    callback_connect_s: float = _setting(
        5.0, "Longest wait for a connection to a receiver", unit="s", group="callbacks"
    )
    callback_total_s: float = _setting(15.0, "Longest duration of one attempt", unit="s", group="callbacks")
    callback_secret: str = _setting(
        "",
        "Secrets (whsec_…) that sign callbacks, newest first, by commas; empty: webhook.secret in the data folder",
        group="callbacks",
    )
    callback_envelope: Literal["tag", "wrapped", "bare"] = _setting(
        "tag", "Outer Response of JSON callbacks: as the tag's page shows, always, never", group="callbacks"
    )
    allow_hosts: Words = _setting(
        [], "Host names that callbacks may reach in spite of their address", group="callbacks"
    )
    allow_cidrs: Words = _setting([], "Address ranges that callbacks may reach, such as 10.1.0.0/16", group="callbacks")
    ca_file: Path | None = _setting(
        None, "Certificates to trust beside the system's, for https receivers", group="callbacks"
    )
    client_certificates: Pairs = _setting(
        {},
        "Receivers that ask for a client certificate: host=file.pem, with certificate, chain and key",
        group="callbacks",
    )
    proxy: str = _setting("", "Outgoing proxy for callbacks and URL inputs", group="callbacks")
    target_concurrency: int = _setting(4, "Attempts at once per receiver URL", group="callbacks")

    # --- log
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least level logged", group="log")
    log_json: bool = _setting(False, "Write log lines as JSON", group="log")

    @field_validator("port")
    @classmethod
    def _check_port(cls, value: int) -> int:
        if not 0 <= value <= 65_535:
            raise ValueError("must be from 0 to 65535")
        return value

    @field_validator("lease_s", "run_limit_s", "callback_connect_s", "callback_total_s", "poll_s")
    @classmethod
    def _check_positive(cls, value: float) -> float:
        if value <= 0:
            raise ValueError("must be more than 0 seconds")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, environment, TOML file; no dotenv, no secrets folder."""
        toml = TomlConfigSettingsSource(settings_cls, toml_file=cls.config_file)
        return init_settings, env_settings, toml

    # --- what follows from several of them

    @property
    def is_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def is_strict(self) -> bool:
        return self.profile == "strict" if self.profile else not self.is_loopback

    @property
    def child_count(self) -> int:
        """Children of this process: none in roles that run no operations."""
        if self.role not in ("all", "worker"):
            return 0
        return self.workers if self.workers >= 0 else usable_cores()

    def shown(self) -> dict[str, Any]:
        """All values as JSON data, for people to read: secrets are masked, those inside URLs too."""
        values = self.model_dump(mode="json")
        for name in _SECRETS:
            values[name] = _MASK if values[name] else ""
        for name in _URLS:
            values[name] = _PASSWORD.sub(lambda found: f"{found[1] or found[2]}{_MASK}", values[name])
        for table in values["storages"].values():
            table["secret_access_key"] = _MASK
        return values

    def bucket_list(self) -> list[tuple[str, str]]:
        """(name, region) of `buckets`. Raises SetupError naming the part that cannot be read."""
        return [(name, region) for name, region, _ in self._bucket_parts()]

    def storage_urls(self) -> dict[str, str]:
        """Of the `buckets` that are kept elsewhere: where, by name. Raises SetupError as `bucket_list`."""
        return {name: url for name, _, url in self._bucket_parts() if url}

    @property
    def keeps_all_elsewhere(self) -> bool:
        """Whether no bucket of the settings has its objects in the data folder."""
        return bool(self.buckets.strip()) and len(self.storage_urls()) == len(self.bucket_list())

    def _bucket_parts(self) -> list[tuple[str, str, str]]:
        found = []
        for part in filter(None, (piece.strip() for piece in self.buckets.split(","))):
            place, _, url = part.partition("=")
            name, separator, region = place.partition(":")
            number = name.rpartition("-")[2]
            if not separator or not region or not number.isdigit() or name == number:
                raise SetupError(
                    f"buckets has {part!r}", "write name-number:region, such as examplebucket-1250000000:ap-chongqing"
                )
            found.append((name, region, url))
        return found


_MASK = "***"
_SECRETS = ("secret_key", "encryption_key", "admin_token", "callback_secret", "events_secret")
_URLS = ("database", "proxy")
_PASSWORD = re.compile(r"(^[^@/]*://[^@/:]*:).*(?=@)|((?<=[?&])password=)[^&]*")


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_settings(config: Path | None = None, **flags: Any) -> Settings:
    """The settings of this process; `flags` that are None were not given. Raises SetupError naming the setting."""
    if config is not None and not config.is_file():
        raise SetupError(f"--config {config} does not exist", "name an existing TOML file")
    source = config or Path("cloudfinite.toml")
    bound = type("Settings", (Settings,), {"config_file": source if source.is_file() else None})
    try:
        return bound(**{name: value for name, value in flags.items() if value is not None})  # type: ignore[no-any-return]
    except ValidationError as exc:
        first = exc.errors()[0]
        name = ".".join(map(str, first["loc"]))
        value = "" if name.startswith("storages") else f" is {first['input']!r}"  # That table holds secrets.
        raise SetupError(f"the setting {name}{value}: {first['msg']}", "see `cloudfinite serve --help`") from exc
    except ValueError as exc:  # the TOML file or a JSON value in the environment
        raise SetupError(f"the settings cannot be read: {exc}", "see docs/settings.md") from exc


def setting_rows() -> list[tuple[str, FieldInfo]]:
    """All settings in order, for the command line and the documentation."""
    return list(Settings.model_fields.items())
