"""The keys that one derivation makes beside its first one, as the backend is asked for them (SP 800-108)."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, sizeof

from ferrohsm_adapters.pkcs11_bridge.cryptoki import ULONG, DerivedKey, Template

_UNTOUCHED = ULONG(-1).value


class FurtherKeys:
    """A ``CK_DERIVED_KEY`` array: keys that one derivation makes beside the first one (SP 800-108)."""

    def __init__(self, templates: Sequence[Template]) -> None:
        self.count = len(templates)
        self._templates = templates
        self._handles = (ULONG * max(self.count, 1))(*[_UNTOUCHED] * self.count)
        self.array = (DerivedKey * max(self.count, 1))()
        for place, (key, template) in enumerate(zip(self.array, templates, strict=False)):
            key.template, key.count = addressof(template.array), template.count
            key.handle = addressof(self._handles) + place * sizeof(ULONG)

    def handles(self) -> list[int]:
        """Return the keys that were made; 0 for one that was not."""
        return [0 if handle == _UNTOUCHED else handle for handle in self._handles[: self.count]]

    def wrong(self) -> int | None:
        """Return the number of the template that the module says was wrong, None when it does not say."""
        zeros = [place for place, handle in enumerate(self._handles[: self.count]) if handle == 0]
        return zeros[0] if len(zeros) == 1 else None
