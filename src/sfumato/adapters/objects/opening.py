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
    from obstore.store import BackoffConfig, ObjectStore, RetryConfig

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

#: Seconds for which a bucket that does not answer is asked again. A picture cost a GPU's time.
PATIENCE = 30.0
#: The same for a start, which a person watches, and where a setting is wrong more often than the
#: network.
START_PATIENCE = 3.0


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


def open_bucket(url: str, options: Mapping[str, str], patience: float) -> ObjectStore:
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
            retry_config=_retries(patience),
        )
    except (BaseError, ValueError) as error:
        # Its text may quote an option's value; the names are enough to find the mistake.
        raise StartupRefused(
            f"The object store {without_secrets(url)} refuses its settings "
            f"({type(error).__name__}; given: {', '.join(sorted(options)) or 'none'}).",
            field="images_url",
            accepted="obstore's options for this scheme",
        ) from None


def _retries(patience: float) -> RetryConfig:
    """Pauses are drawn at random between the first and ``base`` times the last."""
    backoff: BackoffConfig = {
        "init_backoff": timedelta(seconds=0.1),
        "max_backoff": timedelta(seconds=3),
        "base": 3,
    }
    limit = timedelta(seconds=patience)
    return {"max_retries": 1000, "backoff": backoff, "retry_timeout": limit}


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
