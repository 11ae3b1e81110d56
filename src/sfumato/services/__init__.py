"""Use cases; the only writers of job state."""
