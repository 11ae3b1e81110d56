"""The job model: pure Python, no I/O, no vendor imports."""
