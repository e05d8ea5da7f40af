"""The calls on batch jobs: parse, ask the service, render."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from cloudfinite.domain.access import Action
from cloudfinite.domain.batch import BatchKind, BatchRequest
from cloudfinite.errors import BatchNotFound
from cloudfinite.service.batches import BatchService
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire import batches, requests
from cloudfinite.wire.documents import parse_body
from cloudfinite.wire.operation import Operation

_VARIABLE = "${"  # In an output's key: what stands before the first is how all its objects' keys begin.


class BatchHandlers:
    """`/inventorytriggerjob`."""

    def __init__(self, service: BatchService, operations: Mapping[str, Operation]) -> None:
        self._service = service
        self._operations = operations

    async def create(self, request: Request) -> web.StreamResponse:
        wanted = batches.read_batch(parse_body(await request.body()), self._operations)
        self._check(request, wanted)
        batch = await self._service.create_batch(request.bucket, wanted)
        return replies.node(request, batches.batches_answer(request.id, [batch]))

    def _check(self, request: Request, wanted: BatchRequest) -> None:
        """Raises AccessDenied for a batch that reads or writes what its maker may not."""
        # What a list of objects names is known later: so the whole bucket must be allowed.
        key = wanted.input.prefix or wanted.input.object_key
        request.check(Action.GET_OBJECT, key)
        if wanted.kind is BatchKind.JOB:
            request.check(Action.CREATE_JOBS, key)
            output = batches.read_operation(wanted.operation, self._operations).output
            if output is not None:
                request.check(Action.PUT_OBJECT, output.key.partition(_VARIABLE)[0], output.bucket)
        else:
            request.check(Action.TRIGGER_WORKFLOW, key)

    async def describe(self, request: Request) -> web.StreamResponse:
        """Wire: "Query job" – one that does not exist is no error, but named."""
        batch_id = request.segments[1]
        try:
            batch = await self._service.find_batch(request.bucket, batch_id)
        except BatchNotFound:
            return replies.node(request, batches.batches_answer(request.id, [], missing=batch_id))
        return replies.node(request, batches.batches_answer(request.id, [batch]))

    async def list(self, request: Request) -> web.StreamResponse:
        page = await self._service.list_batches(request.bucket, batches.read_batch_filter(request.query.get))
        token = ""
        if page.next_position:
            last, seq = page.next_position
            token = requests.write_token(last.created_at, seq)
        return replies.node(request, batches.batches_answer(request.id, page.batches, next_token=token))

    async def cancel(self, request: Request) -> web.StreamResponse:
        """Wire: cos-go-sdk-v5 sends no `cancel`, cos-python-sdk-v5 an unsigned one."""
        await self._service.cancel_batch(request.bucket, request.segments[1])
        return replies.empty(request)

    async def delete(self, request: Request) -> web.StreamResponse:
        await self._service.delete_batch(request.bucket, request.segments[1])
        return replies.empty(request, 204)
