from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfinite.errors import InvalidHost, InvalidUri
from cloudfinite.wire.routing import (
    HostKind,
    Hosts,
    Place,
    Target,
    decode_path,
    is_loopback_host,
    locate,
    parse_query,
    same_region,
    split_target,
)

HOSTS = Hosts(suffixes=("myqcloud.com", "tencentcos.cn", "tencentci.cn", "localhost"), names={"ocr.lan": "docs-125"})


@pytest.mark.parametrize(
    ("authority", "place"),
    [
        ("docs-125.ci.ap-chongqing.myqcloud.com", Place(HostKind.CI, "docs-125", "ap-chongqing")),
        ("docs-125.cos.ap-chongqing.myqcloud.com", Place(HostKind.COS, "docs-125", "ap-chongqing")),
        ("my-docs-125.pic.local.myqcloud.com", Place(HostKind.PIC, "my-docs-125", "local")),
        ("DOCS-125.COS.ap-x.MyQcloud.com:8080", Place(HostKind.COS, "docs-125", "ap-x")),
        ("docs-125.cos.ap-x.myqcloud.com.", Place(HostKind.COS, "docs-125", "ap-x")),
        ("docs-125.cos-internal.ap-x.tencentcos.cn", Place(HostKind.COS, "docs-125", "ap-x")),
        ("docs-125.ci.ap-x.tencentci.cn", Place(HostKind.CI, "docs-125", "ap-x")),
        ("docs-125.cos.ap-x.localhost:9000", Place(HostKind.COS, "docs-125", "ap-x")),
        ("docs-125.cos.accelerate.myqcloud.com", Place(HostKind.COS, "docs-125", "accelerate")),
        ("ci.ap-chongqing.myqcloud.com", Place(HostKind.CI, "", "ap-chongqing")),
        ("service.ci.myqcloud.com", Place(HostKind.CI)),
        ("cos.ap-chongqing.myqcloud.com", Place(HostKind.SERVICE, "", "ap-chongqing")),
        ("service.cos.myqcloud.com", Place(HostKind.SERVICE)),
        ("localhost:9000", Place(HostKind.OWN)),
        ("127.0.0.1:9000", Place(HostKind.OWN)),
        ("192.168.7.9", Place(HostKind.OWN)),
        ("[::1]:9000", Place(HostKind.OWN)),
        ("[2001:db8::1]", Place(HostKind.OWN)),
        ("OCR.lan:80", Place(HostKind.OWN, "docs-125")),
    ],
)
def test_host_says_kind_bucket_and_region(authority: str, place: Place) -> None:
    assert locate(authority, HOSTS) == place


@pytest.mark.parametrize(
    "authority",
    [
        "example.com",
        "evil.lan",
        "ocr.lan.evil.example",
        "docs.cos.ap-x.myqcloud.com",  # no number: no bucket of the vendor's form
        "docs-125.s3.ap-x.myqcloud.com",
        "a.docs-125.cos.ap-x.myqcloud.com",
        "docs-125.cos.ap-x.myqcloud.com.evil.example",
        "docs-125.cos.ap-x.evilmyqcloud.com",
        "myqcloud.com",
        "foo.localhost",
        "user@127.0.0.1",
        "127.0.0.1:port",
        "127.1",
        "0x7f000001",
        "[::1",
        "::1",
        "bücket-125.cos.ap-x.myqcloud.com",
        "",
    ],
)
def test_any_other_host_is_refused(authority: str) -> None:
    with pytest.raises(InvalidHost):
        locate(authority, HOSTS)


def test_refusal_names_the_host_and_the_settings_that_would_allow_it() -> None:
    with pytest.raises(InvalidHost, match=r"'cb\.example\.com'.*host_suffixes.*hosts"):
        locate("cb.example.com:80", HOSTS)


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        ("/jobs?tag=a&cancel", Target("", "/jobs", "tag=a&cancel")),
        ("//a//b/../c", Target("", "//a//b/../c", "")),
        ("http://h:80/jobs/a%2Cb?x=?", Target("h:80", "/jobs/a%2Cb", "x=?")),
        ("http://h?uploads", Target("h", "/", "uploads")),
        ("HTTP://h", Target("h", "/", "")),
    ],
)
def test_target_is_taken_apart_undecoded(raw: str, target: Target) -> None:
    assert split_target(raw) == target


@pytest.mark.parametrize("raw", ["*", "jobs", "http://", "http:///jobs", "ftp://h/", "/a#b", "h:443", ""])
def test_other_targets_are_refused(raw: str) -> None:
    with pytest.raises(InvalidUri):
        split_target(raw)


@pytest.mark.parametrize(
    ("raw", "path"),
    [("/pic%2Focr.png", "/pic/ocr.png"), ("/a+b", "/a+b"), ("/%E4%B8%AD", "/中"), ("/a%252Fb", "/a%2Fb"), ("/é", "/é")],
)
def test_path_is_decoded_exactly_once(raw: str, path: str) -> None:
    assert decode_path(raw) == path


@pytest.mark.parametrize("raw", ["/%zz", "/%4", "/100%", "/%ff%fe", "/%00", "/\udcff"])
def test_path_that_is_no_utf_8_text_is_refused(raw: str) -> None:
    with pytest.raises(InvalidUri):
        decode_path(raw)


def test_query_is_not_split_at_semicolons_and_keeps_order_and_empties() -> None:
    assert parse_query("t=1;2&cancel&a+b=c+d%2B&t=&&x=1=2") == (
        ("t", "1;2"), ("cancel", ""), ("a b", "c d+"), ("t", ""), ("x", "1=2"),
    )  # fmt: skip


@given(st.text(max_size=60))
def test_no_target_or_host_crashes(text: str) -> None:
    for read in (split_target, decode_path, parse_query, lambda raw: locate(raw, HOSTS), is_loopback_host):
        try:
            read(text)
        except (InvalidUri, InvalidHost):
            continue


def test_region_is_the_same_with_and_without_ap() -> None:
    assert same_region("local", "ap-local")
    assert not same_region("ap-beijing", "ap-shanghai")


@pytest.mark.parametrize(
    ("authority", "is_loopback"),
    [("localhost:1", True), ("127.8.8.8", True), ("[::1]:9", True), ("10.0.0.1", False), ("ocr.lan", False)],
)
def test_loopback_hosts(authority: str, is_loopback: bool) -> None:
    assert is_loopback_host(authority) is is_loopback
