"""Pictures, recipes and checkpoints in a local folder, S3, GCS or Azure, through obstore.

The services put and get by key; ``sfumato.bootstrap`` makes the store from a URL:

================================== =============================================
``/srv/sfumato``, ``file:///srv``  a local folder, made when it is missing
``s3://bucket/prefix``             S3 and whatever speaks its protocol
``gs://bucket/prefix``             Google Cloud Storage
``az://container/prefix``          Azure Blob Storage
``memory://``                      this process, until it ends
================================== =============================================
"""

from sfumato.adapters.objects.store import ObjectImageStore

__all__ = ["ObjectImageStore"]
