from sfumato.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]

__version__: str
