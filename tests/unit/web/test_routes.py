"""One test for each rule of the URL table, and each row."""

from __future__ import annotations

import pytest
from tests.edge_harness import Harness, KnownFacts

from cloudfinite.errors import InvalidUrl, MethodNotAllowed, NotImplementedHere
from cloudfinite.web.request import HostKind, Query
from cloudfinite.web.routes import COVERAGE_PAGE, TABLE, Row, Shape, coverage
from cloudfinite.wire.routing import parse_query

CI, COS, PIC, SERVICE, OWN = HostKind.CI, HostKind.COS, HostKind.PIC, HostKind.SERVICE, HostKind.OWN
JOB = "a" + "0" * 32


async def call_of(kind: HostKind, call: str, facts: KnownFacts | None = None) -> str:
    """What `GET /jobs?x` means on this kind of host: a handler, `501` for a call not built, or the error's code."""
    router = Harness(facts=facts or KnownFacts()).router()
    method, _, target = call.partition(" ")
    path, _, query = target.partition("?")
    try:
        choice = router.find(kind, method, path, Query(parse_query(query)))
        row = await router.settle(choice, "b-1", path)
        router.handler(row)
    except NotImplementedHere as exc:
        assert COVERAGE_PAGE in exc.message
        return "501"
    except (InvalidUrl, MethodNotAllowed) as exc:
        return exc.code
    return row.handler


JOBS = ("jobs", "ai_jobs", "pic_jobs", "asr_jobs", "doc_jobs", "file_jobs")
QUEUES = ("queue", "ai_queue", "picqueue", "asrqueue", "docqueue", "file_queue")


@pytest.mark.parametrize("segment", JOBS)
async def test_each_jobs_path_serves_the_four_calls(segment: str) -> None:
    assert await call_of(CI, f"POST /{segment}") == "jobs.submit"
    assert await call_of(CI, f"GET /{segment}?tag=ImageOCR") == "jobs.list"
    assert await call_of(CI, f"GET /{segment}/{JOB},{JOB}") == "jobs.describe"
    assert await call_of(CI, f"PUT /{segment}/{JOB}?cancel") == "jobs.cancel"
    assert await call_of(CI, f"PUT /{segment}/{JOB}") == "jobs.cancel"  # Java, and Node's demo


@pytest.mark.parametrize("segment", QUEUES)
async def test_each_queue_path_serves_list_and_update(segment: str) -> None:
    assert await call_of(CI, f"GET /{segment}?queueIds=&state=All") == "queues.list"
    assert await call_of(CI, f"PUT /{segment}/p1") == "queues.update"


SERVICE_BUCKETS = ("mediabucket", "ai_bucket", "picbucket", "asrbucket", "docbucket", "file_bucket")


@pytest.mark.parametrize("segment", SERVICE_BUCKETS)
async def test_each_service_is_opened_listed_and_closed(segment: str) -> None:
    assert await call_of(CI, f"POST /{segment}") == "openings.open"
    assert await call_of(CI, f"GET /{segment}?bucketNames=&pageNumber=1") == "openings.list"
    assert await call_of(CI, f"DELETE /{segment}") == "openings.close"


@pytest.mark.parametrize("kind", [PIC, CI])  # Go sends them to its CI address
async def test_binding_is_at_the_root_of_the_pic_host(kind: HostKind) -> None:
    assert await call_of(kind, "PUT /") == "openings.bind"
    assert await call_of(kind, "PUT /?unbind") == "openings.unbind"
    assert await call_of(kind, "GET /") == "openings.binding"
    assert await call_of(COS, "PUT /") == "buckets.create"


@pytest.mark.parametrize(
    ("call", "handler"),
    [
        ("POST /template", "templates.create"),
        ("PUT /template/t1", "templates.update"),
        ("GET /template?ids=t1", "templates.list"),
        ("DELETE /template/t1", "templates.delete"),
        ("POST /workflow", "workflows.create"),
        ("GET /workflow?ids=w1&name=", "workflows.list"),
        ("PUT /workflow/w1", "workflows.update"),
        ("PUT /workflow/w1?active=", "workflows.activate"),
        ("PUT /workflow/w1?paused", "workflows.pause"),
        ("DELETE /workflow/w1", "workflows.delete"),
        ("POST /triggerworkflow?workflowId=w1&object=a", "executions.trigger"),
        ("GET /workflowexecution?workflowId=w1", "executions.list"),
        ("GET /workflowexecution/i1", "executions.describe"),
        ("PUT /workflowexecution/i1?cancel", "executions.cancel"),
    ],
)
async def test_templates_and_workflows(call: str, handler: str) -> None:
    assert await call_of(CI, call) == handler


