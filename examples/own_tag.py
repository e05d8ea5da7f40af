"""A job tag from outside the package: one module, named by the setting `operation_modules`.

    python examples/own_tag.py            starts a server that knows the tag, submits a job and prints its result

With a server of your own: put this file where Python finds it and set `operation_modules = ["own_tag"]`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

from cloudfinite.errors import UnreadableInput
from cloudfinite.operations import operation
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile


@dataclass(frozen=True, slots=True)
class CountParams:
    """What a client may ask for, below Operation.CountWords; the wire's names stand at the fields."""

    min_letters: int = node("MinLetters", default=1, minimum=1)


@dataclass(frozen=True, slots=True)
class CountResult:
    """What comes back, below Operation.CountWordsResult, in XML and in JSON."""

    lines: int = node("Lines")
    words: int = node("Words")


@operation(
    "CountWords",
    service="file",  # its jobs wait in the bucket's queue of this service
    area="Own",
    params=("CountWords", CountParams),
    result=("CountWordsResult", CountResult),
    can_template=True,
)
def count_words(source: LocalFile, params: CountParams, engine: Any) -> CountResult:
    """Runs in a child process. What it raises of JobFailed ends the job with that code and message."""
    try:
        text = source.path.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise UnreadableInput(f"{source.name} is not UTF-8 text") from exc
    return CountResult(len(text.splitlines()), sum(len(word) >= params.min_letters for word in text.split()))


def main() -> None:
    from qcloud_cos import CosConfig, CosS3Client

    from cloudfinite.testing import Server

    with Server(operation_modules=["own_tag"], ocr_engine="fixed", workers=1) as server:
        client = CosS3Client(
            CosConfig(
                Region=server.region,
                SecretId=server.secret_id,
                SecretKey=server.secret_key,
                Scheme="http",
                Proxies={"http": server.url},
            )
        )
        client.put_object(
            Bucket=server.bucket, Key="poem.txt", Body=b"Plow the fields at noon\nEvery grain is hard-earned\n"
        )
        client.ci_create_media_jobs(
            Bucket=server.bucket,
            Jobs={
                "Tag": "CountWords",
                "Input": {"Object": "poem.txt"},
                "Operation": {"CountWords": {"MinLetters": 3}},
                "CallBack": server.inbox("counts"),
                "CallBackFormat": "JSON",
            },
            Lst={},
        )
        [callback] = server.wait_for_callbacks("counts", 1)
    [job] = json.loads(callback.body)["JobsDetail"]
    json.dump(job["Operation"]["CountWordsResult"], sys.stdout)
    print()


if __name__ == "__main__":
    main()
