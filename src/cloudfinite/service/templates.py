"""Templates from the client's side: saved parameters, and the official ones that come with the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cloudfinite.domain.ids import new_template_id
from cloudfinite.domain.template import Template
from cloudfinite.errors import InvalidArgument, NoSuchBucket, TemplateNotFound
from cloudfinite.ports import Store, Transaction
from cloudfinite.wire.operation import Operation

_SINCE = datetime(2026, 1, 1, tzinfo=UTC)

# Wire: our choice – no list of the vendor's ImageOCR presets is documented; fixed ids, so that all installations agree.
OFFICIAL: Mapping[str, Template] = {
    template.id: template
    for template in (
        Template("t0" + number, "", "ImageOCR", name, params, _SINCE, _SINCE, is_official=True)
        for number, name, params in (
            ("2f1d6c0e5b7a4c1f9a3e8d4b6c5f7a01", "ocr_general", {"mode": "general"}),
            ("7c9e2b4a1d3f4e5f8b6a0c9d8e7f6b02", "ocr_general_words", {"mode": "general", "is_word": True}),
            ("b3a5d7f9e1c24d6b8f0a2c4e6d8b0a03", "ocr_accurate", {"mode": "accurate"}),
            ("4d6f8a0b2c3e4f5a9b7c1d3e5f7a9c04", "ocr_fast", {"mode": "fast"}),
            ("e5f7a9b1c3d44e6f8a0b2c4d6e8f0a05", "ocr_pdf_first_page", {"mode": "general", "is_pdf": True}),
        )
    )
}


class TemplateService:
    """What clients do with templates."""

    def __init__(self, store: Store, operations: Mapping[str, Operation]) -> None:
        self._store = store
        self._operations = operations

    async def create_template(self, bucket: str, tag: str, name: str, params: Mapping[str, Any]) -> Template:
        """Raises TemplateNameDuplicate, NoSuchBucket."""
        return await self._store.run(create_template, bucket, tag, name, params)

    async def update_template(
        self, bucket: str, template_id: str, tag: str, name: str, params: Mapping[str, Any]
    ) -> Template:
        """Replace name and parameters; the tag cannot change. Jobs already accepted keep what they took."""
        return await self._store.run(update_template, bucket, template_id, tag, name, params)

    async def delete_template(self, bucket: str, template_id: str) -> None:
        _refuse_official(template_id)
        if not await self._store.run(lambda tx: tx.templates.delete(bucket, template_id)):
            raise TemplateNotFound(f"the template {template_id} does not exist in this bucket")

    async def list_templates(
        self, bucket: str, *, is_official: bool, tag: str = "", name_prefix: str = "", ids: Sequence[str] = ()
    ) -> list[Template]:
        """By creation; `ids` finds official and own ones alike."""
        official = [
            replace(template, bucket=bucket)
            for template in OFFICIAL.values()
            if (not tag or template.tag == tag)
            and template.name.startswith(name_prefix)
            and (template.id in ids if ids else is_official)
        ]
        if is_official and not ids:
            return official
        own = await self._store.read(lambda tx: tx.templates.select(bucket, tag=tag, name_prefix=name_prefix, ids=ids))
        return official + own


def find_template(tx: Transaction, bucket: str, template_id: str) -> Template:
    """An official template or one of the bucket. Raises TemplateNotFound."""
    template = OFFICIAL.get(template_id) or tx.templates.get(bucket, template_id)
    if template is None:
        raise TemplateNotFound(f"the template {template_id} does not exist in this bucket")
    return template


def create_template(tx: Transaction, bucket: str, tag: str, name: str, params: Mapping[str, Any]) -> Template:
    if tx.buckets.get(bucket) is None:
        raise NoSuchBucket(f"the bucket {bucket} does not exist here")
    template = Template(new_template_id(), bucket, tag, name, params, tx.now, tx.now)
    tx.templates.insert(template)
    return template


def update_template(
    tx: Transaction, bucket: str, template_id: str, tag: str, name: str, params: Mapping[str, Any]
) -> Template:
    _refuse_official(template_id)
    template = find_template(tx, bucket, template_id)
    if template.tag != tag:
        raise InvalidArgument(f"the template {template_id} is for the tag {template.tag}; an update cannot change it")
    changed = replace(template, name=name, params=params, updated_at=tx.now)
    tx.templates.replace(changed)
    return changed


def _refuse_official(template_id: str) -> None:
    if template_id in OFFICIAL:
        raise InvalidArgument(f"the template {template_id} is an official one; it cannot be changed")
