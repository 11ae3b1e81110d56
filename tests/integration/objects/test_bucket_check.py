"""A service must not start with a bucket that it can't use: the check says which setting is wrong."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.bootstrap.doctor import doctor
from sfumato.bootstrap.parts import open_parts
from sfumato.core.errors import StartupRefused
from sfumato.settings import Settings
from tests.support.servers import S3


async def refusal(url: str, options: dict[str, str]) -> str:
    with pytest.raises(StartupRefused) as caught:
        await ObjectImageStore(url, options=options).check()
    assert caught.value.field == "images_url"
    assert caught.value.__suppress_context__
    return caught.value.message


async def test_a_usable_bucket_is_left_as_it_was(s3_server: S3, s3_bucket: str) -> None:
    await ObjectImageStore(f"s3://{s3_bucket}/prefix", options=s3_server.options).check()
    async with s3_server.client() as client:
        assert (await client.list_objects_v2(Bucket=s3_bucket))["KeyCount"] == 0


async def test_a_missing_bucket(s3_server: S3) -> None:
    message = await refusal("s3://no-such-bucket", s3_server.options)
    assert "s3://no-such-bucket" in message
    assert "NoSuchBucket" in message
    assert "SFUMATO_IMAGES_URL" in message


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"access_key_id": "nobody"}, "InvalidAccessKeyId"),
        ({"secret_access_key": "HIDDEN-SECRET"}, "SignatureDoesNotMatch"),
    ],
)
async def test_a_wrong_key(s3_server: S3, s3_bucket: str, wrong: dict[str, str], code: str) -> None:
    message = await refusal(f"s3://{s3_bucket}", {**s3_server.options, **wrong})
    assert code in message
    assert "AWS_SECRET_ACCESS_KEY" in message
    assert "HIDDEN" not in message


async def test_a_missing_permission(s3_server: S3, s3_bucket: str) -> None:
    key, secret = s3_server.reader
    reader = {**s3_server.options, "access_key_id": key, "secret_access_key": secret}
    message = await refusal(f"s3://{s3_bucket}", reader)
    assert "attempt to write" in message
    assert "s3:PutObject" in message


async def test_a_wrong_endpoint(s3_server: S3, s3_bucket: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        message = await refusal(f"s3://{s3_bucket}", {**s3_server.options, "endpoint": endpoint})
    assert "Connection refused" in message
    assert "SFUMATO_S3_ENDPOINT" in message


async def test_a_server_that_is_no_s3(s3_server: S3, aws_endpoint: str) -> None:
    """An address of something else that speaks HTTP, as a user's mistyped port."""
    elsewhere = {**s3_server.options, "endpoint": f"{aws_endpoint}/moto-api"}
    assert "SFUMATO_S3_ENDPOINT" in await refusal("s3://pictures", elsewhere)


async def test_a_folder_is_made_and_found_usable(tmp_path: Path) -> None:
    await ObjectImageStore(tmp_path / "pictures").check()
    assert list((tmp_path / "pictures").iterdir()) == []


@pytest.fixture
def settings(
    tmp_path: Path, s3_server: S3, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """As a user sets it: the address by a setting of ours, credentials as for the cloud's tools."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return Settings(
        data=tmp_path, images_url=f"s3://{s3_bucket}/pictures", s3_endpoint=s3_server.endpoint
    )


async def test_the_service_opens_a_bucket(settings: Settings) -> None:
    async with open_parts(settings) as parts:
        await parts.images.put("jobs/a/0.png", b"x", media_type="image/png")
        assert (await parts.images.get("jobs/a/0.png")).data == b"x"


async def test_nothing_starts_without_its_bucket(settings: Settings) -> None:
    wrong = settings.model_copy(update={"images_url": "s3://no-such-bucket"})
    with pytest.raises(StartupRefused, match="no-such-bucket"):
        async with open_parts(wrong):
            raise AssertionError


def test_the_doctor_looks_at_the_bucket(settings: Settings) -> None:
    [found] = [finding for finding in doctor(settings) if finding.name == "pictures"]
    assert (found.value, found.problem) == (settings.images_url, None)
    wrong = settings.model_copy(update={"images_url": "s3://no-such-bucket"})
    [found] = [finding for finding in doctor(wrong) if finding.name == "pictures"]
    assert "NoSuchBucket" in (found.problem or "")
