"""Batch files: many requests, a line each, into one folder that remembers what is done."""
