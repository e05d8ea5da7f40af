"""The request signature (`q-sign-algorithm=sha1`): read it, verify it, make it.

What is compared is what the client says it signed: the lists' own keys in their own order. Query parameters that no
list names are allowed (the Python SDK signs none for `?cancel`); `host` must be signed.

Wire: COS documentation, "Request Signature"; cos-python-sdk-v5 cos_auth.py; cos-go-sdk-v5 auth.go; cos-nodejs-sdk-v5
util.js; cos-java-sdk-v5 COSSigner.java.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import quote

from cloudfinite.errors import (
    AccessDenied,
    InvalidAccessKeyId,
    InvalidAuthorization,
    MissingAuthorization,
    RequestError,
    RequestTimeTooSkewed,
    SecretIdNotExist,
    SignatureDoesNotMatch,
    SignatureExpired,
)

ALGORITHM = "sha1"
MAX_SKEW_S = 900  # Wire: COS documentation, "Error Codes": RequestTimeTooSkewed beyond 15 minutes.

_MARK = "q-sign-algorithm"
_FIELDS = frozenset({_MARK, "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list", "q-signature"})
_PERIOD = re.compile(r"([0-9]{1,12});([0-9]{1,12})")
_DIGEST = re.compile(r"[0-9a-f]{40}")

Pairs = Sequence[tuple[str, str]]


class Headers(Protocol):
    """Request headers; letter case of names does not matter."""

    def getall(self, key: str, default: list[str], /) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Credential:
    """What an Authorization header or a presigned query says. Times stay text: they are signed as written."""

    secret_id: str
    sign_time: str
    key_time: str
    header_list: tuple[str, ...]
    param_list: tuple[str, ...]
    signature: str
    is_presigned: bool = False


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature may cover.

    host is the authority the request is routed by, with its port if it has one. path is decoded once, raw_path as sent.
    params are decoded.
    """

    method: str
    host: str
    path: str
    raw_path: str
    params: Pairs
    headers: Headers


@dataclass(frozen=True, slots=True)
class Refusals:
    """Which error each fault becomes: the vendor's two kinds of host differ."""

    missing: type[RequestError]
    unreadable: type[RequestError]
    unknown_key: type[RequestError]
    expired: type[RequestError]


# Wire: Cloud Infinite documentation, "Error Codes".
CI_REFUSALS = Refusals(MissingAuthorization, InvalidAuthorization, SecretIdNotExist, SignatureExpired)
# Wire: COS documentation, "Error Codes", and its page on 403: "Request has expired" is a Message of AccessDenied.
COS_REFUSALS = Refusals(AccessDenied, AccessDenied, InvalidAccessKeyId, AccessDenied)


# --- reading -------------------------------------------------------------------------------------------------------


def parse_credential(authorization: str, params: Pairs) -> Credential | None:
    """Find the signature: header, presigned query, or merged `sign=` parameter; None for an anonymous request.

    Raises ValueError saying what is wrong with it.
    """
    authorization = authorization.strip()
    if authorization:
        # An empty header is the Python SDK's anonymous mode, hence the test above.
        if not authorization.startswith(_MARK + "="):
            raise ValueError(f"Authorization does not start with {_MARK}={ALGORITHM}")
        return _read_fields(_split_fields(authorization), is_presigned=False)
    presigned = [(name, value) for name, value in params if name in _FIELDS]
    if presigned:
        return _read_fields(presigned, is_presigned=True)
    merged = [value for name, value in params if name == "sign" and value.startswith(_MARK + "=")]
    if not merged:
        return None
    if len(merged) > 1:
        raise ValueError("the query holds several sign= parameters")
    return _read_fields(_split_fields(merged[0]), is_presigned=True)


def is_signed(authorization: str, params: Pairs) -> bool:
    """Whether there is anything to verify; what looks like a signature counts as one."""
    return bool(authorization.strip()) or any(name in _FIELDS or name == "sign" for name, _ in params)


def _split_fields(text: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (field.partition("=") for field in text.split("&"))]


