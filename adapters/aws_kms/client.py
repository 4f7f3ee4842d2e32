"""KMS itself, through boto3: every method is a request or a few, and blocks; `Workers` call them.

What KMS or the way to it says becomes an `HsmError` in `refusal`, the one place for it. Messages of AWS are
not passed on, only the name of the error: credentials, plaintexts and signatures are in requests, and none
of that is for a log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore import loaders
from botocore import session as botocore_session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ferrohsm.errors import (
    ActionProhibited,
    DeviceError,
    DeviceMemory,
    EncryptedDataInvalid,
    FunctionFailed,
    HsmError,
    KeyFunctionNotPermitted,
    ObjectHandleInvalid,
)

ATTEMPTS = 3
RANDOM_BYTES = 1024  # of one request

# What boto3 reads about the services' interfaces; it takes a while and is the same for every client.
_LOADER = loaders.create_loader()

# What a request's refusal means, by the name that AWS gives it.
_REFUSALS: dict[str, tuple[type[HsmError], str]] = {
    "AccessDeniedException": (ActionProhibited, "AWS does not allow it"),
    "NotFoundException": (ObjectHandleInvalid, "KMS has no such key"),
    "DisabledException": (KeyFunctionNotPermitted, "the key is disabled"),
    "KMSInvalidStateException": (KeyFunctionNotPermitted, "the key is disabled or about to be deleted"),
    "InvalidKeyUsageException": (KeyFunctionNotPermitted, "the key is for another use"),
    "InvalidCiphertextException": (EncryptedDataInvalid, ""),
    "IncorrectKeyException": (EncryptedDataInvalid, ""),
    "LimitExceededException": (DeviceMemory, "a limit of the AWS account is reached"),
    "ThrottlingException": (DeviceError, "KMS asks for fewer requests"),
    "KeyUnavailableException": (DeviceError, "KMS cannot get at the key now"),
    "DependencyTimeoutException": (DeviceError, "KMS took too long"),
    "KMSInternalException": (DeviceError, "an error inside KMS"),
}
_ALIAS_TAKEN = "AlreadyExistsException"


class AliasTakenError(Exception):
    """Another key has the alias."""


def refusal(error: Exception) -> HsmError:
    """Return the `HsmError` of what boto3 raised."""
    if isinstance(error, ClientError):
        name = str(error.response.get("Error", {}).get("Code", "unknown"))
        kind, words = _REFUSALS.get(name, (FunctionFailed, f"KMS answers {name}"))
        return kind(words)
    return DeviceError(f"no answer from KMS: {type(error).__name__}")


class Kms:
    """A client of one account and region. The methods may be called by several threads at once."""

    def __init__(self, region: str | None, profile: str | None, endpoint: str | None, timeout: float) -> None:
        config = Config(
            connect_timeout=timeout,
            read_timeout=timeout,
            retries={"max_attempts": ATTEMPTS, "mode": "standard"},
            max_pool_connections=32,
        )
        try:
            core = botocore_session.get_session()
            core.register_component("data_loader", _LOADER)
            session = boto3.Session(botocore_session=core, profile_name=profile, region_name=region)
            self._client: Any = session.client("kms", endpoint_url=endpoint, config=config)
        except (BotoCoreError, ValueError) as error:
            raise refusal(error) from None
        self.region: str = self._client.meta.region_name
        self.endpoint: str = self._client.meta.endpoint_url

    def __repr__(self) -> str:
        """Return the region."""
        return f"<Kms {self.region}>"

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        request: Callable[..., dict[str, Any]] = getattr(self._client, operation)
        try:
            return request(**arguments)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] == _ALIAS_TAKEN:
                raise AliasTakenError from None
            raise refusal(error) from None

    def _pages(self, operation: str, member: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        marker: dict[str, str] = {}
        while True:
            page = self._call(operation, **arguments, **marker)
            yield from page.get(member, ())
            if not page.get("Truncated"):
                return
            marker = {"Marker": page["NextMarker"]}

    # Keys

    def keys(self) -> list[str]:
        """Return the ids of all keys."""
        return [key["KeyId"] for key in self._pages("list_keys", "Keys")]

    def aliases(self) -> list[tuple[str, str]]:
        """Return the aliases, without ``alias/``, and the ids of their keys; none of AWS's own."""
        found = []
        for alias in self._pages("list_aliases", "Aliases"):
            name = alias["AliasName"].removeprefix("alias/")
            if not name.startswith("aws/") and alias.get("TargetKeyId"):
                found.append((name, alias["TargetKeyId"]))
        return found

    def describe(self, key_id: str) -> dict[str, Any]:
        """Return a key's metadata."""
        metadata: dict[str, Any] = self._call("describe_key", KeyId=key_id)["KeyMetadata"]
        return metadata

    def tags(self, key_id: str) -> dict[str, str]:
        """Return a key's tags."""
        return {
            tag["TagKey"]: tag["TagValue"] for tag in self._pages("list_resource_tags", "Tags", KeyId=key_id)
        }

    def public_key(self, key_id: str) -> bytes:
        """Return the DER SubjectPublicKeyInfo of a pair."""
        return bytes(self._call("get_public_key", KeyId=key_id)["PublicKey"])

    def create(self, spec: str, usage: str, tags: dict[str, str]) -> str:
        """Make a key and return its id."""
        listed = [{"TagKey": name, "TagValue": value} for name, value in tags.items()]
        made = self._call("create_key", KeySpec=spec, KeyUsage=usage, Tags=listed)
        return str(made["KeyMetadata"]["KeyId"])

    def tag(self, key_id: str, tags: dict[str, str]) -> None:
        """Set tags of a key."""
        listed = [{"TagKey": name, "TagValue": value} for name, value in tags.items()]
        self._call("tag_resource", KeyId=key_id, Tags=listed)

    def create_alias(self, name: str, key_id: str) -> None:
        """Give a key a name. Raises `AliasTakenError`."""
        self._call("create_alias", AliasName=f"alias/{name}", TargetKeyId=key_id)

    def delete_alias(self, name: str) -> None:
        """Take a name away."""
        self._call("delete_alias", AliasName=f"alias/{name}")

    def schedule_deletion(self, key_id: str, days: int) -> None:
        """Have a key deleted after that many days; until then it cannot be used, and KMS can call it off."""
        self._call("schedule_key_deletion", KeyId=key_id, PendingWindowInDays=days)

    # Their use

    def sign(self, key_id: str, algorithm: str, message: bytes, message_type: str) -> bytes:
        """Return a signature."""
        answer = self._call(
            "sign", KeyId=key_id, Message=message, MessageType=message_type, SigningAlgorithm=algorithm
        )
        return bytes(answer["Signature"])

    def mac(self, key_id: str, algorithm: str, message: bytes) -> bytes:
        """Return a MAC."""
        answer = self._call("generate_mac", KeyId=key_id, Message=message, MacAlgorithm=algorithm)
        return bytes(answer["Mac"])

    def encrypt(self, key_id: str, text: bytes) -> bytes:
        """Return what a symmetric key makes of a text."""
        return bytes(self._call("encrypt", KeyId=key_id, Plaintext=text)["CiphertextBlob"])

    def decrypt(self, key_id: str, data: bytes, algorithm: str) -> bytearray:
        """Return a text."""
        answer = self._call("decrypt", KeyId=key_id, CiphertextBlob=data, EncryptionAlgorithm=algorithm)
        return bytearray(answer["Plaintext"])

    def random(self, length: int) -> bytes:
        """Return random bytes."""
        made = b""
        while len(made) < length:
            asked = min(length - len(made), RANDOM_BYTES)
            made += self._call("generate_random", NumberOfBytes=asked)["Plaintext"]
        return made
