"""Pictures in a bucket: streamed by the service, or read from the bucket itself."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from sfumato.adapters.objects import ObjectImageStore
from sfumato.api.app import create_app
from tests.integration.api.serving import ask, context_of
from tests.support.parts import House
from tests.support.servers import S3


async def test_a_caller_is_sent_to_the_bucket_if_it_wants(s3_server: S3, s3_bucket: str) -> None:
    house = House(images=ObjectImageStore(f"s3://{s3_bucket}", options=s3_server.options))
    async with house.watcher, house.working(), ask(create_app(context_of(house))) as http:
        job = await house.finished(await house.submit())
        path = f"/v1/jobs/{job.id}/images/0"

        streamed = await http.get(path)
        assert streamed.status_code == 200

        sent = await http.get(path, params={"redirect": 1})
        assert sent.status_code == 307
        assert sent.headers["Cache-Control"] == "no-store"
        place = sent.headers["Location"]
        assert urlsplit(place).path == f"/{s3_bucket}/jobs/{job.id}/0.png"
        async with httpx.AsyncClient(trust_env=False) as anybody:
            found = await anybody.get(place)
        assert (found.content, found.headers["Content-Type"]) == (streamed.content, "image/png")
        assert "immutable" in found.headers["Cache-Control"]

        head = await http.head(path, params={"redirect": 1})
        assert (head.status_code, head.headers["ETag"]) == (200, streamed.headers["ETag"])
        assert (await http.get(path[:-1] + "7", params={"redirect": 1})).status_code == 404
