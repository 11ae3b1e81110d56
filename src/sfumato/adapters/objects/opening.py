"""From a URL to a store of obstore's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from sfumato.core.errors import StartupRefused

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

_SCHEMES = ("file", "s3", "gs", "az", "memory")

#: Options of the connection, which obstore takes apart from those of the store.
_CONNECTION_OPTIONS = {
    "allow_http",
    "allow_invalid_certificates",
    "connect_timeout",
    "proxy_ca_certificate",
    "proxy_url",
    "timeout",
}

#: A picture cost seconds of a GPU, so a bucket gets half a minute to come back.
PATIENT: RetryConfig = {
    "max_retries": 12,
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=4),
        "base": 2,
    },
    "retry_timeout": timedelta(seconds=30),
}
#: A person waits for a start; what is wrong then is a setting more often than the network.
BRISK: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=5)}


def open_folder(folder: Path) -> LocalStore:
    """Raises ``StartupRefused`` for a folder that cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupRefused(
            f"The folder for pictures, {folder}, cannot be made: {error.strerror}.",
            field="images_url",
            accepted="a folder that may be written",
        ) from error
    return LocalStore(folder, automatic_cleanup=True)


def open_bucket(url: str, options: Mapping[str, str], retries: RetryConfig) -> ObjectStore:
    """Raises ``StartupRefused`` for an unknown scheme or option."""
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise StartupRefused(
            f"Pictures cannot be kept at {scheme}://.",
            field="images_url",
            accepted=[f"{known}://" for known in _SCHEMES],
        )
    if scheme == "memory":
        return MemoryStore()
    try:
        return from_url(  # type: ignore[call-overload, no-any-return]  # typed by scheme
            url,
            config={k: v for k, v in options.items() if k not in _CONNECTION_OPTIONS},
            client_options={k: v for k, v in options.items() if k in _CONNECTION_OPTIONS},
            retry_config=retries,
        )
    except (BaseError, ValueError) as error:
        # Its text may quote an option's value; the names are enough to find the mistake.
        raise StartupRefused(
            f"The object store {without_secrets(url)} refuses its settings "
            f"({type(error).__name__}; given: {', '.join(sorted(options)) or 'none'}).",
            field="images_url",
            accepted="obstore's options for this scheme",
        ) from None


def local_folder(url: str | Path) -> Path | None:
    if isinstance(url, str):
        parts = urlsplit(url)
        if parts.scheme == "file":
            return Path(url2pathname(parts.path)).absolute()
        if "://" in url:
            return None
    return Path(url).absolute()


def without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
