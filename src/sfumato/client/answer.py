"""What every answer of the service is read as."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """Fields that this version does not know are left out: a newer service may tell more."""

    model_config = ConfigDict(frozen=True, extra="ignore")
