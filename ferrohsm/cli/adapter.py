"""``ferrohsm adapter``: the plugins that keep keys."""

from __future__ import annotations

from ferrohsm.cli import adapter_check, adapter_new
from ferrohsm.cli.parser import Nouns, noun


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "adapter", "adapters: what keeps a slot's keys")
    adapter_check.register(verbs)
    adapter_new.register(verbs)
