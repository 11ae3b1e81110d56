from __future__ import annotations

import pytest

from sfumato.adapters.models.store import ModelStore
from tests.support.servers import S3


def options_of(server: S3) -> dict[str, str]:
    return {
        "endpoint": server.endpoint,
        "access_key_id": server.access_key,
        "secret_access_key": server.secret_key,
        "region": server.region,
        "allow_http": "true",
    }


@pytest.fixture
def options(s3_server: S3) -> dict[str, str]:
    """How the S3 server is reached."""
    return options_of(s3_server)


@pytest.fixture
def bucket_url(s3_bucket: str) -> str:
    return f"s3://{s3_bucket}/models"


@pytest.fixture
def store(bucket_url: str, options: dict[str, str]) -> ModelStore:
    """An empty folder of a bucket on a real S3 server."""
    return ModelStore.open(bucket_url, options)
