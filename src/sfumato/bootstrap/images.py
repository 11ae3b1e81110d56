"""Where pictures are kept, by settings."""

from __future__ import annotations

from sfumato.adapters.objects import ObjectImageStore
from sfumato.settings import Settings


def open_images(settings: Settings) -> ObjectImageStore:
    """Nothing is asked of the place yet; ``check`` does that."""
    url = settings.resolved_images_url
    return ObjectImageStore(url, options=bucket_options(url, settings))


def bucket_options(url: str, settings: Settings) -> dict[str, str]:
    """What a bucket's client is told beside its URL; credentials it finds by itself."""
    endpoint = settings.s3_endpoint
    if endpoint is None or not url.startswith("s3://"):
        return {}
    plain = {"allow_http": "true"} if endpoint.startswith("http://") else {}
    # The bucket stands in the path: few servers have a name for each.
    return {"endpoint": endpoint, "virtual_hosted_style_request": "false", **plain}
