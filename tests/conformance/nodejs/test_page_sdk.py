"""The JavaScript SDK for pages, unchanged, in a real Chromium, on a page of another origin than the server's."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from tests.console.browser import Page, browser_page, find_chromium

from cloudfinite.testing import Server

PROGRAM = find_chromium()
pytestmark = [
    pytest.mark.sdk,
    pytest.mark.xdist_group("node"),
    pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed; no page calls the SDK"),
]

HTML = """<!doctype html><script src="/cos-js-sdk-v5.min.js"></script><script>
const given = {Bucket: BUCKET, Region: REGION};
const cos = new COS(OPTIONS);
const call = (method, params) => new Promise((resolve) => {
  cos[method]({...given, ...params}, (error, data) => resolve({error, data}));
});
const told = ({error, data}) => error ? {code: error.code, status: error.statusCode, request: error.RequestId} : data;
</script>"""


@pytest.fixture
async def page(server: Server, node_modules: Path) -> AsyncIterator[Page]:
    """A page that has the SDK and its `cos`, served by another server on this machine."""
    # Browsers take every name below localhost for this machine.
    domain = f"{{Bucket}}.cos.{{Region}}.localhost:{urlsplit(server.url).port}"
    options = {"SecretId": server.secret_id, "SecretKey": server.secret_key, "Protocol": "http:", "Domain": domain}
    values = {"BUCKET": server.bucket, "REGION": server.region, "OPTIONS": options}
    html = HTML
    for name, value in values.items():
        html = html.replace(name, json.dumps(value))

    async def index(_request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", index)
    app.router.add_static("/", node_modules / "cos-js-sdk-v5" / "dist")
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with browser_page(PROGRAM) as page:
            await page.open(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            yield page
    finally:
        await runner.cleanup()


async def call(page: Page, method: str, params: str) -> Any:
    return await page.run(f"call({json.dumps(method)}, {params}).then(told)")


async def test_page_puts_and_gets_an_object(page: Page) -> None:
    put = await call(
        page, "putObject", "{Key: '中 a.txt', Body: new Blob(['data']), Headers: {'x-cos-meta-team': 'blue'}}"
    )
    assert put["ETag"] == '"8d777f385d3dfec8815d20f7496026dc"'
    got = await call(page, "getObject", "{Key: '中 a.txt'}")
    assert (got["Body"], got["ETag"]) == ("data", put["ETag"])
    head = await call(page, "headObject", "{Key: '中 a.txt'}")
    assert head["headers"]["x-cos-meta-team"] == "blue"


async def test_page_uploads_a_file_in_parts(page: Page) -> None:
    file = "new File([new Uint8Array(3145733).fill(7)], 'big.bin')"
    done = await call(page, "sliceUploadFile", f"{{Key: 'big.bin', Body: {file}, SliceSize: 1048576}}")
    assert done["ETag"].strip('"').endswith("-4")
    listed = await call(page, "getBucket", "{Prefix: 'big'}")
    assert [(item["Key"], item["Size"]) for item in listed["Contents"]] == [("big.bin", "3145733")]


async def test_page_reads_errors(page: Page) -> None:
    missing = await call(page, "getObject", "{Key: 'no'}")
    assert (missing["code"], missing["status"]) == ("NoSuchKey", 404)
    assert missing["request"]


async def test_page_submits_a_job(page: Page, server: Server) -> None:
    await call(page, "putObject", "{Key: 'page.png', Body: '{}'}")
    job = (
        "<Request><Tag>ImageOCR</Tag><Input><Object>page.png</Object></Input>"
        f"<Operation><ImageOCR/></Operation><CallBack>{server.inbox('page')}</CallBack></Request>"
    )
    url = f"http://{server.bucket}.ci.{server.region}.localhost:{urlsplit(server.url).port}/jobs"
    request = {"Method": "POST", "Key": "jobs", "Url": url, "Body": job, "ContentType": "application/xml"}
    answer = await call(page, "request", json.dumps(request))
    assert answer["Response"]["JobsDetail"]["State"] == "Submitted"


async def test_page_that_no_rule_lets_in_reads_nothing(page: Page, server: Server) -> None:
    rule = "{AllowedOrigin: ['https://app.example.com'], AllowedMethod: ['GET', 'DELETE', 'PUT'], AllowedHeader: ['*']}"
    await call(page, "putBucketCors", f"{{CORSRules: [{rule}]}}")
    refused = await call(page, "headObject", "{Key: 'page.png'}")
    assert "ETag" not in (refused or {})