@pytest.mark.parametrize(
    ("call", "handler"),
    [
        ("PUT /a/b.png", "objects.put"),
        ("GET /a/b.png", "objects.get"),
        ("HEAD /a/b.png", "objects.head"),
        ("DELETE /a/b.png", "objects.delete"),
        ("GET /a/b.png?ci-process=OCR&type=general", "process.run"),
        ("GET /?ci-process=OCR&detect-url=http%3A%2F%2Fx", "process.run"),
        ("GET /a/b.png?response-content-type=text%2Fplain", "objects.get"),
    ],
)
@pytest.mark.parametrize("kind", [COS, PIC, SERVICE, OWN])
async def test_objects_on_every_host_that_has_objects(kind: HostKind, call: str, handler: str) -> None:
    assert await call_of(kind, call) == handler


# --- `.ci.` host: API only -----------------------------------------------------------------------------------------


async def test_ci_host_has_no_objects() -> None:
    assert await call_of(CI, "PUT /a.png") == "InvalidUrl"
    assert await call_of(CI, "GET /nothing/here") == "InvalidUrl"
    assert await call_of(CI, f"GET /jobs/{JOB}/more") == "InvalidUrl"


async def test_wrong_method_on_a_known_path_is_not_allowed() -> None:
    assert await call_of(CI, "DELETE /jobs") == "MethodNotAllowed"
    assert await call_of(CI, f"POST /jobs/{JOB}") == "MethodNotAllowed"
    assert await call_of(OWN, "PATCH /template") == "MethodNotAllowed"
    assert await call_of(COS, "PATCH /a.png") == "MethodNotAllowed"


async def test_trailing_slash_is_an_empty_id_except_where_it_may_be_a_key() -> None:
    assert await call_of(CI, "GET /jobs/") == "jobs.list"
    assert await call_of(COS, "GET /jobs/") == "objects.get"


# --- `.cos.` host: objects, except (a), (b), (c) -------------------------------------------------------------------


async def test_a_post_on_a_reserved_segment_is_the_api() -> None:
    assert await call_of(COS, "POST /jobs") == "jobs.submit"
    assert await call_of(PIC, "POST /template") == "templates.create"
    assert await call_of(COS, "POST /workflow") == "workflows.create"
    assert await call_of(COS, "POST /virus/detect") == "501"
    assert await call_of(COS, "POST /jobs/a/b") == "InvalidUrl"


@pytest.mark.parametrize("flag", ["uploads", "uploads=", "uploadId=1", "delete", "append&position=0"])
async def test_a_post_with_an_upload_flag_is_an_object_call(flag: str) -> None:
    built = {
        "uploads": "uploads.start",
        "uploads=": "uploads.start",
        "uploadId=1": "uploads.complete",
        "append&position=0": "objects.append",
    }
    assert await call_of(COS, f"POST /jobs?{flag}") == built.get(flag, "501")
    router = Harness().router()
    row = router.find(COS, "POST", "/jobs", Query(parse_query(flag))).row
    assert not row.is_api


@pytest.mark.parametrize(
    ("call", "api", "as_object", "ids"),
    [
        (f"GET /jobs/x,{JOB}", "jobs.describe", "objects.get", ("jobs", JOB)),
        (f"PUT /jobs/{JOB}?cancel", "jobs.cancel", "objects.put", ("jobs", JOB)),
        ("PUT /ai_queue/p1", "queues.update", "objects.put", ("ai_queue", "p1")),
        ("DELETE /template/t1", "templates.delete", "objects.delete", ("template", "t1")),
    ],
)
async def test_b_id_path_is_the_api_when_the_id_is_ours_and_no_object_has_the_key(
    call: str, api: str, as_object: str, ids: tuple[str, str]
) -> None:
    key = call.partition(" /")[2].partition("?")[0]
    assert await call_of(COS, call) == as_object
    assert await call_of(COS, call, KnownFacts(ids={ids})) == api
    assert await call_of(COS, call, KnownFacts(ids={ids}, keys={key})) == as_object
    assert await call_of(CI, call, KnownFacts(keys={key})) == api


async def test_b_head_is_never_the_api() -> None:
    assert await call_of(COS, f"HEAD /jobs/{JOB}", KnownFacts(ids={("jobs", JOB)})) == "objects.head"


@pytest.mark.parametrize(
    ("path", "api"), [("jobs", "jobs.list"), ("queue", "queues.list"), ("workflow", "workflows.list")]
)
async def test_c_list_path_is_the_api_when_no_object_has_the_key(path: str, api: str) -> None:
    assert await call_of(COS, f"GET /{path}?size=1") == api
    assert await call_of(COS, f"GET /{path}", KnownFacts(keys={path})) == "objects.get"
    assert await call_of(COS, f"PUT /{path}") == "objects.put"


async def test_deep_key_below_a_reserved_segment_is_an_object() -> None:
    assert await call_of(COS, "GET /jobs/2026/scan.png") == "objects.get"


# --- hosts without a bucket ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [OWN, SERVICE])
async def test_host_without_bucket_is_the_api_for_built_segments_even_beside_objects(kind: HostKind) -> None:
    facts = KnownFacts(keys={"jobs", f"jobs/{JOB}"})
    assert await call_of(kind, "GET /jobs", facts) == "jobs.list"
    assert await call_of(kind, f"GET /jobs/{JOB}", facts) == "jobs.describe"
    assert await call_of(kind, "PUT /jobs/2026/scan.png", facts) == "InvalidUrl"


