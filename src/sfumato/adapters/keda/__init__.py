"""KEDA's external scaler: it is told the moment that a runtime has work."""

from sfumato.adapters.keda.server import serve_scaler

__all__ = ["serve_scaler"]
