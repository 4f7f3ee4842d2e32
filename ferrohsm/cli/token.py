"""``ferrohsm token``: makes tokens and looks after them."""

from __future__ import annotations

import argparse
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ferrohsm import constants as ck
from ferrohsm.audit import events
from ferrohsm.cli import pins
from ferrohsm.cli.parser import Nouns, choose_token, destructive, noun, verb
from ferrohsm.cli.terminal import CommandError, Progress, confirm, note, printable, show, table
from ferrohsm.errors import PinLenRange

if TYPE_CHECKING:
    from ferrohsm.cli.service import Service, TokenView
    from ferrohsm.store.directory import TokenDirectory

_LABEL_BYTES = 32

_FLAGS = {
    "user_pin_set": ck.CKF_USER_PIN_INITIALIZED,
    "user_pin_count_low": ck.CKF_USER_PIN_COUNT_LOW,
    "user_pin_final_try": ck.CKF_USER_PIN_FINAL_TRY,
    "user_pin_locked": ck.CKF_USER_PIN_LOCKED,
    "so_pin_count_low": ck.CKF_SO_PIN_COUNT_LOW,
    "so_pin_final_try": ck.CKF_SO_PIN_FINAL_TRY,
    "so_pin_locked": ck.CKF_SO_PIN_LOCKED,
    "write_protected": ck.CKF_WRITE_PROTECTED,
}


def register(nouns: Nouns) -> None:
    """Add the noun and its verbs."""
    verbs = noun(nouns, "token", "make, list, rename, delete, unlock, back up and restore tokens")
    _register_init(verbs)
    verb(
        verbs,
        "list",
        "list the tokens",
        run_list,
        examples=[("ferrohsm token list --json", "for a script")],
    )
    rename = verb(verbs, "rename", "give a token another label", run_rename, more="Needs the SO PIN.")
    rename.add_argument("label", metavar="NEW_LABEL", type=label, help="the new label, up to 32 bytes")
    choose_token(rename)
    pins.add(rename, "so-pin", "SO PIN")
    delete = verb(
        verbs,
        "delete",
        "delete a token with all its objects",
        run_delete,
        more="Needs the SO PIN, or --force: whoever owns the files can delete them anyway.",
        examples=[("ferrohsm token delete --token old", "asks, and wants the SO PIN")],
    )
    choose_token(delete)
    destructive(delete)
    delete.add_argument("--force", action="store_true", help="without the SO PIN")
    pins.add(delete, "so-pin", "SO PIN")
    _register_pins(verbs)
    _register_backup(verbs)


def _register_init(verbs: Nouns) -> None:
    parser = verb(
        verbs,
        "init",
        "make a token, or make an existing one anew",
        run_init,
        more="Without --token or --slot a new token is made. With one of them that token is made anew:\n"
        "its objects are destroyed, which needs its SO PIN.",
        examples=[
            ("ferrohsm token init --label web", "asks for both PINs"),
            ("ferrohsm token init --label web --so-pin-file so --pin-env WEB_PIN", "in a script"),
        ],
    )
    parser.add_argument("--label", required=True, type=label, help="the token's label, up to 32 bytes")
    choose_token(parser)
    destructive(parser)
    parser.add_argument(
        "--no-pin", action="store_true", help="set no user PIN; ferrohsm token unlock does it later"
    )
    pins.add(parser, "so-pin", "SO PIN (security officer: unlocks the token and destroys it)")
    pins.add(parser, "pin", "user PIN (uses the keys)")


def _register_pins(verbs: Nouns) -> None:
    change = verb(
        verbs,
        "set-pin",
        "change the user PIN, or with --so the SO PIN",
        run_set_pin,
        examples=[("ferrohsm token set-pin --token web", "asks for the old and the new one")],
    )
    change.add_argument("--so", action="store_true", help="change the SO PIN")
    choose_token(change)
    pins.add(change, "pin", "the PIN as it is")
    pins.add(change, "new-pin", "the new PIN")
    unlock = verb(
        verbs,
        "unlock",
        "set a new user PIN with the SO PIN",
        run_unlock,
        more="Also sets the first user PIN of a token that has none. The objects stay.",
    )
    choose_token(unlock)
    pins.add(unlock, "so-pin", "SO PIN")
    pins.add(unlock, "new-pin", "the new user PIN")


def _register_backup(verbs: Nouns) -> None:
    backup = verb(
        verbs,
        "backup",
        "write a token to one file, while it is in use",
        run_backup,
        more="The file is consistent at one instant. It opens with the token's own PINs, so keep it as you\n"
        "would keep the token. Copying the token's directory while it is in use is no backup.",
        examples=[("ferrohsm token backup web.backup --token web", "")],
    )
    backup.add_argument("file", metavar="FILE", help="the file to write; it must not be there")
    choose_token(backup)
    restore = verb(
        verbs,
        "restore",
        "bring a token back from a backup",
        run_restore,
        more="The token has its old slot id, serial number, PINs and objects. A token that is still there\n"
        "is not replaced: delete it first.",
    )
    restore.add_argument("file", metavar="FILE", help="the file that backup wrote")


