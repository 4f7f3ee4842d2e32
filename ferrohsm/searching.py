"""A search under way (PKCS#11 3.2, ``C_FindObjectsInit`` to ``C_FindObjectsFinal``)."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Template
from ferrohsm.attribute_kinds import FALSE, TRUE
from ferrohsm.attributes import matches, sensitive_types
from ferrohsm.errors import ObjectHandleInvalid
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrohsm.objects import ObjectRegistry
    from ferrohsm.tokens import Token

# Token objects that a search asks the store for at a time; clients like to take them one by one.
_SMALLEST_PAGE = 64
_LARGEST_PAGE = 1024


class Cursor:
    """A search under way: token objects by rising identity, then built-in and session objects.

    Token objects are asked for page by page; the others are listed when the search gets to them.
    """

    def __init__(self, token: Token, objects: ObjectRegistry, wanted: Template | None) -> None:
        self._token = token
        self._objects = objects
        self._wanted = wanted
        self._after = 0
        self._stored = wanted is not None
        self._here: list[int] | None = None
        self._ready: list[int] = []
        self._epoch = token.epoch
        hidden = sensitive_types()
        self._verify = any(attribute in hidden for attribute, _ in wanted or ())

    async def take(self, count: int) -> list[int]:
        """Return up to `count` more objects; fewer when there are no more."""
        await self._follow_login()
        while self._stored and len(self._ready) < count:
            self._ready += await self._page(count - len(self._ready))
        found = self._ready[:count]
        del self._ready[:count]
        if self._wanted is not None and len(found) < count:
            if self._here is None:
                self._here = self._objects.matching_here(self._wanted)
            rest = count - len(found)
            found += self._here[:rest]
            del self._here[:rest]
        return found

    async def _follow_login(self) -> None:
        """Leave out what was listed under a login that has ended since."""
        if self._epoch == self._token.epoch:
            return
        self._epoch = self._token.epoch
        self._ready = [oid for oid in self._ready if await self._matches(oid)]
        if self._here is not None:
            self._here = [oid for oid in self._here if await self._matches(oid)]

    async def _page(self, count: int) -> list[int]:
        wanted = asked(self._token, self._wanted or ())
        if wanted is None or not await self._token.is_initialized():
            self._stored = False
            return []
        limit = min(max(count, _SMALLEST_PAGE), _LARGEST_PAGE)
        page = await self._token.store.search(wanted, self._after, limit)
        if len(page) < limit:
            self._stored = False
        if page:
            self._after = page[-1]
        return [oid for oid in page if await self._matches(oid)] if self._verify else page

    async def _matches(self, oid: int) -> bool:
        """Look at the object itself: a value that is hidden must not be found by guessing it."""
        try:
            entry = await self._objects.hold(oid)
        except ObjectHandleInvalid:
            return False
        try:
            return matches(entry.attributes, entry.rules, self._wanted or ())
        finally:
            entry.release()

    def close(self) -> None:
        """End the search."""
        self._wanted, self._stored, self._ready = None, False, []


def asked(token: Token, form: Template) -> Template | None:
    """Return what to ask the store for: without a user's login, public token objects only."""
    wanted = dict(form)
    if wanted.pop(ck.CKA_TOKEN, TRUE) != TRUE:
        return None
    if not token.user_logged_in and wanted.setdefault(ck.CKA_PRIVATE, FALSE) != FALSE:
        return None
    return list(wanted.items())
