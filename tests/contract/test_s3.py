"""A bucket of a real S3 server keeps the contract of the image store."""

from __future__ import annotations

import pytest

from sfumato.adapters.objects import ObjectImageStore
from tests.contract.image_store import ImageStoreContract
from tests.support.servers import S3


class TestInABucket(ImageStoreContract):
    signs = True

    @pytest.fixture
    async def images(self, s3_server: S3, s3_bucket: str) -> ObjectImageStore:
        return ObjectImageStore(f"s3://{s3_bucket}/prefix", options=s3_server.options)
