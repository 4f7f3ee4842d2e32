"""Fixtures: tokens, and small or read-only file systems (these need root; in CI it must be there)."""

from store_fixtures import free, mount, token

__all__ = ["free", "mount", "token"]
