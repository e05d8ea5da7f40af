"""Put a picture, submit an OCR job and ask until it has ended, with the vendor's Python SDK unchanged.

    python examples/submit_and_poll.py page.png --server http://127.0.0.1:9000 --secret-id … --secret-key …

`make serve` prints the address and the key pair of a development server.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from qcloud_cos import CosConfig, CosS3Client

POLL_S = 0.2
WAIT_S = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--server", default="http://127.0.0.1:9000")
    parser.add_argument("--secret-id", default=os.environ.get("CLOUDFINITE_SECRET_ID"))
    parser.add_argument("--secret-key", default=os.environ.get("CLOUDFINITE_SECRET_KEY"))
    parser.add_argument("--bucket", default="examplebucket-1250000000")
    parser.add_argument("--region", default="ap-chongqing")
    options = parser.parse_args()
    client = CosS3Client(
        CosConfig(
            Region=options.region,
            SecretId=options.secret_id,
            SecretKey=options.secret_key,
            Scheme="http",
            Proxies={"http": options.server},  # all that is different from the vendor's own service
        )
    )
    client.put_object(Bucket=options.bucket, Key=options.picture.name, Body=options.picture.read_bytes())
    job = wait_for(client, options.bucket, submit(client, options.bucket, options.picture.name))
    if job["State"] != "Success":
        raise SystemExit(f"the job ended {job['State']}: {job['Code']}, {job['Message']}")
    for line in as_list(job["Operation"]["Detection"].get("TextDetections")):
        print(f"{line['Confidence']:>3} %  {line['DetectedText']}")


def submit(client: CosS3Client, bucket: str, key: str) -> str:
    answer = client.ci_create_media_jobs(
        Bucket=bucket,
        Jobs={"Tag": "ImageOCR", "Input": {"Object": key}, "Operation": {"ImageOCR": {"Type": "general"}}},
        Lst={},
    )
    return str(answer["JobsDetail"][0]["JobId"])


def wait_for(client: CosS3Client, bucket: str, job_id: str) -> dict[str, Any]:
    ends_at = time.monotonic() + WAIT_S
    while time.monotonic() < ends_at:
        job: dict[str, Any] = client.ci_get_media_jobs(Bucket=bucket, JobIDs=job_id)["JobsDetail"][0]
        if job["State"] in ("Success", "Failed", "Cancel"):
            return job
        time.sleep(POLL_S)  # the SDK has no call that waits
    raise SystemExit(f"the job {job_id} had not ended after {WAIT_S:.0f} s")


def as_list(value: Any) -> list[Any]:
    """The SDK gives one element as it is, several as a list, none as nothing."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


if __name__ == "__main__":
    main()
