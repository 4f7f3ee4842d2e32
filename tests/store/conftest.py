"""Fixtures: an empty directory of tokens, and a token that the user is logged in to."""

from store_fixtures import free, token

__all__ = ["free", "token"]
