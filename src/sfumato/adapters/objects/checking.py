"""Whether a bucket will take what a service and its workers are going to do, before they do it."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from sfumato.adapters.objects.causes import Cause, Fault, cause_of
from sfumato.core.errors import StartupRefused

if TYPE_CHECKING:
    from obstore.store import ObjectStore

#: Below this prefix, so that a bucket's rule can remove what a process left that died in between.
CHECKS = "checks"

_REMEDIES = {
    Fault.MISSING_BUCKET: "Make the bucket, or name another in SFUMATO_IMAGES_URL.",
    Fault.MISSING_CREDENTIALS: (
        "Set credentials as the cloud's own tools want them, for S3 in AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or give this machine a role."
    ),
    Fault.WRONG_CREDENTIALS: (
        "It does not know these credentials. Check key and secret, for S3 AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, and that they have not expired."
    ),
    Fault.WRONG_REGION: "The bucket lies in another region; set AWS_REGION to it.",
    Fault.NO_CONNECTION: (
        "Check SFUMATO_S3_ENDPOINT where it is no bucket of the cloud's own, and the network."
    ),
    Fault.FULL: "Free some space.",
    Fault.OTHER: (
        "Check SFUMATO_IMAGES_URL, and SFUMATO_S3_ENDPOINT where it is no bucket of the cloud's own."
    ),
}


async def check_bucket(store: ObjectStore, place: str) -> None:
    """Store, read, list and delete one small object.

    Raises:
        StartupRefused: naming what is refused, and what to do.
    """
    key = f"{CHECKS}/{uuid.uuid4().hex}"

    async def read() -> None:
        await (await obstore.get_async(store, key)).bytes_async()

    steps: list[tuple[str, str, Callable[[], Awaitable[object]]]] = [
        ("write", "s3:PutObject", lambda: obstore.put_async(store, key, b"", use_multipart=False)),
        ("read", "s3:GetObject", read),
        ("list", "s3:ListBucket", lambda: obstore.list(store, prefix=CHECKS).collect_async()),
        ("delete", "s3:DeleteObject", lambda: obstore.delete_async(store, key)),
    ]
    for aim, permission, step in steps:
        try:
            await step()
        except (BaseError, OSError) as error:
            raise _refusal(cause_of(error), place, aim, permission) from None


def _refusal(cause: Cause, place: str, aim: str, permission: str) -> StartupRefused:
    if cause.fault is Fault.MISSING_PERMISSION:
        remedy = f"Allow these credentials to {aim} its objects; on S3 that is {permission}."
    else:
        remedy = _REMEDIES[cause.fault]
    return StartupRefused(
        f"Pictures can't be kept at {place}: the attempt to {aim} one failed ({cause.words}). "
        f"{remedy}",
        field="images_url",
        accepted="a folder, or a bucket that may be written, read, listed and deleted from",
    )