def _read_fields(pairs: list[tuple[str, str]], *, is_presigned: bool) -> Credential:
    fields = dict(pairs)
    if len(pairs) != len(_FIELDS) or fields.keys() != _FIELDS:
        raise ValueError(f"the signature must have each of {', '.join(sorted(_FIELDS))} exactly once")
    if fields[_MARK] != ALGORITHM:
        raise ValueError(f"{_MARK} is {fields[_MARK]!r}; it must be {ALGORITHM}")
    if not fields["q-ak"]:
        raise ValueError("q-ak is empty")
    if not _DIGEST.fullmatch(fields["q-signature"]):
        raise ValueError("q-signature is not 40 lower-case hex digits")
    for name in ("q-sign-time", "q-key-time"):
        match = _PERIOD.fullmatch(fields[name])
        if not match or int(match[1]) >= int(match[2]):
            raise ValueError(f"{name} is {fields[name]!r}; it must be <start>;<end> in Unix seconds")
    return Credential(
        fields["q-ak"],
        fields["q-sign-time"],
        fields["q-key-time"],
        _split_list(fields["q-header-list"]),
        _split_list(fields["q-url-param-list"]),
        fields["q-signature"],
        is_presigned,
    )


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(text.split(";")) if text else ()


# --- verifying -----------------------------------------------------------------------------------------------------


def verify(
    request: SignedRequest,
    authorization: str,
    find_secret: Callable[[str], str | None],
    now_s: int,
    refusals: Refusals,
) -> str:
    """The secret id that signed the request. Raises the RequestError of its first fault.

    now_s is the server's time in Unix seconds; find_secret gives the secret key of a secret id, or None.
    """
    try:
        credential = parse_credential(authorization, request.params)
    except ValueError as exc:
        raise refusals.unreadable(f"The signature cannot be read: {exc}.") from exc
    if credential is None:
        raise refusals.missing("The request carries no signature; sign it or use a presigned URL.")
    secret = find_secret(credential.secret_id)
    if secret is None:
        raise refusals.unknown_key(f"The secret id {credential.secret_id!r} is unknown.")
    _check_period(credential.sign_time, now_s, refusals)
    _check_period(credential.key_time, now_s, refusals)
    _check_signature(request, credential, secret)
    return credential.secret_id


def _check_period(period: str, now_s: int, refusals: Refusals) -> None:
    start, _, end = period.partition(";")
    if now_s > int(end):
        raise refusals.expired("Request has expired")
    if int(start) > now_s + MAX_SKEW_S:
        raise RequestTimeTooSkewed(
            f"The signature starts at {start} and the server's time is {now_s}: more than {MAX_SKEW_S} s apart."
        )


def _check_signature(request: SignedRequest, credential: Credential, secret: str) -> None:
    if "host" not in credential.header_list:
        raise SignatureDoesNotMatch("host is not in q-header-list; it must be signed.")
    key = derive_sign_key(secret, credential.key_time)
    params = _canonical(zip(credential.param_list, _signed_params(request.params, credential.param_list), strict=True))
    values = _signed_headers(request.headers, credential.header_list)
    for host in _host_variants(request.host):
        headers = _canonical(
            (name, host if name == "host" else value)
            for name, value in zip(credential.header_list, values, strict=True)
        )
        for path in _path_variants(request, credential):
            expected = _digest(key, credential.sign_time, request.method, path, params, headers)
            if hmac.compare_digest(expected, credential.signature):
                return
    raise SignatureDoesNotMatch()


def _host_variants(host: str) -> tuple[str, ...]:
    # The Python SDK signs the host without the port it sends; Go, Node and Java sign it with the port.
    bare = re.sub(r":[0-9]*$", "", host)
    return (host,) if bare == host else (host, bare)


def _path_variants(request: SignedRequest, credential: Credential) -> tuple[str, ...]:
    # All SDKs sign the decoded path. Old clients that sign it as sent are served too, but not with a presigned URL:
    # there the link made for the key `a%2Fb` would open the key `a/b` to whoever was given it.
    if credential.is_presigned or request.raw_path == request.path:
        return (request.path,)
    return (request.path, request.raw_path)