def label(text: str) -> str:
    """Check a label: 32 bytes at most, as ``CK_TOKEN_INFO`` holds, and printable."""
    if not text.strip() or not text.isprintable():
        raise argparse.ArgumentTypeError("a label is printable text that is not empty")
    if len(text.encode()) > _LABEL_BYTES:
        raise argparse.ArgumentTypeError(f"a label has at most {_LABEL_BYTES} bytes in UTF-8")
    return text.rstrip()


def shape(view: TokenView) -> dict[str, Any]:
    """Return the JSON shape of a token."""
    head = {
        "slot": view.slot,
        "label": view.label,
        "serial": view.serial,
        "free": view.free,
        "present": view.present,
    }
    return head | {name: bool(view.flags & flag) for name, flag in _FLAGS.items()}


def run_list(arguments: argparse.Namespace) -> None:
    """List tokens; the free slot and slots without a token too."""
    from ferrohsm.cli.service import service

    with service() as opened:
        views = opened.tokens()
        problems = [opened.config.data_problem] if opened.config.data_problem else []
        problems += [f"slot {section.name}: {problem}" for section, problem in opened.problems()]
    rows = [(view.slot, view.label, view.serial, _state(view)) for view in views]
    text = table(("SLOT", "LABEL", "SERIAL", "STATE"), rows) if rows else "no slots"
    text = "\n".join([text, *map(printable, problems)])
    show(arguments, {"tokens": [shape(view) for view in views]}, text)


def _state(view: TokenView) -> str:
    if not view.present:
        return "no token present; ferrohsm doctor says why"
    if view.free and view.flags & ck.CKF_WRITE_PROTECTED:
        return "write protected: no token can be made here"
    if view.free:
        return "free: the next token is made here"
    words = []
    if not view.flags & ck.CKF_USER_PIN_INITIALIZED:
        words.append("no user PIN")
    for name in (
        "user_pin_locked",
        "user_pin_final_try",
        "user_pin_count_low",
        "so_pin_locked",
        "write_protected",
    ):
        if view.flags & _FLAGS[name]:
            words.append(name.replace("_", " ").replace("pin", "PIN"))
    return ", ".join(words) or "ready"


def run_init(arguments: argparse.Namespace) -> None:
    """Make a token."""
    from ferrohsm.cli.service import service

    with service() as opened:
        if arguments.slot is None and arguments.token is None:
            view = opened.free()
            same = [other.serial for other in opened.tokens() if other.label == arguments.label]
            if same:
                serials = ", ".join(same)
                note(f"{arguments.label} is also the label of {serials}: name them by serial number")
        else:
            view = _existing(opened, arguments)
        with pins.secret(arguments, "so-pin", f"SO PIN for {arguments.label}", new=view.free) as so_pin:
            if arguments.no_pin:
                made = initialize(opened, view, arguments.label, so_pin, None)
            else:
                with pins.secret(arguments, "pin", f"User PIN for {arguments.label}", new=True) as pin:
                    made = initialize(opened, view, arguments.label, so_pin, pin)
    show(arguments, shape(made), f"token {made.name} is in slot {made.slot}, serial {made.serial}")


def _existing(opened: Service, arguments: argparse.Namespace) -> TokenView:
    free = next((view for view in opened.tokens() if view.free), None)
    if free is not None and free.slot == arguments.slot:
        return free
    view = opened.chosen(arguments)
    confirm(arguments, f"Make token {view.name} anew and destroy all its objects?")
    return view


def initialize(
    opened: Service, view: TokenView, name: str, so_pin: bytearray, pin: bytearray | None
) -> TokenView:
    """Make a token in the slot of `view`; both PINs are checked first, so none is left half made."""
    _check_length(opened, "SO PIN", so_pin)
    if pin is not None:
        _check_length(opened, "user PIN", pin)
    opened.run(view.slot, opened.core.init_token(view.slot, so_pin, name))
    if pin is not None:
        _set_user_pin(opened, view.slot, so_pin, pin)
    return next(made for made in opened.tokens() if made.slot == view.slot)


def _check_length(opened: Service, what: str, pin: bytearray) -> None:
    policy = opened.config.pin
    if not policy.min_length <= len(pin) <= policy.max_length:
        raise PinLenRange(f"the {what} must have {policy.min_length} to {policy.max_length} bytes")


def _set_user_pin(opened: Service, slot: int, so_pin: bytearray, pin: bytearray) -> None:
    with opened.session(slot, read_write=True) as session:
        opened.login(slot, session, ck.CKU_SO, so_pin)
        try:
            opened.run(slot, opened.core.init_pin(session, pin))
        finally:
            opened.run(slot, opened.core.logout(slot))


