"""Pictures in a folder: atomic, durable, and honest about a full disk."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sfumato.adapters.objects import ObjectImageStore
from sfumato.core.errors import InvalidRequest, NotFound, StartupRefused, Unavailable


@pytest.fixture
def store(tmp_path: Path) -> ObjectImageStore:
    return ObjectImageStore(tmp_path / "objects")


def files_below(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("key", "media_type"),
    [
        ("jobs/a/0.png", "image/png"),
        ("jobs/a/0.jpg", "image/jpeg"),
        ("jobs/a/0.webp", "image/webp"),
        ("jobs/a/a.json", "application/json"),
        ("jobs/a/checkpoint/0", "application/octet-stream"),
    ],
)
async def test_the_extension_tells_the_media_type(
    store: ObjectImageStore, key: str, media_type: str
) -> None:
    await store.put(key, b"data", media_type=media_type)
    assert (await store.get(key)).media_type == media_type


async def test_a_file_url_names_the_same_folder(tmp_path: Path) -> None:
    folder = tmp_path / "with space"
    await ObjectImageStore(folder.as_uri()).put("a/0.png", b"x", media_type="image/png")
    assert (await ObjectImageStore(folder).get("a/0.png")).data == b"x"


@pytest.mark.parametrize(
    "key", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/./b", "a\\b", "a\0b", "a/", "é"]
)
async def test_a_key_cannot_leave_the_folder(store: ObjectImageStore, key: str) -> None:
    with pytest.raises(InvalidRequest):
        await store.put(key, b"x", media_type="image/png")
    with pytest.raises(InvalidRequest):
        await store.get(key)


async def test_an_empty_prefix_does_not_delete_everything(store: ObjectImageStore) -> None:
    await store.put("jobs/a/0.png", b"x", media_type="image/png")
    with pytest.raises(InvalidRequest):
        await store.delete_prefix("")
    assert (await store.get("jobs/a/0.png")).data == b"x"


async def test_deleting_leaves_no_empty_folders(store: ObjectImageStore, tmp_path: Path) -> None:
    await store.put("jobs/a/checkpoint/0", b"x", media_type="application/octet-stream")
    await store.put("jobs/a/0.png", b"x", media_type="image/png")
    assert await store.delete_prefix("jobs/a/") == 2
    assert list((tmp_path / "objects").iterdir()) == []


async def test_readers_see_the_old_or_the_new_object_never_a_mixture(
    store: ObjectImageStore, tmp_path: Path
) -> None:
    versions = [bytes([n]) * 200_000 for n in range(8)]
    await store.put("a/0.png", versions[0], media_type="image/png")

    async def write() -> None:
        for version in versions:
            await store.put("a/0.png", version, media_type="image/png")

    writers = [asyncio.create_task(write()) for _ in range(3)]
    while not all(writer.done() for writer in writers):
        assert (await store.get("a/0.png")).data in versions
    await asyncio.gather(*writers)
    assert files_below(tmp_path / "objects") == {"a/0.png"}


async def test_put_returns_after_file_and_folders_are_synchronised(
    store: ObjectImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synchronised: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synchronised.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await store.put("jobs/a/0.png", b"x", media_type="image/png")
    root = tmp_path / "objects"
    expected = [root / "jobs/a/0.png", root / "jobs/a", root / "jobs", root]
    assert synchronised == [str(path) for path in expected]


async def test_what_cannot_be_synchronised_is_taken_back(
    store: ObjectImageStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(Unavailable, match="Input/output error"):
        await store.put("a/0.png", b"x", media_type="image/png")
    assert files_below(tmp_path / "objects") == set()


FULL_DISK = """
import asyncio, resource, signal, sys
from sfumato.adapters.objects import ObjectImageStore
from sfumato.core.errors import StorageFull

async def main():
    store = ObjectImageStore(sys.argv[1])
    await store.put("jobs/a/0.png", b"first", media_type="image/png")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    for key in ("jobs/a/0.png", "jobs/a/1.png"):
        try:
            await store.put(key, bytes(200_000), media_type="image/png")
        except StorageFull as error:
            print(error.message)
    print((await store.get("jobs/a/0.png")).data)

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_counts_as_a_full_disk(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    first, second, kept = ran.stdout.splitlines()
    assert "File too large" in first
    assert "jobs/a/1.png" in second
    assert kept == "b'first'"
    assert files_below(tmp_path) == {"jobs/a/0.png"}


def test_a_full_disk_keeps_what_was_stored(tmp_path: Path) -> None:
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    try:
        ran = subprocess.run(
            [sys.executable, "-c", FULL_DISK.replace("1000, 1000", "-1, -1"), str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        )
        first, _, kept = ran.stdout.splitlines()
        assert "No space left on device" in first
        assert kept == "b'first'"
        assert files_below(tmp_path) == {"jobs/a/0.png"}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_folder_that_cannot_be_made_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartupRefused, match="cannot be made"):
        ObjectImageStore(tmp_path / "file" / "objects")


async def test_a_missing_object_is_named(store: ObjectImageStore) -> None:
    with pytest.raises(NotFound, match=r"jobs/a/0\.png"):
        await store.get("jobs/a/0.png")
