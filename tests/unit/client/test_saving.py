"""Writing pictures without ever losing what was there."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sfumato.client import ImageInfo
from sfumato.client.files import numbered, write_file
from sfumato.client.results import Image


def test_a_file_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "castle.png"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_file(path, b"new", overwrite=False)
    assert path.read_bytes() == b"mine"


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    link = tmp_path / "castle.png"
    link.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(FileExistsError):
        write_file(link, b"new", overwrite=False)
    assert not (tmp_path / "elsewhere.png").exists()


def test_overwriting_replaces_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "castle.png"
    path.write_bytes(b"mine")
    write_file(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The kernel refuses to let a file of this process grow beyond ``size`` bytes."""
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    on_excess = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        signal.signal(signal.SIGXFSZ, on_excess)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_write_that_fails_leaves_no_half_of_a_file(tmp_path: Path, overwrite: bool) -> None:
    with files_limited_to(1000), pytest.raises(OSError, match="File too large"):
        write_file(tmp_path / "castle.png", bytes(2000), overwrite=overwrite)
    assert list(tmp_path.iterdir()) == []


def test_several_pictures_are_numbered_before_the_extension() -> None:
    assert numbered(Path("a/castle.png"), 1) == [Path("a/castle.png")]
    assert numbered(Path("a/castle.png"), 2) == [Path("a/castle-1.png"), Path("a/castle-2.png")]


@pytest.mark.parametrize(
    ("media_type", "name"),
    [("image/png", "c.png"), ("image/jpeg", "c.jpg"), ("image/webp", "c.webp")],
)
def test_a_name_without_an_extension_gets_the_pictures_own(
    tmp_path: Path, media_type: str, name: str
) -> None:
    info = ImageInfo(
        index=0, url="", media_type=media_type, width=8, height=8, size_bytes=1, sha256="", seed=7
    )
    assert Image(info, b"x").save(tmp_path / "c") == tmp_path / name
    assert Image(info, b"x").save(tmp_path / "d.bin").name == "d.bin"