def run_set_pin(arguments: argparse.Namespace) -> None:
    """Change a PIN."""
    from ferrohsm.cli.service import service

    user = ck.CKU_SO if arguments.so else ck.CKU_USER
    name = "SO PIN" if arguments.so else "user PIN"
    with service() as opened:
        view = opened.chosen(arguments)
        if not arguments.so and not view.flags & ck.CKF_USER_PIN_INITIALIZED:
            raise CommandError(
                f"{view.name} has no user PIN yet", "the SO sets it with: ferrohsm token unlock"
            )
        with (
            opened.session(view.slot, read_write=True) as session,
            pins.secret(arguments, "pin", f"The {name} of {view.name} as it is") as old,
        ):
            opened.login(view.slot, session, user, old)
            with pins.secret(arguments, "new-pin", f"New {name}", new=True) as new:
                _check_length(opened, name, new)
                opened.run(view.slot, opened.core.set_pin(session, old, new))
    show(arguments, {"slot": view.slot, "serial": view.serial, "changed": name}, f"the {name} is changed")


def run_unlock(arguments: argparse.Namespace) -> None:
    """Set the user PIN as the SO."""
    from ferrohsm.cli.service import service

    with service() as opened:
        view = opened.chosen(arguments)
        with (
            pins.secret(arguments, "so-pin", f"SO PIN of {view.name}") as so_pin,
            pins.secret(arguments, "new-pin", "New user PIN", new=True) as new,
        ):
            _check_length(opened, "user PIN", new)
            _set_user_pin(opened, view.slot, so_pin, new)
        made = opened.chosen(argparse.Namespace(slot=view.slot, token=None))
    show(arguments, shape(made), f"the user PIN of {made.name} is set")


def run_rename(arguments: argparse.Namespace) -> None:
    """Give a token another label."""
    from ferrohsm.cli.service import service

    with service() as opened:
        view = opened.chosen(arguments)
        stores = {serial: store for serial, _, store in _directory(opened, view.serial).tokens()}
        _as_officer(opened, arguments, view, stores[view.serial].rename(arguments.label))
        made = opened.chosen(argparse.Namespace(slot=view.slot, token=None))
    show(arguments, shape(made), f"{view.name} is now {made.name}")


def run_delete(arguments: argparse.Namespace) -> None:
    """Delete a token."""
    from ferrohsm.cli.service import service

    with service() as opened:
        view = opened.chosen(arguments)
        confirm(arguments, f"Delete token {view.name} ({view.serial}) with all its objects for good?")
        if not arguments.force:
            _as_officer(opened, arguments, view, _nothing())
        _directory(opened, view.serial).delete(view.serial)
        # Its chain's key went with it, so this stands in the module's.
        opened.core.audit.module.note(events.DELETE_TOKEN, detail=view.serial)
    show(arguments, {"deleted": shape(view)}, f"token {view.name} is deleted")


def run_backup(arguments: argparse.Namespace) -> None:
    """Back a token up."""
    from ferrohsm.cli.service import service

    with service() as opened, Progress("copying page") as progress:
        view = opened.chosen(arguments)
        _directory(opened, view.serial).backup(view.serial, arguments.file, progress.step)
    result = {"slot": view.slot, "serial": view.serial, "file": arguments.file}
    show(arguments, result, f"token {view.name} is in {arguments.file}")


def run_restore(arguments: argparse.Namespace) -> None:
    """Bring a token back."""
    from ferrohsm.cli.service import service

    with open(arguments.file, "rb"):
        """A file that cannot be read is told as such, and leaves no directory behind."""
    with service() as opened:
        with Progress("checking page") as progress:
            serial = _directory(opened, None).restore(arguments.file, progress.step)
        made = next(view for view in opened.tokens() if view.serial == serial)
    show(arguments, shape(made), f"token {made.name} is back in slot {made.slot}, serial {serial}")


def _as_officer(
    opened: Service, arguments: argparse.Namespace, view: TokenView, work: Coroutine[Any, Any, None]
) -> None:
    """Log in as the SO and do something; a wrong PIN is counted as at any login."""
    try:
        with (
            opened.session(view.slot, read_write=True) as session,
            pins.secret(arguments, "so-pin", f"SO PIN of {view.name}") as so_pin,
        ):
            opened.login(view.slot, session, ck.CKU_SO, so_pin)
            opened.run(view.slot, work)
            opened.run(view.slot, opened.core.logout(view.slot))
    finally:
        work.close()


async def _nothing() -> None:
    """Only the login is wanted."""


def _directory(opened: Service, serial: str | None) -> TokenDirectory:
    """Return the directory that holds a token, or without `serial` the first one that is configured."""
    for member in opened.core.members:
        directory: TokenDirectory | None = getattr(member.adapter, "directory", None)
        if directory is not None and (serial is None or serial in [held for held, *_ in directory.tokens()]):
            return directory
    if serial is None:
        raise CommandError("there is no place for a token", opened.config.data_problem or "ferrohsm doctor")
    raise CommandError("the token is not one of the software adapter's", "use its own tools for this")
