"""Where the chains are, and the keys that they are made with.

The chain of a software token is made with keys of the token's public key, so that a failed login can be
recorded while no PIN has unlocked anything. Every other chain is made with keys of ``audit.key``, a file of
the audit's own. A chain's name is in its key: the records of one are none of another.
"""

from __future__ import annotations

import os

from ferrohsm.audit.chain import Place, segments
from ferrohsm.audit.hashing import Key
from ferrohsm.audit.witness import Witness, mark_of
from ferrohsm.errors import DeviceError
from ferrohsm.store import files
from ferrohsm.store.sealing import KEY_SIZE, wipe
from ferrohsm.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from ferrohsm.config import Config

MODULE = "module"
"""The chain of what concerns no token."""
RINGS = "rings"
_CHAIN, _SIGNATURE = b"ferrohsm audit\x01", b"ferrohsm audit signature\x01"
_KEY_FILE, _HEAD = "audit.key", "audit.head"
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def data_directories(config: Config) -> list[str]:
    """Return the directories with tokens of ours, that of the whole configuration first."""
    found = [] if config.data_dir is None else [config.data_dir]
    for section in config.slots:
        path = section.options.get("data_dir")
        if section.adapter == "software" and path is not None and path not in found:
            found.append(path)
    return found


def root_of(config: Config, data_dir: str | None) -> str | None:
    """Return the audit's directory for what is kept in a data directory.

    However it is spelled, it is one path: two rings of one process in one directory would take each other's
    locks away.
    """
    if config.audit.directory is not None:
        return os.path.realpath(config.audit.directory)
    return None if data_dir is None else os.path.realpath(os.path.join(data_dir, "audit"))


def roots(config: Config) -> list[str]:
    """Return every audit directory of a configuration."""
    found: list[str] = []
    for data_dir in [*data_directories(config), None]:
        root = root_of(config, data_dir)
        if root is not None and root not in found:
            found.append(root)
    return found


def chain_name(section: str, slot_id: int) -> str:
    """Return the name of the chain of a slot that is not ours."""
    plain = "".join(character if character in _ALLOWED else "-" for character in section)[:16]
    return f"{plain or 'slot'}.{slot_id}"[:32]


def find(config: Config, root: str, name: str) -> Place:
    """Return a chain's place; the token of a chain that has none any more is written to the module's.

    Raises `OSError` or ``HsmError`` when its key cannot be had.
    """
    token = token_directory(config, root, name)
    if token is not None:
        from ferrohsm.store.access import read_public_key

        master = read_public_key(os.path.join(token, "public.key"))
        head = os.path.join(token if config.audit.directory is None else os.path.join(root, name), _HEAD)
        place = _place(root, name, head, master)
        place.witness = _witness(config, token)
        return place
    return _place(root, name, os.path.join(root, name, _HEAD), _own_key(config, root))


def _witness(config: Config, token: str) -> Witness:
    return Witness(config, token, mark_of(config.audit.directory))


def token_directory(config: Config, root: str, name: str) -> str | None:
    """Return the directory of the software token whose chain has this name, None when there is none."""
    for data_dir in data_directories(config):
        path = os.path.join(data_dir, "tokens", name)
        if root_of(config, data_dir) == root and os.path.exists(os.path.join(path, "public.key")):
            return path
    return None


def _place(root: str, name: str, head: str, master: bytearray) -> Place:
    keys = Key(bytes(master))
    place = Place(root, name, head, Key(keys.mac(_CHAIN + name.encode())), keys.mac(_SIGNATURE))
    wipe(master)
    return place


def _own_key(config: Config, root: str) -> bytearray:
    path = os.path.join(root, _KEY_FILE)
    while True:
        try:
            key = files.load(path, KEY_SIZE)
        except FileNotFoundError:
            _make_own_key(config, root, path)
            continue
        if len(key) != KEY_SIZE:
            raise DeviceError(f"{path} is damaged")
        return key


def _make_own_key(config: Config, root: str, path: str) -> None:
    """Make the key, unless another process is faster; nobody ever sees a part of it."""
    files.make_directory(root, config.store)
    aside, fresh = f"{path}.{os.urandom(8).hex()}", bytearray(os.urandom(KEY_SIZE))
    try:
        files.create(aside, fresh, config.store)
        try:
            os.link(aside, path)
        except FileExistsError:
            return
        files.sync_directory(root)
    finally:
        wipe(fresh)
        try:
            os.unlink(aside)
        except FileNotFoundError:
            pass


def names(root: str) -> list[str]:
    """Return the names of the chains in an audit directory."""
    try:
        found = os.listdir(root)
    except FileNotFoundError:
        return []
    return sorted(n for n in found if n != RINGS and os.path.isdir(os.path.join(root, n)))


def chains(config: Config, root: str) -> list[str]:
    """Return the names of the chains that there are, and of those of which a head or a token still knows."""
    found = {
        name
        for name in names(root)
        if segments(os.path.join(root, name)) or os.path.exists(os.path.join(root, name, _HEAD))
    }
    for data_dir in data_directories(config):
        if root_of(config, data_dir) == root:
            found.update(_tokens_with_log(config, root, os.path.join(data_dir, "tokens"), found))
    return sorted(found)


def _tokens_with_log(config: Config, root: str, tokens: str, found: set[str]) -> list[str]:
    """Return the tokens beside those that were found that have a head, or remember that there was a log."""
    try:
        serials = os.listdir(tokens)
    except FileNotFoundError:
        return []
    return [
        serial
        for serial in serials
        if serial not in found
        and (token := token_directory(config, root, serial)) is not None
        and (_has_head(config, token) or _witness(config, token).recall())
    ]


def _has_head(config: Config, token: str) -> bool:
    return config.audit.directory is None and os.path.exists(os.path.join(token, _HEAD))
