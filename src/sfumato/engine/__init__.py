"""Turns requests into pixels; the only code that imports torch."""
