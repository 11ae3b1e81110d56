"""Wire APIs that other software already speaks, each only a translation."""
