"""Writes a migration from what the tables in the code have and a database of the newest version has not.

Usage: .venv/bin/python tools/write_migration.py 0002 "What it brings"
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from cloudfinite.adapters.migrate import HEAD, migrate
from cloudfinite.adapters.schema import metadata

VERSIONS = Path(__file__).parents[1] / "src/cloudfinite/adapters/migrations/versions"


def main() -> int:
    if len(sys.argv) != 3:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    revision, title = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/x.db")
        if revision != "0001":
            migrate(engine)
        with engine.connect() as connection:
            script = produce_migrations(MigrationContext.configure(connection), metadata)
            assert script.upgrade_ops is not None
            body = render_python_code(script.upgrade_ops, render_as_batch=False)
    path = VERSIONS / f"{revision}_{title.lower().replace(' ', '_')}.py"
    previous = None if revision == "0001" else HEAD
    path.write_text(
        f'"""{title}."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\nrevision = "{revision}"\n'
        f"down_revision = {previous!r}\n\n\ndef upgrade() -> None:\n    {body.strip()}\n"
    )
    print(f"written: {path}; now set HEAD in adapters/migrate.py, format it, and read it")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
