"""The account's keys as PKCS#11 objects, listed anew when what was listed is old.

An object's identity follows from the key's id, so that it is the same in every process. Tags say what
PKCS#11 knows and KMS does not: ``ferrohsm:state`` (``pending`` until an object keeps a new key, ``kept``
then), ``ferrohsm:label`` where an alias cannot be the label, ``ferrohsm:id``, ``ferrohsm:public`` (``no``
when the public key object was destroyed).
"""

from __future__ import annotations

import re
import time
from _thread import allocate_lock
from hashlib import sha256

from ferrohsm import constants as ck
from ferrohsm.adapters import CKA_REFERENCE, Attributes, Value
from ferrohsm.attribute_kinds import FALSE, GENERATE, TRUE, ulong
from ferrohsm.attributes import compose
from ferrohsm.errors import ActionProhibited, ObjectHandleInvalid
from ferrohsm_adapters.aws_kms.client import AliasTakenError, Kms
from ferrohsm_adapters.aws_kms.specs import ENCRYPT, GENERATION, PAIRS, SPECS, Spec
from ferrohsm_adapters.kit.signer import public_attributes

STATE, LABEL, ID, PUBLIC = "ferrohsm:state", "ferrohsm:label", "ferrohsm:id", "ferrohsm:public"
PENDING, KEPT = "pending", "kept"

LOOK_AGAIN = 10  # listings after which what is known of keys is asked for again: their state and tags
SETTLING = 60.0  # seconds after which what was changed in KMS is told everywhere

_ALIAS_CHARACTERS = re.compile(r"[^a-zA-Z0-9/_-]")
_ALIAS_LENGTH = 200
_TAG_LENGTH = 127  # bytes that fit into a tag as hexadecimal


def identity(key_id: str, object_class: int) -> int:
    """Return an object's identity: positive, of 48 bits, and always the same."""
    digest = sha256(f"{object_class}:{key_id}".encode()).digest()
    return int.from_bytes(digest[:6], "big") or 1


class KmsKey:
    """A key: what does not change about it, and what does (`alias`, `tags`)."""

    __slots__ = ("alias", "id", "info", "spec", "tags", "usage")

    def __init__(self, key_id: str, spec: Spec, usage: str, info: bytes) -> None:
        self.id = key_id
        self.spec = spec
        self.usage = usage
        self.info = info
        self.alias = ""
        self.tags: dict[str, str] = {}

    @property
    def paired(self) -> bool:
        """Whether it has a public key."""
        return self.spec.key_type in PAIRS

    def label(self, prefix: str) -> bytes:
        """Return the label: of the tag if there is one, else the alias."""
        if LABEL in self.tags:
            return bytes.fromhex(self.tags[LABEL])
        return self.alias.removeprefix(prefix).encode()

    def key_id(self) -> bytes:
        """Return ``CKA_ID``: of the tag, else made of the public key or of KMS's id."""
        if ID in self.tags:
            return bytes.fromhex(self.tags[ID])
        return sha256(self.info or self.id.encode()).digest()[:20]


class OwnChange:
    """What this process changed about a key; KMS may tell how it was before for some seconds."""

    __slots__ = ("alias", "deleted", "tags", "until")

    def __init__(self, alias: str, tags: dict[str, str], *, deleted: bool = False) -> None:
        self.alias = alias
        self.tags = tags
        self.deleted = deleted
        self.until = time.monotonic() + SETTLING


