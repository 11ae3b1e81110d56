"""The ``ImageStore`` port on any object store that obstore knows."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from sfumato.adapters.objects.causes import Fault, cause_of
from sfumato.adapters.objects.checking import check_bucket
from sfumato.adapters.objects.durability import synchronise
from sfumato.adapters.objects.opening import (
    PATIENCE,
    START_PATIENCE,
    local_folder,
    open_bucket,
    open_folder,
    without_secrets,
)
from sfumato.core.errors import (
    InvalidRequest,
    NotFound,
    SfumatoError,
    StartupRefused,
    StorageFull,
    Unavailable,
)
from sfumato.core.ports import StoredObject
from sfumato.core.request import OutputFormat

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import ObjectStore

_KEY = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")

#: A folder keeps no media types; there the key's extension tells.
_MEDIA_TYPES = {
    **{output_format.extension: output_format.media_type for output_format in OutputFormat},
    "json": "application/json",
}
_UNTYPED = "application/octet-stream"

#: For whoever reads a picture by a signed URL: it never changes, and is nobody else's business.
_FOR_GOOD = "private, max-age=31536000, immutable"

#: Above this an object goes up in parts, several at once, each sent again by itself when it fails.
_PART = 8 << 20

_DELETES_AT_ONCE = 16


class ObjectImageStore:
    """The ``ImageStore`` port on any object store that obstore knows.

    Args:
        url: one of the forms above; a bare path is a local folder.
        options: settings of the bucket's client under obstore's names, as ``endpoint``,
            ``region``, ``access_key_id``, ``allow_http``. What is left out, credentials above
            all, the cloud's client finds where its other tools do. A folder takes none.
        patience: seconds for which a bucket that does not answer is asked again.

    Raises:
        StartupRefused: an unknown scheme or option, or a folder that cannot be made.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        options: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._url = str(url)
        self._options = dict(options or {})
        #: Its URL, without secrets.
        self.place = without_secrets(self._url)
        self._folder = local_folder(url)
        self._store = self._open(patience)
        self._typed = not isinstance(self._store, LocalStore)
        self._signing = isinstance(self._store, S3Store | GCSStore | AzureStore)

    def _open(self, patience: float) -> ObjectStore:
        if self._folder is not None:
            return open_folder(self._folder)
        return open_bucket(self._url, self._options, patience)

    async def check(self) -> None:
        """Find out whether objects can be stored, read, listed and deleted.

        Raises:
            StartupRefused: naming what is wrong with bucket, credentials or address, and what to do.
        """
        if self._folder is not None:
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise StartupRefused(
                    f"The folder for pictures, {self._folder}, can't be written.",
                    field="images_url",
                    accepted="a folder that may be written",
                )
        elif not isinstance(self._store, MemoryStore):
            await check_bucket(self._open(START_PATIENCE), self.place)

    async def put(self, key: str, data: bytes, *, media_type: str) -> None:
        _check(key)
        attributes: Attributes = {"Content-Type": media_type}
        if media_type.startswith("image/"):
            attributes["Cache-Control"] = _FOR_GOOD
        try:
            await obstore.put_async(
                self._store,
                key,
                data,
                attributes=attributes if self._typed else None,
                # Parts stay behind when the process dies between them, so most objects have none.
                use_multipart=self._signing and len(data) > _PART,
                chunk_size=_PART,
            )
            if self._folder is not None:
                await asyncio.to_thread(synchronise, self._folder, key)
        except (BaseError, OSError) as error:
            raise self._translated(error, f"store {key}") from None

    async def get(self, key: str) -> StoredObject:
        _check(key)
        try:
            found = await obstore.get_async(self._store, key)
            data = (await found.bytes_async()).to_bytes()
        except (BaseError, OSError) as error:
            raise self._translated(error, f"read {key}", missing=key) from None
        media_type = found.attributes.get("Content-Type")
        return StoredObject(data, media_type or _media_type_of(key))

    async def size(self, key: str) -> int:
        _check(key)
        try:
            return (await obstore.head_async(self._store, key))["size"]
        except (BaseError, OSError) as error:
            raise self._translated(error, f"look at {key}", missing=key) from None

    async def download_url(self, key: str, *, expires: float) -> str | None:
        return await self._signed("GET", key, expires)

    async def upload_url(self, key: str, *, expires: float) -> str | None:
        return await self._signed("PUT", key, expires)

    async def _signed(self, method: Literal["GET", "PUT"], key: str, expires: float) -> str | None:
        _check(key)
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        try:
            return await obstore.sign_async(self._store, method, key, timedelta(seconds=expires))
        except BaseError as error:
            raise self._translated(error, f"sign a URL of {key}") from None

    async def delete_prefix(self, prefix: str) -> int:
        """Delete what lies below ``prefix``, read as a folder: ``jobs/a`` leaves ``jobs/ab`` alone."""
        folder = prefix.removesuffix("/")
        _check(folder)
        try:
            listing = obstore.list(self._store, prefix=folder)
            keys = [entry["path"] async for chunk in listing for entry in chunk]
            deleted = 0
            for first in range(0, len(keys), _DELETES_AT_ONCE):
                some = keys[first : first + _DELETES_AT_ONCE]
                deleted += sum(await asyncio.gather(*map(self._delete, some)))
        except (BaseError, OSError) as error:
            raise self._translated(error, f"delete {prefix}") from None
        return deleted

    async def _delete(self, key: str) -> bool:
        """False: somebody else was faster."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return False
        return True

    async def close(self) -> None:
        """Nothing to do: obstore's connections close with the object."""

    def _translated(
        self, error: Exception, aim: str, *, missing: str | None = None
    ) -> SfumatoError:
        """An error of ours for one of obstore's. ``missing``: the key that may not be there."""
        cause = cause_of(error)
        if (
            missing is not None
            and isinstance(error, FileNotFoundError)
            and cause.fault is not Fault.MISSING_BUCKET
        ):
            return NotFound(f"There is no object {missing}.")
        if cause.fault is Fault.FULL:
            return StorageFull(
                f"{self.place} takes no more ({cause.words}): could not {aim}. "
                "Free some space; what was stored before is untouched."
            )
        return Unavailable(
            f"{self.place} does not answer as it should ({cause.words}): cannot {aim}."
        )


def _check(key: str) -> None:
    if not _KEY.fullmatch(key) or not {".", ".."}.isdisjoint(key.split("/")):
        raise InvalidRequest(
            f"{key!r} is no object key.",
            field="key",
            accepted="names of letters, digits, '.', '_' and '-', joined by single '/'",
        )


def _media_type_of(key: str) -> str:
    return _MEDIA_TYPES.get(key.rpartition(".")[2], _UNTYPED)
