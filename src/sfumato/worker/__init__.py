"""Drives any ImageEngine; imports no torch."""