def _signed_params(params: Pairs, names: tuple[str, ...]) -> list[str]:
    """The value of each listed parameter; those listed several times take their values in sorted order (Go)."""
    if not names:
        return []
    found: dict[str, list[str]] = {}
    for name, value in params:
        found.setdefault(encode(name).lower(), []).append(value)
    for name in set(names):
        if len(found.get(name, ())) != names.count(name):
            # Absent, or joined by an unsigned copy that a handler might read in its place.
            raise SignatureDoesNotMatch(
                f"q-url-param-list has {name!r} {names.count(name)} times, the query {len(found.get(name, ()))} times."
            )
        found[name].sort(reverse=True)
    return [found[name].pop() for name in names]


def _signed_headers(headers: Headers, names: tuple[str, ...]) -> list[str]:
    """The value of each listed header, "" when absent; several values under one listed name are joined as in HTTP."""
    values: list[str] = []
    for index, name in enumerate(names):
        found = headers.getall(name, [])
        if len(found) > 1:
            is_listed_singly = names.count(name) == len(found)
            value = sorted(found)[names[:index].count(name)] if is_listed_singly else ",".join(found)
        else:
            value = found[0] if found else ""
        values.append(value)
    return values


# --- making --------------------------------------------------------------------------------------------------------


def encode(text: str) -> str:
    """Percent-encode everything but letters, digits, and `-_.~`; upper-case hex."""
    return quote(text, safe="", errors="surrogateescape")


def sign(
    method: str,
    path: str,
    *,
    secret_id: str,
    secret_key: str,
    start_s: int,
    end_s: int,
    headers: Iterable[tuple[str, str]],
    params: Iterable[tuple[str, str]] = (),
) -> str:
    """The Authorization text over exactly these headers and parameters. `path` is decoded and starts with `/`."""
    period = f"{start_s};{end_s}"
    signed_headers = sorted((encode(name).lower(), value) for name, value in headers)
    signed_params = sorted((encode(name).lower(), value) for name, value in params)
    key = derive_sign_key(secret_key, period)
    signature = _digest(key, period, method, path, _canonical(signed_params), _canonical(signed_headers))
    return (
        f"{_MARK}={ALGORITHM}&q-ak={secret_id}&q-sign-time={period}&q-key-time={period}"
        f"&q-header-list={';'.join(name for name, _ in signed_headers)}"
        f"&q-url-param-list={';'.join(name for name, _ in signed_params)}&q-signature={signature}"
    )


def presign(
    method: str,
    path: str,
    host: str,
    *,
    secret_id: str,
    secret_key: str,
    start_s: int,
    end_s: int,
    params: Pairs = (),
) -> str:
    """The query string of a presigned URL, signature first, then the parameters it covers."""
    authorization = sign(
        method,
        path,
        secret_id=secret_id,
        secret_key=secret_key,
        start_s=start_s,
        end_s=end_s,
        headers=[("host", host)],
        params=params,
    )
    pairs = [*_split_fields(authorization), *params]
    return "&".join(f"{encode(name)}={encode(value)}" for name, value in pairs)


@lru_cache(maxsize=1024)
def derive_sign_key(secret_key: str, key_time: str) -> bytes:
    """The key of one period, as the 40 hex digits that sign. Cached: a client keeps its period for a while."""
    return hmac.digest(secret_key.encode(), key_time.encode(), "sha1").hex().encode()


def _canonical(pairs: Iterable[tuple[str, str]]) -> str:
    return "&".join(f"{name}={encode(value)}" for name, value in pairs)


def _digest(key: bytes, sign_time: str, method: str, path: str, params: str, headers: str) -> str:
    http_string = f"{method.lower()}\n{path}\n{params}\n{headers}\n".encode("utf-8", "surrogateescape")
    string_to_sign = f"{ALGORITHM}\n{sign_time}\n{hashlib.sha1(http_string).hexdigest()}\n"
    return hmac.digest(key, string_to_sign.encode(), "sha1").hex()
