"""How the core's methods are recorded: what they are refused, how they fail, and the keys they use."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.audit.events import INITIALIZE, LOGIN, NOBODY, NONE
from ferrohsm.audit.tokens import result_of
from ferrohsm.errors import BufferTooSmall
from ferrohsm.typed import TYPE_CHECKING, Any, Callable, TypeVar, cast

if TYPE_CHECKING:
    from ferrohsm.sessions import Session

Method = TypeVar("Method", bound=Callable[..., Any])


def recorded(event: int = 0, *, name: str = "", ready: bool = True) -> Callable[[Method], Method]:
    """Record what a method of the core (session, arguments …) is refused and how it fails.

    With `event` it uses a key: its first identity is the key, its mechanism the first argument that has a
    type, and every end is recorded. With `ready` it does not start when what it does could not be recorded.
    """

    def wrap(method: Method) -> Method:
        called = name or method.__name__

        async def call(self: Any, session: Session, *arguments: Any, **named: Any) -> Any:
            audit = session.token.audit
            try:
                if ready:
                    audit.ready()
                result = await method(self, session, *arguments, **named)
            except BufferTooSmall:
                raise
            except Exception as error:
                audit.failed(error, session.handle, called, event, **_facts(session, arguments))
                raise
            if event:
                facts = _facts(session, arguments)
                try:
                    audit.used(event, session.handle, facts["object"], facts["mechanism"])
                except BaseException:
                    await _take_back(session, result)
                    raise
            return result

        call.__name__, call.__doc__ = method.__name__, method.__doc__
        return cast("Method", call)

    return wrap


async def _take_back(session: Session, result: Any) -> None:
    """Destroy the keys of a result whose use of a key cannot be recorded: nobody is told of them."""
    from ferrohsm import log

    result = getattr(result, "keys", result)
    for oid in result if isinstance(result, tuple) else (result,):
        if not isinstance(oid, int):
            continue
        try:
            await session.token.objects.take_back(oid)
        except Exception as error:
            log.failure("a key whose making cannot be recorded could not be destroyed", error)


def _facts(session: Session, arguments: tuple[Any, ...]) -> dict[str, Any]:
    mechanism, key = NONE, b""
    if len(arguments) > 1 and hasattr(arguments[1], "type"):
        arguments = arguments[1:]  # the first one is the function's flag
    for argument in arguments:
        kind = getattr(argument, "type", None)
        if isinstance(kind, int):
            mechanism = kind
            continue
        first = argument[0] if isinstance(argument, tuple) and argument else argument
        if isinstance(first, int):
            key = session.token.objects.known_id(first)
            break
    return {"mechanism": mechanism, "object": key}


def recorded_login(event: int) -> Callable[[Method], Method]:
    """Record a method of a token that is about a login or a PIN, however it ends.

    Its arguments are looked at for a session and a user only; the PINs are not touched.
    """

    def wrap(method: Method) -> Method:
        async def call(self: Any, *arguments: Any) -> None:
            audit = self.audit
            session = next((a.handle for a in arguments if hasattr(a, "handle")), 0)
            user = next((a for a in arguments if isinstance(a, int)), self.login_state)
            if user is None:
                user = ck.CKU_SO if event == INITIALIZE else ck.CKU_USER
            who = user if user in (ck.CKU_SO, ck.CKU_USER) else NOBODY
            audit.ready()
            try:
                await method(self, *arguments)
            except Exception as error:
                audit.note(event, session, user=who, result=result_of(error))
                error.audited = True  # type: ignore[attr-defined]
                raise
            try:
                audit.note(event, session, user=who)
            except BaseException:
                if event == LOGIN:
                    await self.logout()
                raise

        call.__name__, call.__doc__ = method.__name__, method.__doc__
        return cast("Method", call)

    return wrap
