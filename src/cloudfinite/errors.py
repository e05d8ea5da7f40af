"""Every error of the project, with its wire code.

CloudfiniteError
├─ RequestError     the HTTP reply is an error document      code, status, message, resource
├─ JobFailed        the job was accepted and ends Failed     code, message, retryable
├─ DeliveryFailed   one attempt did not succeed              reason, retryable
└─ SetupError       the process refuses to start             advice for the operator, exit code

The classes know no XML: `web/server.py` renders RequestErrors in one place, `service/jobs.py` turns JobFailed into
`Code` and `Message`, `service/deliveries.py` reads `retryable`. A docstring is its class's default message.

Wire: Cloud Infinite API documentation, "Error Codes" of media processing; COS documentation, "Error Codes".
"""

from __future__ import annotations

from typing import ClassVar


class CloudfiniteError(Exception):
    """Something went wrong."""

    def __init__(self, message: str = "") -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        super().__init__(self.message)


# --- the HTTP reply is an error document ---------------------------------------------------------------------------


class RequestError(CloudfiniteError):
    """The request cannot be served."""

    code: ClassVar[str] = "InvalidArgument"
    status: ClassVar[int] = 400

    def __init__(self, message: str = "", *, resource: str = "", headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.resource = resource
        self.headers = headers


class InvalidArgument(RequestError):
    """A parameter has a value that is not allowed."""


class MissingContent(RequestError):
    """The request needs a body and has none."""

    code = "MissingContent"


class InvalidContent(RequestError):
    """The body cannot be read."""

    code = "InvalidContent"


class ContentTooLarge(RequestError):
    """The body is larger than this call allows."""

    code = "InvalidContent"
    status = 413


class UnsupportedEncoding(RequestError):
    """The body has a Content-Encoding; send it plain."""

    code = "InvalidContentType"
    status = 415


class MissingContentLength(RequestError):
    """The request needs a Content-Length header."""

    code = "MissingContentLength"
    status = 411


class HeadTooLarge(RequestError):
    """The request's headers are larger than this server allows."""

    code = "RequestHeaderSectionTooLarge"
    status = 431


class RequestTimeout(RequestError):
    """The request did not arrive in time."""

    code = "RequestTimeout"


class InvalidHost(RequestError):
    """The host name is not one this server answers for."""

    code = "InvalidHost"


class MalformedRequest(RequestError):
    """The request is not HTTP as this server reads it."""

    code = "InvalidRequest"


class InvalidUri(RequestError):
    """The request target cannot be read."""

    code = "InvalidURI"


class InvalidUrl(RequestError):
    """There is no such call."""

    code = "InvalidUrl"
    status = 404


class MethodNotAllowed(RequestError):
    """The method is not allowed against this resource."""

    code = "MethodNotAllowed"
    status = 405


class NotImplementedHere(RequestError):
    """The vendor has this call; cloudfinite does not run it yet."""

    code = "NotImplemented"
    status = 501


class MissingAuthorization(RequestError):
    """The request carries no signature."""

    code = "MissingAuthorization"
    status = 401


class InvalidAuthorization(RequestError):
    """The signature cannot be read."""

    code = "InvalidAuthorization"
    status = 401


class SecretIdNotExist(RequestError):
    """The secret id of the signature is unknown."""

    code = "SecretidNotExist"
    status = 401


class InvalidAccessKeyId(RequestError):
    """The secret id of the signature is unknown."""

    code = "InvalidAccessKeyId"
    status = 403


class SignatureExpired(RequestError):
    """Request has expired."""

    code = "SignatureExpired"
    status = 401


class RequestTimeTooSkewed(RequestError):
    """The signature's time is more than 15 minutes away from the server's."""

    code = "RequestTimeTooSkewed"
    status = 403


class SignatureDoesNotMatch(RequestError):
    """The signature we calculated does not match the one provided. Check the secret key and what was signed."""

    code = "SignatureDoesNotMatch"
    status = 403


class AccessDenied(RequestError):
    """This key may not do that."""

    code = "AccessDenied"
    status = 403


class ExpiredToken(RequestError):
    """The security token has expired."""

    # Wire: COS documentation, "Error Codes"; the list of Cloud Infinite has no code of its own for it.
    code = "ExpiredToken"


class ServiceClosed(RequestError):
    """The service is not open for this bucket."""

    # Wire: Cloud Infinite documentation, numeric error 1111; the status as a client of the vendor noted it.
    code = "MediaBucketUnBinded"
    status = 400


class QueuePaused(RequestError):
    """The queue is paused."""

    code = "QueuePaused"
    status = 403


class QueueSaturated(RequestError):
    """The queue is full."""

    code = "QueueSaturated"
    status = 403


class QueueNotFound(RequestError):
    """The queue does not exist."""

    code = "QueueNotFound"
    status = 404


class TemplateNotFound(RequestError):
    """The template does not exist."""

    code = "TemplateNotFound"
    status = 404


class TemplateNameDuplicate(RequestError):
    """Another template of this bucket has the name."""

    code = "TemplateNameDuplicate"
    status = 403


class WorkflowNotFound(RequestError):
    """The workflow does not exist in this bucket."""

    # Wire: our choice – no page tells what an unknown id answers.
    code = "WorkflowNotFound"
    status = 404


class WorkflowActive(RequestError):
    """The workflow is Active; pause it before you change or delete it."""

    # Wire: Cloud Infinite console guide, "Workflow": the rule; our choice: its code.
    code = "InvalidArgument"


class ExecutionNotFound(RequestError):
    """The workflow execution does not exist in this bucket."""

    # Wire: our choice – no page tells what an unknown RunId answers.
    code = "ExecutionNotFound"
    status = 404


class JobNotFound(RequestError):
    """The job does not exist in this bucket."""

    code = "JobNotFound"
    status = 404


class BatchNotFound(RequestError):
    """The batch job does not exist in this bucket."""

    code = "JobNotFound"
    status = 404


class DeliveryNotFound(RequestError):
    """The delivery does not exist."""

    code = "DeliveryNotFound"
    status = 404


class TargetNotFound(RequestError):
    """Nothing was ever sent to this URL."""

    code = "TargetNotFound"
    status = 404


class AccessKeyNotFound(RequestError):
    """The access key does not exist."""

    code = "AccessKeyNotFound"
    status = 404


class AccessKeyExists(RequestError):
    """An access key of this id exists already."""

    code = "AccessKeyExists"
    status = 409


class SourceNotFound(RequestError):
    """The input object does not exist."""

    code = "ResourceNotFound"


class SourceNotSupported(RequestError):
    """The input is not something this operation can read."""

    code = "ResourceNotSupported"


class SourceDownloadFailed(RequestError):
    """The input could not be fetched."""

    code = "ResourceDownloadFailed"


class NoSuchBucket(RequestError):
    """The specified bucket does not exist."""

    code = "NoSuchBucket"
    status = 404


class NoSuchKey(RequestError):
    """The specified key does not exist."""

    code = "NoSuchKey"
    status = 404


class NoSuchUpload(RequestError):
    """The multipart upload does not exist; it may have been completed or aborted."""

    code = "NoSuchUpload"
    status = 404


class NoSuchCopySource(RequestError):
    """The object to copy from does not exist."""

    code = "NoSuchCopySource"
    status = 404


class BucketAlreadyExists(RequestError):
    """A bucket of this name exists already."""

    code = "BucketAlreadyExists"
    status = 409


class BucketNotEmpty(RequestError):
    """The bucket still holds objects."""

    code = "BucketNotEmpty"
    status = 409


class NoSuchCorsConfiguration(RequestError):
    """The bucket has no CORS rules."""

    code = "NoSuchCORSConfiguration"
    status = 404


class AccessForbidden(RequestError):
    """No CORS rule of the bucket lets this page make this call."""

    code = "AccessForbidden"
    status = 403


class InvalidBucketName(RequestError):
    """The bucket's name is not allowed."""

    code = "InvalidBucketName"


class InvalidPart(RequestError):
    """A part to complete with was not uploaded, or has another ETag."""

    code = "InvalidPart"


class InvalidPartOrder(RequestError):
    """The parts to complete with are not in ascending order of their numbers."""

    code = "InvalidPartOrder"


class ObjectNotAppendable(RequestError):
    """The operation is not valid for the current state of the object."""

    # Wire: COS documentation, "APPEND Object" (409; the list of error codes says 400 for both).
    code = "ObjectNotAppendable"
    status = 409


class AppendPositionWrong(RequestError):
    """The position is not the object's length."""

    code = "AppendPositionErr"
    status = 409


class MalformedXml(RequestError):
    """The body is not the XML that this call needs."""

    code = "MalformedXML"


class KeyTooLong(RequestError):
    """The object key is longer than 850 bytes."""

    code = "KeyTooLong"


class InvalidDigest(RequestError):
    """Content-MD5 is not the base64 text of 16 bytes."""

    code = "InvalidDigest"


class BadDigest(RequestError):
    """The body's MD5 differs from Content-MD5."""

    code = "BadDigest"


class EntityTooLarge(RequestError):
    """The object is larger than this server accepts."""

    code = "EntityTooLarge"


class EntityTooSmall(RequestError):
    """The object is smaller than the policy allows."""

    code = "EntityTooSmall"


class MalformedPost(RequestError):
    """The body is not the multipart/form-data that this call needs."""

    code = "MalformedPOSTRequest"


class IncompleteBody(RequestError):
    """The body ended before Content-Length bytes had arrived."""

    code = "IncompleteBody"


class InvalidRange(RequestError):
    """The requested range lies outside the object."""

    code = "InvalidRange"
    status = 416


class PreconditionFailed(RequestError):
    """At least one of the preconditions did not hold."""

    code = "PreconditionFailed"
    status = 412


class InternalError(RequestError):
    """The server met an unexpected condition. The request id finds it in the log."""

    code = "InternalError"
    status = 500


class ServiceUnavailable(RequestError):
    """The server cannot take this request now; try again."""

    code = "ServiceUnavailable"
    status = 503


class InsufficientStorage(RequestError):
    """The disk is full; nothing was stored."""

    code = "ServiceUnavailable"
    status = 503


class StorageUnavailable(RequestError):
    """The storage behind this bucket does not answer; try again."""

    code = "ServiceUnavailable"
    status = 503


class StorageRefused(RequestError):
    """The storage behind this bucket refused what was asked of it."""

    code = "InternalError"
    status = 500


class SlowDown(RequestError):
    """Too many requests at once; try again more slowly."""

    code = "SlowDown"
    status = 503


# --- the job was accepted and ends Failed --------------------------------------------------------------------------


class JobFailed(CloudfiniteError):
    """The operation failed."""

    code: ClassVar[str] = "InternalError"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = self.message.removesuffix(".")  # The wire's Message is a phrase.


class InputMissing(JobFailed):
    """the specified object does not exist."""

    code = "ResourceNotFound"


class InputDenied(JobFailed):
    """the input may not be read."""

    code = "ResourceAccessDenied"


class InputDownloadFailed(JobFailed):
    """the input could not be downloaded."""

    code = "ResourceDownloadFailed"


class StorageFailed(JobFailed):
    """the storage that keeps the input does not answer."""

    code = "ResourceDownloadFailed"
    retryable = True


class UnreadableInput(JobFailed):
    """the input is not a file this operation can read."""

    code = "ResourceNotSupported"


class UnsupportedOption(JobFailed):
    """an option of the job has a value that no installed engine serves."""

    code = "InvalidArgument"


class OutputRefused(JobFailed):
    """the object cannot be put where the job's Output says."""

    code = "InvalidArgument"


class OutputFailed(JobFailed):
    """the object could not be stored."""

    code = "InternalError"
    retryable = True


class OperationTimedOut(JobFailed):
    """the operation ran longer than allowed."""

    code = "OperationTimeout"


class ChildDied(JobFailed):
    """the process that ran the operation died."""

    code = "InternalError"
    retryable = True


class EngineFailed(JobFailed):
    """the engine met an unexpected condition."""

    code = "InternalError"


# --- one attempt did not succeed -----------------------------------------------------------------------------------


class DeliveryFailed(CloudfiniteError):
    """The notification could not be delivered.

    `reason` is the attempt's class: dns, refused_by_policy, connect, tls, timeout, reset, protocol, too_large.
    """

    def __init__(self, reason: str, message: str = "", *, retryable: bool = True) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.retryable = retryable


# --- the process refuses to start ----------------------------------------------------------------------------------


class SetupError(CloudfiniteError):
    """The process cannot start as it is set up."""

    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice
