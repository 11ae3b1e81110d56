"""Sfumato: pictures from prompts, on GPUs that exist only while they are needed."""

__version__ = "0.1.0"
