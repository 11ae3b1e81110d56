"""The chaos run: many jobs, while everything that can be broken is broken.

``python -m tests.chaos`` is what ``make chaos`` runs; ``tests/system/test_chaos.py`` is the short one.
"""
