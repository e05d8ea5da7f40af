"""The description of the JSON API as an OpenAPI 3.1 document, made from its table of routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from cloudfinite import __version__
from cloudfinite.web.api_routes import Answer, Question, Route
from cloudfinite.wire.operation import Operation

_REF = "#/components/schemas/{model}"


class Problem(Answer):
    """What went wrong: a code for programs, a sentence for people, and the id that finds the request in the log."""

    code: str
    message: str
    request_id: str


class ProblemAnswer(Answer):
    """The body of every answer that is not a success."""

    error: Problem


def describe(routes: Sequence[Route], root: str, operations: Mapping[str, Operation]) -> dict[str, Any]:
    """The whole document. `operations` give the forms of `params` and `result` of their tags."""
    named, schemas = _schemas(routes)
    for tag, operation in operations.items():
        for kind, value, mode in (
            ("Params", operation.params, "validation"),
            ("Result", operation.result, "serialization"),
        ):
            schemas |= _dataclass_schema(f"{tag}{kind}", value, mode)  # type: ignore[arg-type]  # both are modes
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, named)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cloudfinite",
            "version": __version__,
            "summary": "Jobs, queues, callbacks and keys, for operators and scripts",
            "description": "Pages are followed with `after`; times are ISO 8601 in UTC. `params` and `result` of a "
            "job have the form of its tag: the schemas <Tag>Params and <Tag>Result.",
        },
        "servers": [{"url": root}],
        "security": [{}, {"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(route.group for route in routes)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The admin token: file admin.token in the data folder. Needed for changes, and from "
                    "another machine for reading too.",
                }
            },
        },
    }


_Schemas = dict[tuple[type[BaseModel], JsonSchemaMode], dict[str, Any]]


def _schemas(routes: Iterable[Route]) -> tuple[_Schemas, dict[str, Any]]:
    wanted: list[tuple[type[BaseModel], JsonSchemaMode]] = [(ProblemAnswer, "serialization")]
    for route in routes:
        wanted.append((route.answer, "serialization"))
        if route.body:
            wanted.append((route.body, "validation"))
    named, definitions = models_json_schema(list(dict.fromkeys(wanted)), ref_template=_REF)
    return dict(named), dict(definitions["$defs"])  # type: ignore[arg-type]  # pydantic's own alias is wider


def _dataclass_schema(name: str, value: type, mode: JsonSchemaMode) -> dict[str, Any]:
    schema = TypeAdapter(value).json_schema(mode=mode, ref_template=_REF)
    inner = schema.pop("$defs", {})
    return {name: {**schema, "title": name}, **inner}


def _operation(route: Route, named: _Schemas) -> dict[str, Any]:
    summary, _, rest = route.description.partition("\n")
    described: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.group],
        "summary": summary.rstrip("."),
        "parameters": [*_path_parameters(route), *_query_parameters(route.query)],
        "responses": {
            str(route.status): {
                "description": "Success",
                "content": {"application/json": {"schema": named[route.answer, "serialization"]}},
            },
            "default": {
                "description": "What went wrong",
                "content": {"application/json": {"schema": named[ProblemAnswer, "serialization"]}},
            },
        },
    }
    if rest.strip():
        described["description"] = rest.strip()
    if route.body:
        described["requestBody"] = {
            "required": any(field.is_required() for field in route.body.model_fields.values()),
            "content": {"application/json": {"schema": named[route.body, "validation"]}},
        }
    return described


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.path_names]


def _query_parameters(model: type[Question] | None) -> list[dict[str, Any]]:
    """One parameter per field; lists are comma separated."""
    if model is None:
        return []
    schema = model.model_json_schema(ref_template=_REF)
    definitions = schema.get("$defs", {})
    found = []
    for name, inner in schema["properties"].items():
        plain = _inlined(inner, definitions)
        description = plain.pop("description", "")
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": plain}
        if description:
            parameter["description"] = description
        if plain.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        found.append(parameter)
    return found


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with its references replaced by what they name: enumerations, in parameters."""
    match schema:
        case {"$ref": str(reference)}:
            return _inlined(definitions[reference.rpartition("/")[2]], definitions)
        case dict():
            return {name: _inlined(inner, definitions) for name, inner in schema.items()}
        case list():
            return [_inlined(inner, definitions) for inner in schema]
    return schema