class Keys:
    """The listing. Its methods block, but `generation`; they may be called by several threads."""

    def __init__(self, kms: Kms, prefix: str, refresh: float, private: bool) -> None:
        self.kms = kms
        self.prefix = prefix
        self._interval = refresh
        self._private = TRUE if private else FALSE
        self._known: dict[str, KmsKey | None] = {}  # None: a key that is no object here
        self._objects: dict[int, tuple[KmsKey, Attributes]] = {}
        self._own: dict[str, OwnChange] = {}
        self._listed_at: float | None = None
        self._looked_at_all = float("-inf")
        self._generation = 1
        self._lock = allocate_lock()
        self.serial = sha256(f"{kms.endpoint}\0{kms.region}\0{prefix}".encode()).hexdigest()[:16]
        self.slot_id = int(self.serial[:8], 16) & 0x7FFFFFFF or 1

    def generation(self) -> int:
        """Return a number that moves when the listing changes."""
        return self._generation

    def objects(self) -> dict[int, tuple[KmsKey, Attributes]]:
        """Return the objects, listed anew if the listing is old."""
        listed = self._listed_at
        if listed is None or time.monotonic() - listed > self._interval:
            self.refresh()
        return self._objects

    def refresh(self, only: str | None = None) -> None:
        """List the keys anew, or look at one of them only and at the names."""
        with self._lock:
            aliases: dict[str, str] = {}
            for name, key_id in sorted(self.kms.aliases(), reverse=True):
                if name.startswith(self.prefix):
                    aliases[key_id] = name
            now = time.monotonic()
            whole = now - self._looked_at_all > LOOK_AGAIN * self._interval
            if whole and only is None:
                self._looked_at_all = now
            self._own = {key_id: own for key_id, own in self._own.items() if own.until > now}
            ids = [*aliases] if self.prefix else self.kms.keys()
            objects: dict[int, tuple[KmsKey, Attributes]] = {}
            for key_id in sorted({*ids, *self._own}):
                key = self._key(key_id, look=key_id == only or (whole and only is None))
                if key is None:
                    continue
                own = self._own.get(key_id)
                key.alias = own.alias if own is not None and own.alias else aliases.get(key_id, "")
                for attributes in self._shown(key):
                    oid = identity(key_id, int.from_bytes(attributes[ck.CKA_CLASS], "little"))  # type: ignore[arg-type]
                    objects[oid] = (key, attributes)
            if {oid: entry[1] for oid, entry in objects.items()} != {
                oid: entry[1] for oid, entry in self._objects.items()
            }:
                self._generation += 1
            self._objects = objects
            self._listed_at = now

    def _key(self, key_id: str, *, look: bool) -> KmsKey | None:
        """Return a key that is an object here; None for AWS's own, disabled, unknown and forbidden ones."""
        own = self._own.get(key_id)
        if own is not None and own.deleted:
            return None
        if key_id in self._known and not look:
            return self._known[key_id]
        try:
            key = self._looked_at(key_id)
        except (ActionProhibited, ObjectHandleInvalid):
            key = None  # others' keys are listed, too, and some are gone since
        if key is not None and own is not None:
            key.tags = {**key.tags, **own.tags}
        if key is not None and key.tags.get(STATE) == PENDING:
            self._known.pop(key_id, None)  # it is looked at again each time, until it is an object
            return None
        self._known[key_id] = key
        return key

    def _looked_at(self, key_id: str) -> KmsKey | None:
        metadata = self.kms.describe(key_id)
        spec = SPECS.get(metadata.get("KeySpec", ""))
        if metadata.get("KeyState") != "Enabled" or metadata.get("KeyManager") != "CUSTOMER" or spec is None:
            return None
        key = self._known.get(key_id)
        if key is None:
            usage = str(metadata["KeyUsage"])
            info = self.kms.public_key(key_id) if spec.key_type in PAIRS else b""
            key = KmsKey(key_id, spec, usage, info)
        key.tags = self.kms.tags(key_id)
        return key

    def _shown(self, key: KmsKey) -> list[Attributes]:
        """Return the objects that a key is: its halves, or the secret key."""
        if not key.paired:
            return [self._secret_key(key)]
        public, private = self._pair(key)
        return [private] if key.tags.get(PUBLIC) == "no" else [public, private]

    def _common(self, key: KmsKey) -> list[tuple[int, Value]]:
        return [(ck.CKA_TOKEN, TRUE), (ck.CKA_LABEL, key.label(self.prefix)), (ck.CKA_ID, key.key_id())]

    def _made(self, key: KmsKey, object_class: int, *pairs: tuple[int, Value]) -> Attributes:
        implied: Attributes = {ck.CKA_CLASS: ulong(object_class), ck.CKA_KEY_TYPE: ulong(key.spec.key_type)}
        attributes = compose(GENERATE, [*self._common(key), *pairs], implied)
        attributes[ck.CKA_LOCAL] = TRUE
        attributes[ck.CKA_KEY_GEN_MECHANISM] = ulong(GENERATION[key.spec.key_type])
        attributes[ck.CKA_UNIQUE_ID] = f"{key.id}-{object_class}".encode()
        return attributes

    def _protected(self, key: KmsKey, attributes: Attributes) -> Attributes:
        for attribute in (ck.CKA_SENSITIVE, ck.CKA_ALWAYS_SENSITIVE, ck.CKA_NEVER_EXTRACTABLE):
            attributes[attribute] = TRUE
        attributes[ck.CKA_EXTRACTABLE] = FALSE
        attributes[ck.CKA_PRIVATE] = self._private
        attributes[CKA_REFERENCE] = key.id.encode()
        return attributes

    def _pair(self, key: KmsKey) -> tuple[Attributes, Attributes]:
        signs = key.usage != ENCRYPT
        asked: list[tuple[int, Value]] = []
        if key.spec.key_type == ck.CKK_RSA:
            asked = [(ck.CKA_MODULUS_BITS, ulong(key.spec.size))]
        elif key.spec.key_type == ck.CKK_ML_DSA:
            asked = [(ck.CKA_PARAMETER_SET, ulong(key.spec.size))]
        else:
            asked = [(ck.CKA_EC_PARAMS, key.spec.curve)]
        public = self._made(key, ck.CKO_PUBLIC_KEY, (ck.CKA_PRIVATE, FALSE), *asked)
        public.update(public_attributes(key.info, public))
        public.update(uses(ck.CKO_PUBLIC_KEY, signs))
        private = self._made(key, ck.CKO_PRIVATE_KEY)
        shared = (
            ck.CKA_MODULUS,
            ck.CKA_PUBLIC_EXPONENT,
            ck.CKA_EC_PARAMS,
            ck.CKA_PUBLIC_KEY_INFO,
            ck.CKA_PARAMETER_SET,
        )
        private.update({attribute: public[attribute] for attribute in shared if attribute in public})
        private.update(uses(ck.CKO_PRIVATE_KEY, signs))
        return public, self._protected(key, private)

    def _secret_key(self, key: KmsKey) -> Attributes:
        attributes = self._made(key, ck.CKO_SECRET_KEY, (ck.CKA_VALUE_LEN, ulong(key.spec.size)))
        attributes.update(uses(ck.CKO_SECRET_KEY, key.usage != ENCRYPT))
        return self._protected(key, attributes)

    # Changing

    def keep(self, key_id: str, label: bytes, identifier: bytes, public: bool) -> None:
        """Make objects of a key that was pending."""
        tags = {STATE: KEPT}
        if identifier:
            tags[ID] = identifier[:_TAG_LENGTH].hex()
        if not public:
            tags[PUBLIC] = "no"
        alias, extra = self._named(key_id, label, "")
        tags.update(extra)
        self.kms.tag(key_id, tags)
        self._changed(key_id, OwnChange(alias, tags))

    def rename(self, key: KmsKey, label: bytes) -> None:
        """Give a key another label."""
        alias, _ = self._named(key.id, label, key.alias)
        tags = {LABEL: label[:_TAG_LENGTH].hex()}
        self.kms.tag(key.id, tags)
        self._changed(key.id, OwnChange(alias, tags))

    def identify(self, key: KmsKey, identifier: bytes) -> None:
        """Give a key another ``CKA_ID``."""
        self._tag(key, {ID: identifier[:_TAG_LENGTH].hex()})

    def hide_public(self, key: KmsKey) -> None:
        """Take the public key object away; the key stays."""
        self._tag(key, {PUBLIC: "no"})

    def delete(self, key: KmsKey, days: int) -> None:
        """Have a key deleted, and free its alias at once."""
        self.kms.schedule_deletion(key.id, days)
        if key.alias:
            self.kms.delete_alias(key.alias)
        self._changed(key.id, OwnChange("", {}, deleted=True))

    def _tag(self, key: KmsKey, tags: dict[str, str]) -> None:
        self.kms.tag(key.id, tags)
        self._changed(key.id, OwnChange(key.alias, tags))

    def _changed(self, key_id: str, change: OwnChange) -> None:
        """Remember a change of our own for as long as KMS may still tell how things were before it."""
        with self._lock:
            before = self._own.get(key_id)
            if before is not None:
                change.tags = {**before.tags, **change.tags}
            self._own[key_id] = change
        self.refresh(key_id)

    def _named(self, key_id: str, label: bytes, old: str) -> tuple[str, dict[str, str]]:
        """Give a key an alias made of the label; return it, and the tags for what no alias can be."""
        text = label.decode("utf-8", "replace")
        name = self.prefix + _ALIAS_CHARACTERS.sub("_", text)[:_ALIAS_LENGTH]
        if name.startswith("aws/") or not text:
            name = f"{self.prefix}ferrohsm/{key_id}"
        tags = {LABEL: label[:_TAG_LENGTH].hex()} if name != self.prefix + text else {}
        if name == old:
            return name, tags
        try:
            self.kms.create_alias(name, key_id)
        except AliasTakenError:
            name, tags = f"{name}-{key_id}", {LABEL: label[:_TAG_LENGTH].hex()}
            self.kms.create_alias(name, key_id)
        if old:
            self.kms.delete_alias(old)
        return name, tags


def uses(object_class: int, signs: bool) -> dict[int, bytes]:
    """Return the attributes that say what a key is for: nothing else is."""
    sign, verify = (ck.CKA_SIGN,), (ck.CKA_VERIFY,)
    encrypt, decrypt = (ck.CKA_ENCRYPT,), (ck.CKA_DECRYPT,)
    if object_class == ck.CKO_PUBLIC_KEY:
        yes, others = verify if signs else encrypt, (ck.CKA_VERIFY_RECOVER, ck.CKA_WRAP, *verify, *encrypt)
    elif object_class == ck.CKO_PRIVATE_KEY:
        yes, others = sign if signs else decrypt, (ck.CKA_SIGN_RECOVER, ck.CKA_UNWRAP, *sign, *decrypt)
    else:
        yes = (*sign, *verify) if signs else (*encrypt, *decrypt)
        others = (*sign, *verify, *encrypt, *decrypt, ck.CKA_WRAP, ck.CKA_UNWRAP)
    made: dict[int, bytes] = dict.fromkeys(others, FALSE)
    if object_class != ck.CKO_PUBLIC_KEY:
        made[ck.CKA_DERIVE] = FALSE
    made.update(dict.fromkeys(yes, TRUE))
    return made
