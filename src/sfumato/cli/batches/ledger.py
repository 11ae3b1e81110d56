"""``results.jsonl`` in a batch's folder: what became of each line, so that a second run goes on.

Its first line names the batch, from which the idempotency keys are made: the same file drawn into
another folder is drawn anew. Each further line is one outcome, on disk before the next begins.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sfumato.core.errors import Conflict, InvalidRequest

NAME = "results.jsonl"


class Ledger:
    """Open it with :meth:`held`.

    Attributes:
        path: of the file.
        batch: the batch's own name, made up with the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._folder = folder
        self._records: dict[str, Mapping[str, Any]] = {}
        self.batch = self._read() or self._begin()
        self._end_torn_line()

    @classmethod
    @contextmanager
    def held(cls, folder: Path) -> Iterator[Ledger]:
        """The ledger of a folder, which no other command writes meanwhile.

        Raises:
            Conflict: another one does.
            InvalidRequest: there is a file of the name that is none of ours.
            OSError: it can't be written.
        """
        try:
            with FileLock(folder / ".batch.lock", timeout=0):
                yield cls(folder)
        except Timeout:
            raise Conflict(f"Another batch is being drawn into {folder}.") from None

    def done(self, identity: str) -> bool:
        """Whether a line was drawn before, and its files are still there."""
        record = self._records.get(identity)
        if record is None or record["status"] != "succeeded":
            return False
        return all((self._folder / file["name"]).exists() for file in record["files"])

    def record(self, identity: str, **outcome: Any) -> None:
        """Keep what became of a line. Once this returns, it is on disk."""
        record = {"id": identity, **outcome}
        self._append(record)
        self._records[identity] = record

    def _read(self) -> str | None:
        """The batch's name; None: there is no file yet, or nothing in it."""
        if not self.path.exists():
            return None
        batch = None
        for text in self.path.read_bytes().splitlines():
            try:
                record = json.loads(text)
            except ValueError:
                continue  # the last line of a run that was killed while it wrote
            if batch is None:
                if not isinstance(record, dict) or not isinstance(record.get("batch"), str):
                    raise InvalidRequest(
                        f"{self.path} is there, but is not what a batch wrote.",
                        field="--out",
                        accepted="another folder",
                    )
                batch = record["batch"]
            else:
                self._records[record["id"]] = record
        return batch

    def _begin(self) -> str:
        batch = secrets.token_hex(16)
        self._append({"batch": batch})
        return batch

    def _end_torn_line(self) -> None:
        if not self.path.read_bytes().endswith(b"\n"):
            self._append(None)

    def _append(self, record: Mapping[str, Any] | None) -> None:
        text = "" if record is None else json.dumps(record, ensure_ascii=False)
        with self.path.open("ab") as file:
            file.write(f"{text}\n".encode())
            file.flush()
            os.fsync(file.fileno())