async def test_calls_not_built_reserve_only_their_exact_paths_beside_objects() -> None:
    assert await call_of(OWN, "POST /image/auditing") == "501"
    assert await call_of(OWN, "PUT /image/cat.png") == "objects.put"
    assert await call_of(OWN, "PUT /dataset/1.png") == "objects.put"


async def test_root_of_each_kind_of_host_is_another_call() -> None:
    titles = {kind: Harness().router().find(kind, "GET", "/", Query()).row for kind in HostKind}
    assert titles[SERVICE].hosts == {SERVICE}  # GET Service
    assert titles[PIC].hosts == titles[CI].hosts == {PIC, CI}  # binding
    assert OWN in titles[COS].hosts
    assert titles[OWN] == titles[COS]  # list objects


async def test_own_pages_are_on_own_hosts_only() -> None:
    assert await call_of(OWN, "GET /-/health") == "own"
    assert await call_of(OWN, "POST /-/inbox/x") == "own"
    assert await call_of(COS, "GET /-/health") == "objects.get"
    assert await call_of(CI, "GET /-/health") == "InvalidUrl"
    assert await call_of(SERVICE, "GET /-/health") == "objects.get"


# --- known and not built -------------------------------------------------------------------------------------------


def example(row: Row) -> str:
    path = ("/" + row.path if row.path else "") + {Shape.ID: "/x1", Shape.KEY: "/k.png"}.get(row.shape, "")
    flag = row.flag.replace("*", "/x")
    return f"{row.method} {path or '/'}{'?' + flag if flag else ''}"


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.title)
async def test_each_row_is_reached(row: Row) -> None:
    kind = CI if row.is_api else sorted(row.hosts)[0]
    expected = row.handler or "501"
    assert await call_of(kind, example(row)) == expected


@pytest.mark.parametrize(
    "call",
    [
        "GET /k?acl", "PUT /k?tagging", "GET /?lifecycle",
        "GET /k?imageMogr2/thumbnail/!50p", "GET /k?exif", "GET /k?ci-process=QRcode",
        "GET /k?ci-process=doc-preview&page=1", "POST /k?image_process",
    ],
)  # fmt: skip
async def test_object_calls_not_built_answer_501_and_not_something_else(call: str) -> None:
    assert await call_of(COS, call) == "501"


@pytest.mark.parametrize(
    ("call", "handler"),
    [
        ("POST /k?uploads", "uploads.start"),
        ("PUT /k?partNumber=1&uploadId=u", "uploads.put_part"),
        ("GET /k?uploadId=u", "uploads.list_parts"),
        ("POST /k?uploadId=u", "uploads.complete"),
        ("DELETE /k?uploadId=u", "uploads.abort"),
        ("GET /?uploads=&prefix=", "uploads.list"),
        ("GET /?prefix=a", "buckets.list"),
        ("PUT /", "buckets.create"),
        ("HEAD /", "buckets.head"),
        ("DELETE /", "buckets.delete"),
        ("POST /?delete", "buckets.delete_objects"),
        ("GET /?location", "buckets.location"),
        ("GET /?list-type=2&prefix=a", "buckets.list_v2"),
        ("GET /?list-type=1", "buckets.list"),
        ("POST /", "forms.post"),
        ("PUT /?cors", "cors.put"),
        ("GET /?cors", "cors.get"),
        ("DELETE /?cors", "cors.delete"),
    ],
)
async def test_upload_and_bucket_calls_find_their_handlers(call: str, handler: str) -> None:
    assert await call_of(COS, call) == handler


@pytest.mark.parametrize("kind", [CI, COS, PIC, SERVICE, OWN])
@pytest.mark.parametrize("path", ["/", "/k", "/jobs", f"/jobs/{JOB}", "/k?uploads"])
async def test_preflight_is_answered_on_every_path(kind: HostKind, path: str) -> None:
    assert await call_of(kind, f"OPTIONS {path}") == "cors.preflight"


async def test_own_pages_answer_no_preflight() -> None:
    assert await call_of(OWN, "OPTIONS /-/api/v1/jobs") == "own"


async def test_unknown_ci_process_goes_to_the_handler_that_names_the_known_ones() -> None:
    assert await call_of(COS, "GET /k?ci-process=Nonsense") == "process.run"


def test_coverage_lists_each_call_once_with_whether_it_is_built() -> None:
    areas = coverage()
    titles = [row.title for rows in areas.values() for row in rows]
    assert len(titles) == len(set(titles))
    built = {row.title for rows in areas.values() for row in rows if row.handler}
    assert {"POST /jobs", "GET /ai_jobs/{id}", "PUT /{key}", "GET /*?ci-process=OCR"} <= built
    assert "POST /image/auditing" in set(titles) - built
