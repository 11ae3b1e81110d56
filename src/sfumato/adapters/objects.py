"""Pictures, recipes and checkpoints in a local folder, S3, GCS or Azure, through obstore.

The services put and get by key; ``sfumato.bootstrap`` makes the store from a URL:

================================== =============================================
``/srv/sfumato``, ``file:///srv``  a local folder, made when it is missing
``s3://bucket/prefix``             S3 and whatever speaks its protocol
``gs://bucket/prefix``             Google Cloud Storage
``az://container/prefix``          Azure Blob Storage
``memory://``                      this process, until it ends
================================== =============================================

In a bucket an object that was put is durable when the request returns. In a folder obstore writes
``key#1`` and renames it, which is atomic but not yet durable, so the file and its folders are
synchronised here before ``put`` returns: a job is committed as succeeded only after that, and must
not outlive its picture in a power cut. Measured on a shared two-core machine: 14 ms for 60 kB.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store, from_url

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
    from obstore.store import ObjectStore

_SCHEMES = ("file", "s3", "gs", "az", "memory")
_KEY = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")

#: A folder keeps no media types; there the key's extension tells.
_MEDIA_TYPES = {
    **{output_format.extension: output_format.media_type for output_format in OutputFormat},
    "json": "application/json",
}
_UNTYPED = "application/octet-stream"

#: Options of the connection, which obstore takes apart from those of the store.
_CONNECTION_OPTIONS = {
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "proxy_ca_certificate",
    "proxy_url",
    "timeout",
}

#: A bucket that does not answer is told to the caller after half a minute, not after three.
_RETRY_LIMITS = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_DELETES_AT_ONCE = 16


class ObjectImageStore:
    """The ``ImageStore`` port on any object store that obstore knows.

    Args:
        url: one of the forms above; a bare path is a local folder.
        options: settings of the bucket's client under obstore's names, as ``endpoint``,
            ``region``, ``access_key_id``, ``allow_http``. What is left out, credentials above
            all, the cloud's client finds where its other tools do. A folder takes none.

    Raises:
        StartupRefused: an unknown scheme or option, or a folder that cannot be made.
    """

    def __init__(self, url: str | Path, *, options: Mapping[str, str] | None = None) -> None:
        self._place = _without_secrets(str(url))
        self._folder = _local_folder(url)
        self._store = self._open(str(url), options or {})
        self._typed = not isinstance(self._store, LocalStore)

    def _open(self, url: str, options: Mapping[str, str]) -> ObjectStore:
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StartupRefused(
                    f"The folder for pictures, {self._folder}, cannot be made: {error.strerror}.",
                    accepted="a folder that may be written",
                ) from error
            return LocalStore(self._folder, automatic_cleanup=True)
        scheme = urlsplit(url).scheme
        if scheme not in _SCHEMES:
            raise StartupRefused(
                f"Pictures cannot be kept at {scheme}://.",
                accepted=[f"{known}://" for known in _SCHEMES],
            )
        if scheme == "memory":
            return MemoryStore()
        try:
            return from_url(  # type: ignore[call-overload, no-any-return]  # typed by scheme
                url,
                config={k: v for k, v in options.items() if k not in _CONNECTION_OPTIONS},
                client_options={k: v for k, v in options.items() if k in _CONNECTION_OPTIONS},
                retry_config=_RETRY_LIMITS,
            )
        except (BaseError, ValueError) as error:
            # Its text may quote an option's value; the names are enough to find the mistake.
            raise StartupRefused(
                f"The object store {self._place} refuses its settings "
                f"({type(error).__name__}; given: {', '.join(sorted(options)) or 'none'}).",
                accepted="obstore's options for this scheme",
            ) from None

    async def put(self, key: str, data: bytes, *, media_type: str) -> None:
        _check(key)
        attributes = {"Content-Type": media_type} if self._typed else None
        try:
            # Multipart would leave parts behind when the process dies; pictures are small.
            await obstore.put_async(
                self._store, key, data, attributes=attributes, use_multipart=False
            )
            if self._folder is not None:
                await asyncio.to_thread(_synchronise, self._folder, key)
        except (BaseError, OSError) as error:
            raise self._translated(error, f"store {key}") from None

    async def get(self, key: str) -> StoredObject:
        _check(key)
        try:
            found = await obstore.get_async(self._store, key)
            data = (await found.bytes_async()).to_bytes()
        except FileNotFoundError:
            raise NotFound(f"There is no object {key}.") from None
        except (BaseError, OSError) as error:
            raise self._translated(error, f"read {key}") from None
        media_type = found.attributes.get("Content-Type")
        return StoredObject(data, media_type or _media_type_of(key))

    async def size(self, key: str) -> int:
        _check(key)
        try:
            return (await obstore.head_async(self._store, key))["size"]
        except FileNotFoundError:
            raise NotFound(f"There is no object {key}.") from None
        except (BaseError, OSError) as error:
            raise self._translated(error, f"look at {key}") from None

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

    def _translated(self, error: Exception, aim: str) -> SfumatoError:
        """An error of ours for one of obstore's, whose own text may quote addresses with
        signatures and answers with key ids: only facts picked out of it are passed on."""
        number, reason = _cause(error)
        if number in _FULL:
            return StorageFull(
                f"{self._place} takes no more ({reason}): could not {aim}. "
                "Free some space; what was stored before is untouched."
            )
        return Unavailable(f"{self._place} does not answer as it should ({reason}): cannot {aim}.")


def _check(key: str) -> None:
    if not _KEY.fullmatch(key) or not {".", ".."}.isdisjoint(key.split("/")):
        raise InvalidRequest(
            f"{key!r} is no object key.",
            field="key",
            accepted="names of letters, digits, '.', '_' and '-', joined by single '/'",
        )


def _media_type_of(key: str) -> str:
    return _MEDIA_TYPES.get(key.rpartition(".")[2], _UNTYPED)


def _local_folder(url: str | Path) -> Path | None:
    if isinstance(url, str):
        parts = urlsplit(url)
        if parts.scheme == "file":
            return Path(url2pathname(parts.path)).absolute()
        if "://" in url:
            return None
    return Path(url).absolute()


def _without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _synchronise(root: Path, key: str) -> None:
    """Bring a file and the folders down to it to stable storage; on failure take it back."""
    path = root / key
    try:
        _fsync(path)
        for folder in path.parents:
            _fsync(folder)
            if folder == root:
                return
    except OSError:
        with suppress(OSError):
            path.unlink()
        raise


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cause(error: Exception) -> tuple[int | None, str]:
    """What went wrong beneath: the operating system's error number, if it is one, and words.

    obstore gives most failures as one class; the facts stand in its text alone.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, os.strerror(error.errno)
    text = str(error)
    if found := re.search(r"\(os error (\d+)\)|code: (\d+),", text):
        number = int(found[1] or found[2])
        return number, os.strerror(number)
    if found := re.search(r"^\s+status: (\d{3}),", text, re.MULTILINE):
        status = int(found[1])
        # 507: how S3-compatible stores and WebDAV say that their disks are full.
        return (errno.ENOSPC if status == 507 else None), f"HTTP status {status}"
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return None, "credentials missing or not sufficient"
    if found := re.search(r"^\s+kind: (Connect|Timeout|Interrupted|Decode)", text, re.MULTILINE):
        return None, {"Connect": "no connection", "Timeout": "no answer in time"}.get(
            found[1], "connection lost"
        )
    return None, type(error).__name__
