"""Clients of SQS and SNS whose failures are ours.

aiobotocore's errors quote requests, so only facts picked out of them are passed on: never a
message's text, a credential or a signed address.
"""

from __future__ import annotations

import contextlib
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's own, of every connection that fails
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from sfumato.core.errors import StartupRefused, Unavailable

#: The longest that one call may take is about three times this, with its retries, in seconds.
_ANSWER_SECONDS = 15
_CONNECT_SECONDS = 5
_TRIES = 3

_MISSING = {
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
    "NotFound",
    "NotFoundException",
}
_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "KMS.AccessDeniedException",
    "UnauthorizedOperation",
}
_CREDENTIALS = {
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_REJECTED = {"InvalidParameter", "InvalidParameterValue", "InvalidParameterException"}
_STALE = {
    "AWS.SimpleQueueService.MessageNotInflight",
    "MessageNotInflight",
    "ReceiptHandleIsInvalid",
    "ReceiptHandleIsInvalidException",
}


class Missing(Unavailable):
    """The queue or topic does not exist."""


class Denied(Unavailable):
    """These credentials may not do that; the message names what they lack."""


class Stale(Unavailable):
    """The message is no longer ours: its visibility ended, or it was deleted."""


class Rejected(Unavailable):
    """A value that the service does not take, as a visibility of more than 12 hours in all."""


class AwsClients:
    """SQS and SNS of one region. Open with ``async with``.

    Args:
        endpoint: another address than AWS's own.
        connections: requests that may be under way at once to each of the two.
    """

    def __init__(self, region: str, *, endpoint: str | None, connections: int) -> None:
        self.region = region
        self._endpoint = endpoint
        self._config = AioConfig(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            max_pool_connections=connections,
        )
        self._stack = contextlib.AsyncExitStack()
        self._clients: dict[str, Any] = {}

    async def open(self) -> None:
        """Raises StartupRefused: AWS's own settings are wrong, as a profile that there is not."""
        session = get_session()
        try:
            for service in ("sqs", "sns"):
                client = session.create_client(
                    service,
                    region_name=self.region,
                    endpoint_url=self._endpoint,
                    config=self._config,
                )
                self._clients[service] = await self._stack.enter_async_context(client)
        except (BotoCoreError, ValueError) as error:
            await self.close()
            raise StartupRefused(
                f"AWS's own settings can't be used: {type(error).__name__}.",
                accepted="what the aws command line takes: AWS_PROFILE, AWS_ACCESS_KEY_ID, …",
            ) from None

    async def close(self) -> None:
        await self._stack.aclose()

    async def sqs(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call SQS: ``operation`` as in AWS's reference, ``SendMessage``.

        Raises:
            Unavailable: or one of its kinds above.
        """
        return await self._call("sqs", operation, parameters)

    async def sns(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call SNS; as :meth:`sqs`."""
        return await self._call("sns", operation, parameters)

    async def _call(
        self, service: str, operation: str, parameters: dict[str, Any]
    ) -> dict[str, Any]:
        method = getattr(self._clients[service], _snake(operation))
        try:
            answer: dict[str, Any] = await method(**parameters)
        except ClientError as error:
            raise self._refused(service, operation, error) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise Unavailable(
                "There are no credentials for AWS. Give them as its other tools take them: "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role."
            ) from None
        except (ConnectionError, HTTPClientError, OSError) as error:
            at = f"at {self._endpoint}" if self._endpoint else f"in {self.region}"
            raise Unavailable(
                f"{service.upper()} {at} can't be reached ({type(error).__name__}). Is the region "
                "right, and is there a way out of this network?"
            ) from None
        except BotoCoreError as error:
            raise Unavailable(f"{operation} failed: {type(error).__name__}.") from None
        return answer

    def _refused(self, service: str, operation: str, error: ClientError) -> Unavailable:
        facts = error.response.get("Error", {})
        code = str(facts.get("Code", "unknown"))
        if code in _MISSING:
            return Missing(f"{operation}: there is no such {_THING[service]} in {self.region}.")
        if code in _STALE or _is_stale(operation, code, str(facts.get("Message"))):
            return Stale(f"{operation}: the message is no longer held.")
        if code in _DENIED:
            return Denied(f"These AWS credentials lack the permission {service}:{operation}.")
        if code in _CREDENTIALS:
            return Unavailable(f"AWS refuses these credentials ({code}).")
        if code in _REJECTED:
            return Rejected(f"{service.upper()} refuses a value of {operation}.")
        if code in ("401", "403"):  # an answer without a code, as of a proxy
            return Denied(
                "AWS refuses these credentials, or they lack the permission "
                f"{service}:{operation} (HTTP status {code})."
            )
        return Unavailable(f"{service.upper()} refuses {operation} for now ({code}).")


def _is_stale(operation: str, code: str, words: str) -> bool:
    """SQS has no code of its own for a receipt that ran out, nor for a message hidden too long."""
    hiding = operation == "ChangeMessageVisibility" and code in _REJECTED
    return hiding and "Total VisibilityTimeout" not in words


_THING = {"sqs": "queue", "sns": "topic"}


def _snake(operation: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in operation).lstrip("_")
