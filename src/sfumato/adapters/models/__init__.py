"""Models on disk and in buckets: which there are, and how their files come to a worker."""

from sfumato.adapters.models.folders import FolderModelCatalog

__all__ = ["FolderModelCatalog"]
