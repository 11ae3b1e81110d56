"""The bucket that models are published in: S3, GCS or Azure, through obstore.

Listings and small reads block and are meant for a thread; what moves whole models is asynchronous.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from sfumato.core.errors import (
    ModelUnusable,
    NotFound,
    SfumatoError,
    StartupRefused,
    StorageFull,
    Unavailable,
)
from sfumato.core.models import ModelFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs", "az")
#: Every request is tried again here, for a moment; whoever copies gigabytes tries longer.
_RETRY_LIMITS = {"max_retries": 3, "retry_timeout": timedelta(seconds=15)}
_TIMEOUTS = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=120)}
#: Parts of an upload, and how many are on their way at once: bounds its memory.
_PART_BYTES, _PARTS = 16 << 20, 4


class ModelStore:
    """Objects below one URL.

    Args:
        store: an open store of obstore's, rooted at the URL.
        place: the URL without secrets, for messages.
    """

    def __init__(self, store: ObjectStore, place: str) -> None:
        self._store = store
        self.place = place

    @classmethod
    def open(cls, url: str, options: Mapping[str, str] | None = None) -> ModelStore:
        """Open without asking the cloud for anything.

        Args:
            options: the client's settings, under obstore's names; credentials that are left out
                are found where the cloud's own tools find them.

        Raises:
            StartupRefused: an unknown scheme, or settings that make no sense.
        """
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise StartupRefused(
                f"Models can't be kept at {place}.",
                field="models_url",
                accepted="a folder, s3://bucket/folder, gs://bucket/folder or "
                "az://container/folder in SFUMATO_MODELS_URL",
            )
        given = dict(options or {})
        client: dict[str, Any] = dict(_TIMEOUTS)
        if "allow_http" in given:
            client["allow_http"] = given.pop("allow_http") == "true"
        try:
            store = from_url(url, config=given, client_options=client, retry_config=_RETRY_LIMITS)  # type: ignore[call-overload]  # typed by scheme
        except (BaseError, ValueError) as error:
            raise StartupRefused(
                f"The models' bucket {place} can't be opened ({type(error).__name__}): its "
                "settings or the cloud's credentials are incomplete.",
                field="models_url",
            ) from None
        return cls(store, place)

    # -- blocking ------------------------------------------------------------------------------

    def list(self) -> dict[str, ModelFile]:
        """Every object, by its path below the URL. Raises as :meth:`translated` tells."""
        try:
            return {
                entry["path"]: ModelFile(
                    entry["path"],
                    entry["size"],
                    version=entry["e_tag"] or str(entry["last_modified"].timestamp()),
                )
                for chunk in obstore.list(self._store)
                for entry in chunk
            }
        except (BaseError, OSError) as error:
            raise self.translated(error, "list it") from None

    def read_now(self, key: str, start: int, end: int) -> bytes:
        try:
            return obstore.get_range(self._store, key, start=start, end=end).to_bytes()
        except (BaseError, OSError) as error:
            raise self.translated(error, f"read {key}") from None

    # -- asynchronous --------------------------------------------------------------------------

    async def read(self, key: str, start: int, end: int, *, version: str = "") -> bytes:
        """A range of an object.

        Raises ``ModelUnusable`` when it has another ``version`` by now, or is gone.
        """
        options: dict[str, Any] = {"range": (start, end)}
        if version.startswith('"'):
            options["if_match"] = version
        try:
            found = await obstore.get_async(self._store, key, options=options)  # type: ignore[arg-type]  # a TypedDict
            return (await found.bytes_async()).to_bytes()
        except PreconditionError:
            raise ModelUnusable(f"{key} was replaced while it was copied.") from None
        except (BaseError, OSError) as error:
            translated = self.translated(error, f"read {key}")
            if isinstance(translated, NotFound):
                raise ModelUnusable(f"{key} is no longer in {self.place}.") from None
            raise translated from None

    async def put(self, key: str, data: bytes) -> None:
        try:
            await obstore.put_async(self._store, key, data, use_multipart=False)
        except (BaseError, OSError) as error:
            raise self.translated(error, f"store {key}") from None

    async def upload(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Store an object of any size, in parts; it is there whole or not at all."""
        try:
            await obstore.put_async(
                self._store,
                key,
                pieces,
                use_multipart=True,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS,
            )
        except (BaseError, OSError) as error:
            raise self.translated(error, f"store {key}") from None

    async def delete(self, key: str) -> None:
        """One that is gone already is fine."""
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise self.translated(error, f"delete {key}") from None

    async def download_url(self, key: str, *, expires: float) -> str | None:
        """A URL from which anybody can read the object for ``expires`` seconds; None where the
        store has no such thing."""
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        try:
            return await obstore.sign_async(self._store, "GET", key, timedelta(seconds=expires))
        except BaseError as error:
            raise self.translated(error, f"sign a URL of {key}") from None

    def translated(self, error: Exception, aim: str) -> SfumatoError:
        """An error of ours for one of obstore's, whose own text may hold keys and signatures."""
        text = str(error)
        status = re.search(r"status: (\d{3})", text)
        number = int(status[1]) if status else 0
        if "NoSuchBucket" in text or "ContainerNotFound" in text:
            return StartupRefused(
                f"The bucket of {self.place} does not exist, or these credentials don't see it: "
                f"can't {aim}. Make it, or set SFUMATO_MODELS_URL to the right one.",
                field="models_url",
            )
        if isinstance(error, FileNotFoundError):
            return NotFound(f"{self.place} has no such object: can't {aim}.")
        refused = isinstance(error, PermissionDeniedError | UnauthenticatedError)
        if refused or number in (401, 403):
            return StartupRefused(
                f"{self.place} refuses these credentials, or they lack a permission: can't {aim}. "
                "Models need to be listed and read; `sfumato models add` and `remove` also write "
                "and delete.",
                field="models_url",
            )
        if number == 507 or "os error 28" in text:
            return StorageFull(f"{self.place} takes no more: can't {aim}.")
        if isinstance(error, AlreadyExistsError):
            return Unavailable(f"{self.place} is being written by somebody else: can't {aim}.")
        reason = f"HTTP status {number}" if number else "no connection"
        return Unavailable(
            f"{self.place} does not answer as it should ({reason}): can't {aim}. If that stays so, "
            "look at SFUMATO_MODELS_URL, SFUMATO_S3_ENDPOINT and the network."
        )
