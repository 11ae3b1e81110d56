"""HTTP: the native API, and dialects translated to the one job model."""
