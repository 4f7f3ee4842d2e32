"""What becomes of each object: moved, there already, or left behind, and why; the record of it all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ferrohsm import constants as ck
from ferrohsm.adapters import Value
from ferrohsm.attribute_kinds import (
    CREATE,
    FORBIDDEN,
    SENSITIVE,
    STRING,
    TEMPLATE,
    TRUE,
    TRUE_BY_SO,
    UNWRAP,
    Rule,
    ulong,
    well_formed,
)
from ferrohsm.attributes import normal
from ferrohsm.errors import HsmError
from ferrohsm.migration.proof import Prover
from ferrohsm.migration.source import Source, SourceObject
from ferrohsm.migration.target import Target
from ferrohsm.migration.transport import Transport

MOVED, PRESENT, LEFT = "moved", "present", "left"

_KEYS = (ck.CKO_PRIVATE_KEY, ck.CKO_SECRET_KEY, ck.CKO_OTP_KEY)
_IDENTITY = (ck.CKA_LABEL, ck.CKA_ID, ck.CKA_KEY_TYPE, ck.CKA_CERTIFICATE_TYPE)
_NEVER = (ck.CKA_CHECK_VALUE, ck.CKA_PUBLIC_KEY_INFO, ck.CKA_UNIQUE_ID, ck.CKA_PUBLIC_CRC64_VALUE)
"""What follows from the rest, and is computed here anew."""
_HISTORY = (ck.CKA_LOCAL, ck.CKA_ALWAYS_SENSITIVE, ck.CKA_NEVER_EXTRACTABLE)
_ORDER = {ck.CKO_PUBLIC_KEY: 0, ck.CKO_PRIVATE_KEY: 1, ck.CKO_SECRET_KEY: 2, ck.CKO_CERTIFICATE: 3}


class Outcome:
    """The record of one object: `way` it came, `proof` that it is the same, `changes`, and `why` not."""

    __slots__ = ("changes", "each", "oid", "proof", "status", "verified", "way", "why")

    def __init__(self, each: SourceObject, status: str) -> None:
        self.each = each
        self.status = status
        self.oid: int | None = None
        self.way = ""
        self.proof = ""
        self.verified = False
        self.changes: list[str] = []
        self.why = ""

    def left(self, why: str) -> Outcome:
        """Record that it could not be moved."""
        self.status, self.why = LEFT, why
        return self


class Migration:
    """Goes through the objects of `source`, public keys before their private ones."""

    def __init__(self, source: Source, target: Target, *, dry_run: bool) -> None:
        self._source = source
        self._target = target
        self._dry_run = dry_run
        self._transport = Transport(source, target)
        self.objects = sorted(source.objects(), key=lambda each: _ORDER.get(each.kind, 9))
        self._prover = Prover(source, target, self.objects)
        self._taken: set[int] = set()

    def run(self) -> Iterator[Outcome]:
        """Move one object after the other; what one of them is refused does not keep the next from it."""
        for each in self.objects:
            try:
                outcome = self._one(each)
            except HsmError as error:
                outcome = Outcome(each, LEFT).left(str(error))
            if outcome.oid is not None:
                self._taken.add(outcome.oid)
            yield outcome

    def _one(self, each: SourceObject) -> Outcome:
        outcome = Outcome(each, MOVED)
        if each.rules is None:
            name = "class" if each.kind > ck.CKO_OTP_KEY else "class or type"
            return outcome.left(f"objects of this {name} are not known here")
        if self._find_present(outcome):
            return outcome
        seen = each.kind not in _KEYS or (each.flag(ck.CKA_EXTRACTABLE) and not each.flag(ck.CKA_SENSITIVE))
        refusal = "" if seen else self._unwrappable(each)
        if refusal:
            return outcome.left(refusal)
        template = self._template(each, CREATE if seen else UNWRAP, outcome)
        if each.values.get(ck.CKA_OTP_COUNTER):
            counter = int.from_bytes(each.values[ck.CKA_OTP_COUNTER], "big")
            outcome.changes.append(f"it goes on at count {counter}: make no password with the old one now")
        if self._dry_run:
            outcome.way = "read" if seen else "wrapped"
            outcome.changes += [
                f"{ck.name('CKA', attribute)}: true → false" for attribute in _HISTORY if each.flag(attribute)
            ]
            return outcome
        if seen:
            outcome.oid, outcome.way = self._create(each, template), "read"
        else:
            outcome.oid, outcome.way = self._transport.carry(each, template)
        return self._verified(outcome)

    def _unwrappable(self, each: SourceObject) -> str:
        """Return why a key that cannot be read cannot be wrapped either; nothing if it can be."""
        if not each.flag(ck.CKA_EXTRACTABLE):
            return "CKA_EXTRACTABLE is false: the key never leaves its token"
        if each.flag(ck.CKA_WRAP_WITH_TRUSTED):
            return "CKA_WRAP_WITH_TRUSTED is true: only a key that its security officer trusts may wrap it"
        if not self._transport.possible():
            return "the other module offers no mechanism to wrap it with"
        return ""

    # There already?

    def _find_present(self, outcome: Outcome) -> bool:
        """Look for the same object among ours that have its class, type, label and id."""
        each = outcome.each
        wanted = [(ck.CKA_CLASS, ulong(each.kind))]
        wanted += [
            (attribute, each.values[attribute]) for attribute in _IDENTITY if each.values.get(attribute)
        ]
        for oid in self._target.find(wanted):
            if oid in self._taken:
                continue
            proof = self._prover.compare(each, oid)
            if proof.same:
                outcome.oid, outcome.status = oid, PRESENT
                outcome.proof, outcome.verified = proof.how, True
                return True
            if proof.same is None and not outcome.changes:
                # It may be another one: to take it for the same could lose a key.
                outcome.changes.append(f"one of this name is there, which may be the same ({proof.how})")
        return False

    # Bringing it here

    def _template(self, each: SourceObject, origin: int, outcome: Outcome) -> list[tuple[int, Value]]:
        """Return the attributes to give; what cannot be given is noted."""
        template: list[tuple[int, Value]] = [(ck.CKA_TOKEN, TRUE)]
        for attribute, value in each.values.items():
            rule = (each.rules or {}).get(attribute)
            if rule is None or attribute in (ck.CKA_TOKEN, *_NEVER) or rule.flags & (FORBIDDEN << origin):
                continue
            if origin == UNWRAP and attribute == ck.CKA_VALUE_LEN:
                continue
            if self._given(rule, value, outcome):
                template.append((attribute, value))
        return template

    def _given(self, rule: Rule, value: bytes, outcome: Outcome) -> bool:
        name = ck.name("CKA", rule.type)
        if rule.flags & SENSITIVE or rule.kind == TEMPLATE or not value:
            return False
        if rule.flags & TRUE_BY_SO and value == TRUE:
            outcome.changes.append(f"{name}: true → false (the security officer can set it)")
            return False
        if not well_formed(rule.kind, value):
            reason = "is not UTF-8" if rule.kind == STRING else "is not well formed"
            outcome.changes.append(f"{name} {reason} and is left out")
            return False
        return True

    def _create(self, each: SourceObject, template: list[tuple[int, Value]]) -> int:
        secrets: list[bytearray] = []
        try:
            if each.kind in _KEYS:
                for attribute in each.secret_types:
                    value = self._source.secret(each, attribute)
                    if value:
                        secrets.append(value)
                        template.append((attribute, value))
            return self._target.create(template)
        finally:
            for secret in secrets:
                secret[:] = bytes(len(secret))

    def _verified(self, outcome: Outcome) -> Outcome:
        """Prove that what was made is the same; take it away again when it is not."""
        oid = outcome.oid
        assert oid is not None
        proof = self._prover.compare(outcome.each, oid)
        outcome.proof, outcome.verified = proof.how, bool(proof.same)
        if proof.same is False:
            self._target.destroy(oid)
            outcome.oid = None
            return outcome.left(f"what arrived is not the same: {proof.how}")
        outcome.changes += self._differences(outcome.each, oid)
        return outcome

    def _differences(self, each: SourceObject, oid: int) -> list[str]:
        rules = each.rules or {}
        types = [attribute for attribute, value in each.values.items() if attribute in rules and value]
        here = self._target.values(oid, types)
        told = []
        for attribute in types:
            rule = rules[attribute]
            if (
                attribute in _NEVER
                or rule.flags & TRUE_BY_SO
                or not well_formed(rule.kind, each.values[attribute])
            ):
                continue
            now = here.get(attribute, b"")
            try:
                same = normal(rule, each.values[attribute]) == (normal(rule, now) if now else now)
            except HsmError:
                same = each.values[attribute] == now
            if not same:
                told.append(_difference(attribute, each.values[attribute], bytes(now)))
        return told


def _difference(attribute: int, before: bytes, after: bytes) -> str:
    name = ck.name("CKA", attribute)
    if len(before) == 1 and len(after) == 1:
        words: dict[bytes, Any] = {b"\1": "true", b"\0": "false"}
        return f"{name}: {words.get(before, 'true')} → {words.get(after, 'true')}"
    if attribute == ck.CKA_KEY_GEN_MECHANISM:
        return f"{name}: {ck.name('CKM', int.from_bytes(before, 'little'))} → unknown"
    return f"{name} is another now" if after else f"{name} is not there any more"
