"""The commands: thin, each calls what does the work. Most talk to the running server.

serve, ocr, receive, restore and doctor need none.
Exit codes: 0 done; 1 the server refused, or something is wrong; 2 wrong usage or settings, or no server runs.
"""

from __future__ import annotations

import sys

import typer

from cloudfinite import __version__
from cloudfinite.cli import backup, buckets, deliveries, doctor, jobs, keys, queues, workflows
from cloudfinite.cli.ocr import ocr
from cloudfinite.cli.receive import receive
from cloudfinite.cli.serve import serve
from cloudfinite.cli.watch import watch
from cloudfinite.errors import CloudfiniteError, SetupError

app = typer.Typer(
    name="cloudfinite",
    help="Tencent Cloud Infinite on your own machines: the same wire, real OCR, callbacks that arrive.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def version() -> None:
    """Print the version."""
    typer.echo(__version__)


app.command("serve")(serve)
app.command()(ocr)
app.command()(jobs.submit)
app.command("jobs")(jobs.list_jobs)
app.command("job")(jobs.show_job)
app.command()(jobs.cancel)
app.command()(jobs.rerun)
app.command("workflows")(workflows.list_workflows)
app.command("runs")(workflows.list_runs)
app.command("run")(workflows.show_run)
app.command("queues")(queues.list_queues)
app.command("queue")(queues.change_queue)
app.command("deliveries")(deliveries.list_deliveries)
app.command("delivery")(deliveries.show_delivery)
app.command()(deliveries.replay)
app.command("targets")(deliveries.list_targets)
app.command("target")(deliveries.change_target)
app.command("bucket-secret")(deliveries.bucket_secret)
app.command("buckets")(buckets.list_buckets)
app.command("bucket")(buckets.change_bucket)
app.add_typer(keys.app, name="keys")
app.command()(watch)
app.command()(receive)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(doctor.doctor)
app.command()(version)


def main() -> None:
    """The command `cloudfinite`; an error the user can act on is one sentence, not a stack trace."""
    try:
        app()
    except SetupError as exc:
        sys.stderr.write(f"cloudfinite: {exc.message}\n" + (f"  {exc.advice}\n" if exc.advice else ""))
        raise SystemExit(exc.exit_code) from exc
    except CloudfiniteError as exc:
        sys.stderr.write(f"cloudfinite: {exc.message}\n")
        raise SystemExit(1) from exc
