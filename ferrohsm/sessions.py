"""A session as the core knows it (PKCS#11 3.2, "Session management functions")."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrohsm.tokens import Token


class Session:
    """An open session: its token, whether it may write, and the objects that die with it."""

    __slots__ = ("handle", "objects", "read_write", "token")

    def __init__(self, token: Token, handle: int, read_write: bool) -> None:
        self.token = token
        self.handle = handle
        self.read_write = read_write
        self.objects: set[int] = set()

    def __repr__(self) -> str:
        """Name the session."""
        return f"<Session {self.handle} on slot {self.token.id}>"

    @property
    def state(self) -> int:
        """The ``CKS_*`` of the session, which all sessions of a token share but for reading and writing."""
        login = self.token.login_state
        if login == ck.CKU_SO:
            return ck.CKS_RW_SO_FUNCTIONS
        if login == ck.CKU_USER:
            return ck.CKS_RW_USER_FUNCTIONS if self.read_write else ck.CKS_RO_USER_FUNCTIONS
        return ck.CKS_RW_PUBLIC_SESSION if self.read_write else ck.CKS_RO_PUBLIC_SESSION
