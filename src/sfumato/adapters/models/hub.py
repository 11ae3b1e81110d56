"""Models on the Hugging Face hub, read only when the user names one.

``huggingface_hub`` knows the addresses, the token and the list of files; the files themselves are
read in ranges like those of any other source, and checked against the digests that the hub tells.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from sfumato.adapters.models.http_source import HttpSource
from sfumato.core.errors import InvalidRequest, NotFound, Unavailable
from sfumato.core.models import ModelFile

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


class HubTree:
    """Implements :class:`sfumato.adapters.models.trees.Tree` over a repository.

    Args:
        address: ``owner/name``, with ``/path.safetensors`` or ``@revision`` behind it.

    Raises:
        NotFound: no such repository, revision or file, or none that this token may see.
        InvalidRequest: that is no address; ``huggingface_hub`` is not installed.
        Unavailable: the hub does not answer, or is not to be asked.
    """

    def __init__(self, address: str) -> None:
        bare, _, revision = address.partition("@")
        parts = bare.split("/", 2)
        if len(parts) < 2 or not all(parts):
            raise InvalidRequest(f"hf:{address} names no repository.", accepted="hf:owner/name")
        self.name = parts[1]
        self.file = parts[2] if len(parts) == 3 else None
        self._repository = "/".join(parts[:2])
        self._hub = _hub()
        info = self._ask(revision or None)
        self._revision = str(info.sha)
        self.files: Mapping[str, ModelFile] = {
            sibling.rfilename: ModelFile(
                sibling.rfilename,
                int(sibling.size or 0),
                sha256=str(sibling.lfs.sha256) if sibling.lfs else "",
            )
            for sibling in info.siblings or ()
        }
        self._headers = dict(self._hub.utils.build_hf_headers(library_name="sfumato"))

    def read(self, path: str, start: int, end: int) -> bytes:
        end = min(end, self.files[path].size_bytes)
        if start >= end:
            return b""
        headers = {**self._headers, "Range": f"bytes={start}-{end - 1}"}
        try:
            response = httpx.get(
                self._url(path), headers=headers, timeout=_TIMEOUT, follow_redirects=True
            )
        except httpx.HTTPError as error:
            raise self._silent(error) from None
        if response.status_code not in (200, 206):
            raise Unavailable(f"The hub answers HTTP {response.status_code} for {path}.")
        return response.content[: end - start]

    @contextlib.asynccontextmanager
    async def source(self) -> AsyncIterator[HttpSource]:
        async def url_of(file: ModelFile, _renew: bool) -> str:  # noqa: FBT001
            return self._url(file.path)

        # httpx takes the token out of a request that is led to another host.
        async with httpx.AsyncClient(
            headers=self._headers, timeout=_TIMEOUT, follow_redirects=True
        ) as client:
            yield HttpSource(client, url_of)

    def _url(self, path: str) -> str:
        return str(self._hub.hf_hub_url(self._repository, path, revision=self._revision))

    def _ask(self, revision: str | None) -> Any:
        errors = self._hub.errors
        try:
            return self._hub.HfApi().model_info(
                self._repository, revision=revision, files_metadata=True, timeout=30.0
            )
        except errors.GatedRepoError:
            raise InvalidRequest(
                f"{self._repository} asks for its license to be accepted first: do so on its page, "
                "and log in with `hf auth login` or HF_TOKEN."
            ) from None
        except errors.RepositoryNotFoundError:
            raise NotFound(
                f"The hub has no model {self._repository!r}, or not for whom you are logged in as."
            ) from None
        except errors.RevisionNotFoundError:
            raise NotFound(f"{self._repository} has no revision {revision!r}.") from None
        except errors.HFValidationError:
            raise InvalidRequest(
                f"{self._repository!r} is no repository's name.", accepted="hf:owner/name"
            ) from None
        except errors.OfflineModeIsEnabled:
            raise Unavailable(
                "The hub is not to be asked while HF_HUB_OFFLINE is set. Unset it, or give a "
                "folder or file of this machine."
            ) from None
        except Exception as error:  # noqa: BLE001 - of the HTTP library that its version uses
            raise self._silent(error) from None

    def _silent(self, error: Exception) -> Unavailable:
        return Unavailable(
            f"The hub does not answer ({type(error).__name__}); nothing was copied. Is this "
            "machine online? HF_ENDPOINT names another address."
        )


def _hub() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415 - comes with the engine, and takes a moment
        import huggingface_hub.errors  # noqa: PLC0415
        import huggingface_hub.utils  # noqa: PLC0415
    except ImportError:
        raise InvalidRequest(
            "hf: needs the package huggingface_hub, which comes with sfumato[engine]."
        ) from None
    return huggingface_hub
