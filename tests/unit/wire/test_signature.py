"""Vectors V1 to V3 were computed with the classes of cos-python-sdk-v5 1.9.44 at a frozen clock, with fake keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

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
from cloudfinite.wire.routing import decode_path, parse_query
from cloudfinite.wire.signature import (
    CI_REFUSALS,
    COS_REFUSALS,
    Refusals,
    SignedRequest,
    derive_sign_key,
    parse_credential,
    presign,
    sign,
    verify,
)

NOW_S = 1_700_000_000
SECRET_ID = "AKIDfakeFAKEfake0000000000000000001"
SECRET_KEY = "fakeSecretKeyForTestVectors00001"
CI_HOST = "test-1234567890.ci.ap-chongqing.myqcloud.com"
COS_HOST = "test-1234567890.cos.ap-chongqing.myqcloud.com"


def authorization(signature: str, *, header_list: str = "host", param_list: str = "") -> str:
    period = "1699999940;1700010000"
    return (
        f"q-sign-algorithm=sha1&q-ak={SECRET_ID}&q-sign-time={period}&q-key-time={period}"
        f"&q-header-list={header_list}&q-url-param-list={param_list}&q-signature={signature}"
    )


V1 = authorization("0fe90864e65ec50eb95dce38f7022a373956ba2d", header_list="content-length;content-type;host")
V2 = authorization(
    "f19b328659aa6808ce5f8ea28fa7f6838e2bf7db",
    param_list="nexttoken;orderbytime;size;startcreationtime;states;tag",
)
V2_QUERY = (
    "tag=ImageOCR&orderByTime=Desc&states=Success%2CFailed&size=10&nextToken="
    "&startCreationTime=2023-11-25T00%3A00%3A00%2B0800"
)
V3_QUERY = (
    f"q-sign-algorithm=sha1&q-ak={SECRET_ID}&q-sign-time=1699999940%3B1700000600&q-key-time=1699999940%3B1700000600"
    "&q-header-list=host&q-url-param-list=ci-process%3Btype&q-signature=8ba8ba1021086e6d871830f3a4495dd2a160d0c4"
    "&ci-process=OCR&type=general"
)


def request(
    method: str, raw_path: str, query: str = "", *, host: str = CI_HOST, headers: tuple[tuple[str, str], ...] = ()
) -> SignedRequest:
    return SignedRequest(method, host, decode_path(raw_path), raw_path, parse_query(query), CIMultiDict(headers))


def check(signed: SignedRequest, text: str = "", *, now_s: int = NOW_S, refusals: Refusals = CI_REFUSALS) -> str:
    return verify(signed, text, {SECRET_ID: SECRET_KEY}.get, now_s, refusals)


def post_jobs(**changes: str) -> SignedRequest:
    headers = (("Content-Type", "application/xml"), ("Content-Length", changes.get("length", "347")))
    return request(changes.get("method", "POST"), changes.get("path", "/jobs"), headers=headers)


def signed_at(start_s: int, end_s: int) -> str:
    return sign(
        "GET", "/jobs", secret_id=SECRET_ID, secret_key=SECRET_KEY, start_s=start_s, end_s=end_s,
        headers=[("host", CI_HOST)],
    )  # fmt: skip


# --- the vectors ---------------------------------------------------------------------------------------------------


def test_header_signature_of_vector_1_is_accepted() -> None:
    assert check(post_jobs(), V1) == SECRET_ID


def test_signed_list_query_of_vector_2_is_accepted() -> None:
    assert check(request("GET", "/jobs", V2_QUERY), V2) == SECRET_ID


@pytest.mark.parametrize("query", [V3_QUERY, V3_QUERY.replace("%3B", ";")], ids=["escaped", "node-unescaped"])
def test_presigned_url_of_vector_3_is_accepted(query: str) -> None:
    assert check(request("GET", "/pic/ocr%201.png", query, host=COS_HOST)) == SECRET_ID


def test_sign_key_of_the_vectors() -> None:
    assert derive_sign_key(SECRET_KEY, "1699999940;1700010000") == b"071076f82b5ab9890a5ce60fb442bee6e719b2a3"
    assert derive_sign_key(SECRET_KEY, "1699999940;1700000600") == b"ac677aa25f04c812faa9dd5090feae7009cf4b29"


def test_sign_makes_vector_1() -> None:
    made = sign(
        "POST",
        "/jobs",
        secret_id=SECRET_ID,
        secret_key=SECRET_KEY,
        start_s=1699999940,
        end_s=1700010000,
        headers=[("Host", CI_HOST), ("Content-Type", "application/xml"), ("Content-Length", "347")],
    )
    assert made == V1


@pytest.mark.parametrize(
    "changed",
    [post_jobs(length="348"), post_jobs(path="/job"), post_jobs(method="PUT")],
    ids=["header", "path", "method"],
)
def test_signature_covers_what_it_lists(changed: SignedRequest) -> None:
    with pytest.raises(SignatureDoesNotMatch):
        check(changed, V1)


@pytest.mark.parametrize("position", [0, 20, 39])
def test_flipped_digit_of_the_signature_is_refused(position: int) -> None:
    digits = V1[-40:]
    flipped = digits[:position] + ("0" if digits[position] != "0" else "1") + digits[position + 1 :]
    with pytest.raises(SignatureDoesNotMatch):
        check(post_jobs(), V1[:-40] + flipped)


# --- what clients differ in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed_host", ["h.example", "h.example:9000"], ids=["python", "go"])
def test_host_is_accepted_signed_with_and_without_port(signed_host: str) -> None:
    text = sign(
        "GET", "/a", secret_id=SECRET_ID, secret_key=SECRET_KEY, start_s=NOW_S, end_s=NOW_S + 9,
        headers=[("host", signed_host)],
    )  # fmt: skip
    assert check(request("GET", "/a", host="h.example:9000"), text) == SECRET_ID


def test_signature_for_another_host_is_refused() -> None:
    with pytest.raises(SignatureDoesNotMatch):
        check(request("POST", "/jobs", host=COS_HOST, headers=tuple(post_jobs().headers.items())), V1)  # type: ignore[attr-defined]


def test_encoded_slash_is_signed_decoded_as_go_does() -> None:
    text = sign(
        "GET", "/pic/ocr.png", secret_id=SECRET_ID, secret_key=SECRET_KEY, start_s=NOW_S, end_s=NOW_S + 9,
        headers=[("host", CI_HOST)],
    )  # fmt: skip
    assert check(request("GET", "/pic%2Focr.png"), text) == SECRET_ID


def test_path_signed_as_sent_is_accepted_in_a_header_only() -> None:
    key = {"secret_id": SECRET_ID, "secret_key": SECRET_KEY}
    text = sign("GET", "/a%2Fb", **key, start_s=NOW_S, end_s=NOW_S + 9, headers=[("host", CI_HOST)])
    assert check(request("GET", "/a%2Fb"), text) == SECRET_ID
    # A link to the key `a%2Fb` must not open the key `a/b`.
    link = presign("GET", "/a%2Fb", CI_HOST, **key, start_s=NOW_S, end_s=NOW_S + 9)
    assert check(request("GET", "/a%252Fb", link)) == SECRET_ID
    with pytest.raises(SignatureDoesNotMatch):
        check(request("GET", "/a%2Fb", link))


def test_unsigned_extra_parameters_and_headers_are_allowed() -> None:
    extra = (("x-ci-security-token", "t"), ("Accept", "*/*"))
    assert check(request("GET", "/jobs", V2_QUERY + "&cancel", headers=extra), V2) == SECRET_ID


def test_unsigned_copy_of_a_signed_parameter_is_refused() -> None:
    with pytest.raises(SignatureDoesNotMatch, match="tag"):
        check(request("GET", "/jobs", "Tag=DocProcess&" + V2_QUERY), V2)


def test_signed_parameter_cannot_be_dropped() -> None:
    with pytest.raises(SignatureDoesNotMatch, match="nexttoken"):
        check(request("GET", "/jobs", V2_QUERY.replace("&nextToken=", "")), V2)


def test_missing_listed_header_counts_as_empty() -> None:
    text = sign(
        "GET", "/jobs", secret_id=SECRET_ID, secret_key=SECRET_KEY, start_s=NOW_S, end_s=NOW_S + 9,
        headers=[("host", CI_HOST), ("content-length", "")],
    )  # fmt: skip
    assert check(request("GET", "/jobs"), text) == SECRET_ID


def test_repeated_keys_take_their_values_in_sorted_order_as_go_does() -> None:
    text = sign(
        "GET", "/", secret_id=SECRET_ID, secret_key=SECRET_KEY, start_s=NOW_S, end_s=NOW_S + 9,
        headers=[("host", CI_HOST), ("x-cos-a", "2"), ("x-cos-a", "1")], params=[("k", "z"), ("k", "y")],
    )  # fmt: skip
    sent = request("GET", "/", "k=z&k=y", headers=(("x-cos-a", "2"), ("x-cos-a", "1")))
    assert check(sent, text) == SECRET_ID


def test_lists_are_taken_in_their_own_order() -> None:
    swapped = V1.replace("content-length;content-type;host", "host;content-type;content-length")
    with pytest.raises(SignatureDoesNotMatch):
        check(post_jobs(), swapped)


def test_host_must_be_signed() -> None:
    text = sign("GET", "/jobs", secret_id=SECRET_ID, secret_key=SECRET_KEY, start_s=NOW_S, end_s=NOW_S + 9, headers=[])
    with pytest.raises(SignatureDoesNotMatch, match="host"):
        check(request("GET", "/jobs"), text)


def test_merged_sign_parameter_is_read() -> None:
    merged = signed_at(NOW_S, NOW_S + 9).replace("&", "%26").replace("=", "%3D").replace(";", "%3B")
    assert check(request("GET", "/jobs", f"sign={merged}")) == SECRET_ID


# --- faults --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "  "], ids=["absent-or-empty", "blank"])
def test_empty_authorization_is_anonymous(text: str) -> None:
    assert parse_credential(text, ()) is None


@pytest.mark.parametrize(
    "text",
    [
        "Bearer abc",
        V1[:80],
        V1 + "&q-ak=twice",
        V1.replace("sha1", "md5", 1),
        V1.replace("q-sign-time=1699999940;", "q-sign-time=1800000000;"),
        V1.replace("q-key-time=1699999940;1700010000", "q-key-time=1699999940"),
        V1.replace("q-key-time=1699999940;", "q-key-time=" + "9" * 5000 + ";"),
        V1.replace(f"q-ak={SECRET_ID}", "q-ak="),
        V1[:-1],
        V1[:-1] + "G",
    ],
)
def test_signature_that_is_not_exactly_the_form_is_unreadable(text: str) -> None:
    with pytest.raises(InvalidAuthorization):
        check(post_jobs(), text)
    with pytest.raises(AccessDenied):
        check(post_jobs(), text, refusals=COS_REFUSALS)


@pytest.mark.parametrize(
    ("refusals", "missing", "unknown", "expired"),
    [
        (CI_REFUSALS, MissingAuthorization, SecretIdNotExist, SignatureExpired),
        (COS_REFUSALS, AccessDenied, InvalidAccessKeyId, AccessDenied),
    ],
    ids=["ci", "cos"],
)
def test_each_kind_of_host_has_its_own_codes(
    refusals: Refusals, missing: type[RequestError], unknown: type[RequestError], expired: type[RequestError]
) -> None:
    with pytest.raises(missing):
        check(post_jobs(), "", refusals=refusals)
    with pytest.raises(unknown):
        check(post_jobs(), V1.replace(SECRET_ID, "AKIDother"), refusals=refusals)
    with pytest.raises(expired, match="Request has expired"):
        check(post_jobs(), V1, now_s=1_700_010_001, refusals=refusals)


def test_signature_holds_to_the_last_second_and_from_15_minutes_before() -> None:
    get = request("GET", "/jobs")
    assert check(get, signed_at(NOW_S - 60, NOW_S))
    assert check(get, signed_at(NOW_S + 900, NOW_S + 1000))
    with pytest.raises(RequestTimeTooSkewed):
        check(get, signed_at(NOW_S + 901, NOW_S + 1000))


def test_key_time_is_checked_beside_sign_time() -> None:
    expired_key = V1.replace("q-key-time=1699999940;1700010000", "q-key-time=1699990000;1699990001")
    with pytest.raises(SignatureExpired):
        check(post_jobs(), expired_key)


# --- round trip ----------------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
pairs = st.lists(st.tuples(words.filter(bool), words), max_size=5, unique_by=lambda pair: pair[0].lower())


@given(path=words, params=pairs, port=st.sampled_from(["", ":9000"]))
def test_what_is_presigned_verifies(path: str, params: list[tuple[str, str]], port: str) -> None:
    params = [(name, value) for name, value in params if not name.lower().startswith("q-") and name != "sign"]
    keys = {"secret_id": SECRET_ID, "secret_key": SECRET_KEY}
    query = presign("PUT", "/" + path, COS_HOST + port, **keys, start_s=NOW_S, end_s=NOW_S + 60, params=params)
    sent = SignedRequest("PUT", COS_HOST + port, "/" + path, "/" + path, parse_query(query), CIMultiDict())
    assert check(sent) == SECRET_ID
