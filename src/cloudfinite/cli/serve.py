"""`cloudfinite serve`: its options are made from the settings' table."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional, get_args, get_origin

import typer

from cloudfinite.settings import read_settings, setting_rows


def _serve(**flags: Any) -> None:
    """Run the server until SIGTERM or Ctrl-C, then drain and exit 0."""
    config = flags.pop("config", None)
    settings = read_settings(config, **flags)
    from cloudfinite import app

    app.serve(settings)


def _with_setting_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give `function` an option per setting: `--allow-hosts` is the setting allow_hosts."""
    config = Annotated[Optional[Path], typer.Option(help="TOML file with settings; default: cloudfinite.toml")]  # noqa: UP045 - typer reads it
    parameters = [inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=config)]
    for name, field in setting_rows():
        extra = field.json_schema_extra
        assert isinstance(extra, dict), "every setting is made by `_setting`"
        unit = f" [{extra['unit']}]" if extra["unit"] else ""
        default = "" if field.default in ("", None, [], {}) else f" (default: {_plain(field.default)})"
        option = typer.Option(
            f"--{name.replace('_', '-')}",
            help=f"{field.description}{unit}{default}",
            rich_help_panel=str(extra["group"]),
            show_default=False,
        )
        annotation: Any = Annotated[Optional[_option_type(field.annotation)], option]  # noqa: UP045 - made for typer
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return function


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _option_type(annotation: Any) -> type:
    """What the command line reads; the settings' own check does the rest."""
    if annotation in (int, float, bool):
        return annotation  # type: ignore[no-any-return]  # one of the three
    if Path in (annotation, *get_args(annotation)):
        return Path
    assert get_origin(annotation) is not None or annotation is str, annotation
    return str


serve = _with_setting_options(_serve)
