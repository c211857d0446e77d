"""Rewrites of a freshly read float graph: what the translation of single nodes leaves behind. Start at pipeline.py."""
