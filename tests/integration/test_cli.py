"""The commands, as a person types them, against a running server."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from qcloud_cos import CosServiceError
from tests.support.api_caller import ApiCaller
from tests.support.waiting import until
from tests.support.wire_client import WireClient
from tests.support.workflow_bodies import workflow_body

from cloudfinite.cli.options import parse_time
from cloudfinite.cli.output import plain
from cloudfinite.testing import Server


@pytest.fixture(scope="module")
def api() -> Iterator[ApiCaller]:
    with Server(
        ocr_engine="fixed",
        ocr_options={"lines": [{"text": "Plow the fields at noon", "box": [40, 24, 176, 35]}]},
        workers=1,
        operation_modules=["tests.integration.pool_operations"],
        retry_schedule_s=[0],
    ) as server:
        caller = ApiCaller(server)
        caller.put("page.png")
        yield caller


def type_command(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command as a process; nothing of the tests' own environment reaches it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFINITE_")}
    return subprocess.run(
        [sys.executable, "-m", "cloudfinite.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=cwd,
        env={**inherited, **environment},
    )


def run(api: ApiCaller, *words: str) -> str:
    """What a command prints that succeeds."""
    done = type_command(*words, "--data", str(api.server.data))
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def run_json(api: ApiCaller, *words: str) -> Any:
    return json.loads(run(api, *words, "--json"))


# --- jobs ----------------------------------------------------------------------------------------------------------


def test_submitted_key_becomes_a_job_with_its_options(api: ApiCaller) -> None:
    url = api.server.inbox("typed")
    words = ("submit", api.server.bucket, "page.png", "--param", "mode=fast", "--callback", url, "--format", "JSON")
    [job] = run_json(api, *words)["items"]
    done = api.wait_for(job["id"], "Success")
    assert (done["object"], done["params"]["mode"]) == ("page.png", "fast")
    assert done["callback"] == {"url": url, "format": "JSON"}


def test_job_is_shown_with_the_text_it_found(api: ApiCaller) -> None:
    [job_id] = api.submit("page.png")
    api.wait_for(job_id, "Success")
    shown = run(api, "job", job_id)
    assert job_id in shown and "Success" in shown and "Plow the fields at noon" in shown


def test_jobs_are_listed_by_filter_beyond_one_page(api: ApiCaller) -> None:
    ids = {job_id for _ in range(3) for job_id in api.submit(*["cli.png"] * 70, tag="NoOp")}
    words = ("jobs", "--bucket", api.server.bucket, "--object", "cli.png", "--since", "1h")
    listed = run_json(api, *words, "--limit", "205")
    assert (len(listed["items"]), listed["next"] is not None) == (205, True)
    assert {job["id"] for job in run_json(api, *words, "--limit", "1000")["items"]} == ids
    assert len(run(api, *words, "--limit", "5").splitlines()) == 6


def test_no_jobs_is_a_sentence(api: ApiCaller) -> None:
    assert run(api, "jobs", "--bucket", "none-1250000000") == "no jobs match\n"


def test_cancel_stops_a_running_job(api: ApiCaller) -> None:
    [job_id] = api.submit(api.put("hang.bin"), tag="Hang")
    api.wait_for(job_id, "Running")
    assert [job["state"] for job in run_json(api, "cancel", job_id)["items"]] == ["Cancel"]


def test_rerun_by_id_and_by_filter(api: ApiCaller) -> None:
    [job_id] = api.submit("rerun-cli.png", tag="NoOp")
    api.wait_for(job_id, "Failed")
    [by_id] = run_json(api, "rerun", job_id)["items"]
    api.wait_for(by_id["job_id"], "Failed")
    words = ("rerun", "--bucket", api.server.bucket, "--object", "rerun-cli.png", "--since", "1h")
    assert {one["original_id"] for one in run_json(api, *words)["items"]} == {job_id, by_id["job_id"]}


def test_rerun_of_nothing_in_particular_is_refused(api: ApiCaller) -> None:
    done = type_command("rerun", "--data", str(api.server.data))
    assert done.returncode == 2
    assert "give ids, or what must match" in done.stderr


# --- workflows -----------------------------------------------------------------------------------------------------


def test_runs_of_a_workflow_are_listed_shown_and_cancelled(api: ApiCaller) -> None:
    client = WireClient(api.server)
    body = workflow_body({"Start": "FileHashCode_1", "FileHashCode_1": "End"}, api.server.bucket, api.server.region)
    [workflow_id] = re.findall("<WorkflowId>(.*?)<", client.call("POST", "/workflow", body.encode()))
    trigger = f"/triggerworkflow?workflowId={workflow_id}&object=page.png"
    [run_id] = re.findall("<InstanceId>(.*?)<", client.call("POST", trigger))
    until(lambda: run_json(api, "run", run_id)["state"] == "Success", "the run ends")
    assert f"{workflow_id}  Paused" in run(api, "workflows", "--name", "wf")
    assert [one["id"] for one in run_json(api, "runs", workflow_id, "--state", "Success")["items"]] == [run_id]
    shown = run(api, "run", run_id)
    assert re.search(r"FileHashCode_1 +Success", shown) and f"wf ({workflow_id})" in shown
    refused = type_command("run", run_id, "--cancel", "--data", str(api.server.data))
    assert refused.returncode == 1 and "only a running one can be cancelled" in refused.stderr


# --- queues, deliveries, keys --------------------------------------------------------------------------------------


def test_queue_is_paused_limited_and_resumed(api: ApiCaller) -> None:
    [job_id] = api.submit("page.png")
    api.wait_for(job_id, "Success")
    queue_id = api.queue("ai")["id"]
    changed = run_json(api, "queue", queue_id, "--pause", "--max-concurrent", "3", "--max-size", "9")
    assert (changed["state"], changed["max_concurrent"], changed["max_size"]) == ("Paused", 3, 9)
    assert "Paused" in run(api, "queues")
    assert run_json(api, "queue", queue_id, "--resume")["state"] == "Active"
    assert run_json(api, "queue", queue_id) == api.get(f"/queues/{queue_id}")


def test_deliveries_are_listed_shown_and_replayed(api: ApiCaller) -> None:
    [job_id] = api.submit("page.png", callback={"url": api.server.inbox("cli")})
    [callback] = api.server.wait_for_callbacks("cli", 1)
    [delivery] = run_json(api, "deliveries", "--job", job_id)["items"]
    api.wait_sent(delivery["id"])
    shown = run(api, "delivery", delivery["id"])
    assert "delivered" in shown and callback.body.decode() in shown
    run(api, "replay", delivery["id"])
    assert api.server.wait_for_callbacks("cli", 2)[1].body == callback.body


def test_failed_of_a_target_are_replayed_since_a_time(api: ApiCaller) -> None:
    url = api.server.inbox("cli-down")
    api.set_faults("cli-down", {"kind": "status", "status": 400, "times": 1})
    [job_id] = api.submit("page.png", callback={"url": url})
    api.wait_for(job_id, "Success")
    [delivery] = api.get(f"/jobs/{job_id}")["deliveries"]
    api.wait_sent(delivery["id"])
    assert run(api, "replay", "--url", url, "--since", "1h") == "1 deliveries are sent again\n"
    assert api.wait_sent(delivery["id"], attempts=2)["state"] == "delivered"


def test_target_is_tested_paused_resumed_and_gets_a_secret(api: ApiCaller) -> None:
    url = api.server.inbox("cli-target")
    assert run_json(api, "target", url, "--test")["event"] == "Test"
    api.server.wait_for_callbacks("cli-target", 1)
    assert run_json(api, "target", url, "--pause")["state"] == "paused"
    assert url in run(api, "targets")
    assert run_json(api, "target", url, "--resume")["state"] == "active"
    assert "whsec_" in run(api, "target", url, "--rotate-secret")
    assert run_json(api, "target", url, "--drop-secret", "--overlap-s", "0")["own_secrets"] == 0
    assert "3/s" in run(api, "target", url, "--rate", "3")
    assert run(api, "target", url, "--remove") == "0 deliveries are cancelled\n"


def test_bucket_secret_is_rotated_and_dropped(api: ApiCaller) -> None:
    bucket = api.server.bucket
    assert "whsec_" in run(api, "bucket-secret", bucket, "--rotate")
    assert run_json(api, "bucket-secret", bucket)["own_secrets"] == 1
    assert run_json(api, "bucket-secret", bucket, "--drop", "--overlap-s", "0")["own_secrets"] == 0


def test_keys_are_added_listed_and_removed(api: ApiCaller) -> None:
    pair = run_json(api, "keys", "add")
    api.put("signed.bin", pair=(pair["secret_id"], pair["secret_key"]))
    listed = run(api, "keys", "list")
    assert pair["secret_id"] in listed and pair["secret_key"] not in listed
    assert run(api, "keys", "remove", pair["secret_id"]) == f"{pair['secret_id']} is removed\n"
    assert pair["secret_id"] not in run(api, "keys", "list")


def test_key_is_limited_disabled_and_enabled(api: ApiCaller, tmp_path: Path) -> None:
    added = run_json(
        api, "keys", "add", "--bucket", api.server.bucket, "--prefix", "in/", "--action", "cos:PutObject", "--read-only"
    )
    secret_id, pair = added["secret_id"], (added["secret_id"], added["secret_key"])
    shown = run_json(api, "keys", "show", secret_id)
    assert shown["policy"][0]["prefixes"] == ["in/"]
    assert {"cos:PutObject", "cos:Get*"} <= set(shown["policy"][0]["actions"])
    api.put("in/cli", pair=pair)
    assert run(api, "keys", "disable", secret_id) == f"{secret_id} is disabled\n"
    with pytest.raises(CosServiceError):
        api.put("in/cli", pair=pair)
    run(api, "keys", "enable", secret_id)
    policy = tmp_path / "policy.json"
    policy.write_text('[{"prefixes": ["a/"], "actions": ["cos:PutObject"]}, {"prefixes": ["b/"]}]')
    changed = run_json(api, "keys", "change", secret_id, "--policy", str(policy))
    assert [rule["prefixes"] for rule in changed["policy"]] == [["a/"], ["b/"]]
    api.put("b/cli", pair=pair)
    told = run(api, "keys", "list")
    assert "a/" in told and added["secret_key"] not in told
    refused = type_command("keys", "change", secret_id, "--data", str(api.server.data))
    assert refused.returncode == 2 and "--read-only" in refused.stderr


def test_temporary_credentials_are_made_for_a_time(api: ApiCaller) -> None:
    made = run_json(api, "keys", "temporary", api.server.secret_id, "--for", "60", "--read-only")
    with pytest.raises(CosServiceError):  # without its token
        api.put("k", pair=(made["secret_id"], made["secret_key"]))
    assert "Token" in run(api, "keys", "temporary", api.server.secret_id)


def test_bucket_is_opened_and_closed(api: ApiCaller) -> None:
    assert run_json(api, "bucket", api.server.bucket, "--acl", "public-read")["acl"] == "public-read"
    assert "public-read" in run(api, "buckets")
    run(api, "bucket", api.server.bucket, "--acl", "private")
    assert run_json(api, "bucket", api.server.bucket)["acl"] == "private"


# --- which server --------------------------------------------------------------------------------------------------


def test_without_a_server_one_sentence_says_what_to_do(tmp_path: Path) -> None:
    done = type_command("jobs", "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"cloudfinite: no server runs on the data folder {tmp_path}",
        "  start one with `cloudfinite serve`, or name it with --data DIR or --server URL",
    ]


def test_server_that_died_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    (tmp_path / "address").write_text(f"http://127.0.0.1:{port}\n")
    (tmp_path / "admin.token").write_text("t\n")
    done = type_command("jobs", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "no server answers at" in done.stderr and "Traceback" not in done.stderr


def test_server_and_token_may_be_named(api: ApiCaller, tmp_path: Path) -> None:
    address = api.server.url
    assert type_command("jobs", "--server", address, cwd=tmp_path).returncode == 0
    refused = type_command("keys", "add", "--server", address, cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "AccessDenied" in refused.stderr
    for told in (("--token", api.token), ()):
        done = type_command(
            "keys",
            "add",
            "--server",
            address,
            *told,
            cwd=tmp_path,
            **({} if told else {"CLOUDFINITE_ADMIN_TOKEN": api.token}),
        )
        assert done.returncode == 0, done


def test_refusal_is_one_sentence_and_exit_code_one(api: ApiCaller) -> None:
    done = type_command("job", "none", "--data", str(api.server.data))
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "cloudfinite: JobNotFound: the job none does not exist\n",
    )


# --- doctor --------------------------------------------------------------------------------------------------------


def test_doctor_finds_a_sound_set_up_sound(tmp_path: Path) -> None:
    done = type_command(
        "doctor", "--data", str(tmp_path), "--json", CLOUDFINITE_OCR_ENGINE="fixed", CLOUDFINITE_PORT="0"
    )
    answer = json.loads(done.stdout)
    assert [one for one in answer["findings"] if not one["is_ok"]] == []
    assert done.returncode == 0
    assert {"Python", "lxml", "data folder", "port", "open files", "OCR engine fixed"} <= {
        one["name"] for one in answer["findings"]
    }
    assert set(answer["modes"]) == {"general", "accurate", "efficient", "fast", "handwriting"}


def test_doctor_names_each_problem_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = type_command(
            "doctor",
            "--data",
            str(tmp_path / "file"),
            "--json",
            CLOUDFINITE_OCR_ENGINE="none",
            CLOUDFINITE_PORT=str(taken.getsockname()[1]),
        )
    problems = {one["name"]: one for one in json.loads(done.stdout)["findings"] if not one["is_ok"]}
    assert set(problems) == {"data folder", "port", "OCR engine none"}
    assert all(one["found"] and one["advice"] for one in problems.values())
    assert done.returncode == 1


# --- small things --------------------------------------------------------------------------------------------------


def test_every_command_has_help() -> None:
    names = re.findall(r"^│ (\w+) ", type_command("--help", COLUMNS="100").stdout, re.MULTILINE)
    wanted = {"serve", "submit", "jobs", "job", "cancel", "rerun", "queues", "queue", "deliveries", "delivery"}
    assert wanted | {"replay", "targets", "target", "keys", "doctor", "version"} <= set(names)


@pytest.mark.parametrize(("text", "back"), [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("7d", 604_800)])
def test_ages_are_times(text: str, back: int) -> None:
    age = datetime.now(UTC) - datetime.fromisoformat(parse_time(text))
    assert abs(age - timedelta(seconds=back)) < timedelta(seconds=10)


def test_iso_times_keep_their_zone() -> None:
    assert parse_time("2026-01-05T10:00:00+08:00") == "2026-01-05T02:00:00Z"


@pytest.mark.parametrize("text", ["", "yesterday", "5w", "9999999d", "2026-13-01"])
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_time(text)


def test_printed_text_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[2Jb\u202ec\nd\u3000e") == "a\ufffd[2Jb\ufffdc d e"


def test_job_that_makes_an_object_is_told_where_it_goes(api: ApiCaller) -> None:
    rule = "rule=imageMogr2/rotate/90"
    words = ("submit", api.server.bucket, "none.png", "--tag", "PicProcess", "--param", rule)
    (job,) = run_json(api, *words, "--output", "out/${InputName}.${Ext}")["items"]
    assert run_json(api, "job", job["id"])["output"] == {"object": "out/none.png", "bucket": api.server.bucket}
    refused = type_command(*words, "--data", str(api.server.data))
    assert refused.returncode == 1 and "name the object with Operation.Output" in refused.stderr
