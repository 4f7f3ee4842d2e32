"""Every return value that the specification lists for a function is provoked, or a reason says why it is not.

`return_values.json` says which test provokes what (tools/write_return_coverage.py writes it down), and
conftest.py checks after each test that it does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from ctypes import c_ubyte, c_ulong
from pathlib import Path
from typing import Any

import failing_adapter
import pytest
from bench import initialize_token
from cryptoki import PIN, SO_PIN, Cryptoki, mechanism, template
from return_reasons import why
from scenes import LOGINS, SCENES, Stage

from ferrohsm import constants as ck
from ferrohsm import errors

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT / "tools" / "facts"
CLAIMED = Path(__file__).with_name("return_values.json")
CONFIGURATION = '[slots.faulty]\nadapter = "faulty"\n[log]\ntarget = "{log}"\nlevel = "warning"\n'
FAULTS = (
    *(errors.GeneralError, errors.FunctionFailed, errors.HostMemory, errors.DeviceError, errors.DeviceMemory),
    *(errors.DeviceRemoved, errors.FunctionCanceled, errors.PinExpired, errors.TokenResourceExceeded),
    *(errors.FunctionRejected, errors.DataInvalid, errors.DataLenRange, errors.KeySizeRange),
    *(errors.EncryptedDataInvalid, errors.EncryptedDataLenRange, errors.TokenWriteProtected),
    *(errors.CurveNotSupported, errors.DomainParamsInvalid, errors.ParameterSetNotSupported),
    *(errors.WrappingKeySizeRange, errors.UnwrappingKeySizeRange, errors.RandomSeedNotSupported),
    *(errors.SignatureLenRange, errors.SignatureInvalid, errors.MechanismParamInvalid),
    *(errors.SeedRandomRequired, errors.RandomNoRng, errors.AttributeValueInvalid),
    *(
        errors.TemplateIncomplete,
        errors.TemplateInconsistent,
        errors.KeyUnextractable,
        errors.KeyNotWrappable,
    ),
    *(errors.WrappedKeyInvalid, errors.WrappedKeyLenRange, errors.PinLocked, errors.PinInvalid),
    *(errors.AttributeReadOnly, errors.AttributeTypeInvalid, errors.ActionProhibited, errors.KeyIndigestible),
    *(
        errors.UserPinNotInitialized,
        errors.UserTooManyTypes,
        errors.AeadDecryptFailed,
        errors.UserNotLoggedIn,
        errors.TokenNotPresent,
    ),
)
functions: list[dict[str, Any]] = json.loads((FACTS / "abi-3.2.json").read_text())["functions"]


@pytest.fixture
def faulty(
    library: Cryptoki, configure: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Cryptoki, int]]:
    """The library with the adapter that fails when it is told to, and its slot."""
    folder = tmp_path / "site" / "failing_adapter-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: failing-adapter\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[ferrohsm.adapters]\nfaulty = failing_adapter:adapter\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site")])
    configure(CONFIGURATION.format(log=tmp_path / "log"))
    failing_adapter.FAULT.clear()
    library("C_Initialize", None)
    try:
        (slot,) = library.slots()
        initialize_token(library, slot)
        yield library, slot
    finally:
        failing_adapter.FAULT.clear()
        library.rv("C_Finalize", None)


def _name(fault: type[errors.HsmError]) -> str:
    return ck.name("CKR", fault.rv)


def test_every_scene_plays(faulty: tuple[Cryptoki, int]) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot)
    may_fail = {"C_UnwrapKeyAuthenticated", "C_DecryptMessage", "C_VerifySignatureFinal", "C_VerifyFinal"}
    for name, scene in SCENES.items():
        rv = p11.rv(name, *scene(stage))
        assert rv == "CKR_OK" or name in may_fail, (name, rv)
        stage.end()
        if name == "C_DestroyObject":
            stage.data = p11.data_object(stage.session, (ck.CKA_LABEL, b"data"))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_what_an_adapter_raises_is_what_a_function_answers(
    faulty: tuple[Cryptoki, int], fault: type[errors.HsmError]
) -> None:
    p11, slot = faulty
    label, session = b"token".ljust(32), 0
    for name, given in (
        ("C_GetTokenInfo", (slot, (c_ubyte * 512)())),
        ("C_InitToken", (slot, SO_PIN, len(SO_PIN), label)),
        ("C_InitPIN", None),
    ):
        if given is None:
            session = p11.open(slot)
            p11.login(session, ck.CKU_SO)
            given = (session, PIN, len(PIN))
        failing_adapter.FAULT.append(fault)
        assert p11.rv(name, *given) == _name(fault)
        failing_adapter.FAULT.clear()
    p11.rv("C_Logout", session)  # a PIN that seems locked, or a lost login, has ended it already
    for name, arguments in LOGINS.items():
        failing_adapter.FAULT.append(fault)
        assert p11.rv(name, *arguments(session)) == _name(fault)
        failing_adapter.FAULT.clear()
    stage = Stage(p11, slot, on_token=True)
    reached = 0
    for name, scene in SCENES.items():
        arguments = scene(stage)
        failing_adapter.FAULT.append(fault)
        rv = p11.rv(name, *arguments)
        failing_adapter.FAULT.clear()
        reached += rv == _name(fault)
        stage.end()
    assert reached > 45


BEGINNINGS = [name for name in SCENES if name.endswith("Init") and name not in ("C_FindObjectsInit",)]


@pytest.mark.parametrize("name", BEGINNINGS)
def test_how_an_operation_is_refused(faulty: tuple[Cryptoki, int], name: str) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot)
    session, how, *rest = SCENES[name](stage)

    def answer(how: Any, key: int | None = None) -> str:
        arguments = [how, *rest] if key is None or not rest else [how, key, *rest[1:]]
        rv = p11.rv(name, session, *arguments)
        if rv == "CKR_OK":
            stage.end()
        return rv

    assert answer(mechanism(0x4321)) == "CKR_MECHANISM_INVALID"
    assert answer(mechanism(ck.CKM_AES_KEY_GEN)) == "CKR_MECHANISM_INVALID"
    assert answer(mechanism(how.mechanism, b"odd")) == "CKR_MECHANISM_PARAM_INVALID"
    assert answer(None) == "CKR_ARGUMENTS_BAD"
    assert answer(how) == "CKR_OK"
    p11(name, session, how, *rest)
    assert p11.rv(name, session, how, *rest) == "CKR_OPERATION_ACTIVE"
    stage.end()
    if rest:
        assert answer(how, 4711) == "CKR_KEY_HANDLE_INVALID"
        assert answer(how, stage.data) == "CKR_KEY_TYPE_INCONSISTENT"
        assert answer(how, stage.mute(rest[0])) == "CKR_KEY_FUNCTION_NOT_PERMITTED"


CREATING = {
    "C_CreateObject": 1,
    "C_CopyObject": 2,
    "C_GenerateKey": 2,
    "C_GenerateKeyPair": 4,
    "C_UnwrapKey": 5,
    "C_DeriveKey": 3,
    "C_EncapsulateKey": 3,
    "C_DecapsulateKey": 3,
    "C_UnwrapKeyAuthenticated": 5,
}
"""Functions that make objects, with the place of a template among their arguments."""


MISPLACED = ("CKR_TEMPLATE_INCONSISTENT", "CKR_ATTRIBUTE_TYPE_INVALID", "CKR_ATTRIBUTE_READ_ONLY")


def with_pairs(name: str, arguments: tuple[Any, ...], *pairs: tuple[int, Any]) -> tuple[Any, ...]:
    """Return the arguments with pairs added to the template, in place of those of the same type."""
    place = CREATING[name]
    old = list(arguments[place] or ())
    kept = [
        (one.type, bytes((c_ubyte * one.ulValueLen).from_address(one.pValue)))
        for one in old
        if one.type not in {type_ for type_, _ in pairs}
    ]
    made = template(*kept, *pairs)
    return (*arguments[:place], made, len(made), *arguments[place + 2 :])


@pytest.mark.parametrize("name", CREATING)
def test_how_an_object_is_refused(faulty: tuple[Cryptoki, int], name: str) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot, on_token=True)
    scene = SCENES[name]

    def answer(*pairs: tuple[int, Any]) -> str:
        return p11.rv(name, *with_pairs(name, scene(stage), *pairs))

    def among(*pairs: tuple[int, Any], of: tuple[str, ...]) -> None:
        assert answer(*pairs) in of, (pairs, answer(*pairs))

    among((0x7654321, b"x"), of=("CKR_ATTRIBUTE_TYPE_INVALID",))
    among((ck.CKA_TOKEN, b"ab"), of=("CKR_ATTRIBUTE_VALUE_INVALID",))
    among((ck.CKA_UNIQUE_ID, b"mine"), of=("CKR_ATTRIBUTE_READ_ONLY",))
    if name != "C_CopyObject":
        among((ck.CKA_MODULUS, b"123"), of=MISPLACED)
    stage.session = p11.open(slot, read_write=False)
    assert answer((ck.CKA_TOKEN, True)) == "CKR_SESSION_READ_ONLY"
    if name not in ("C_CreateObject", "C_CopyObject"):
        arguments = list(scene(stage))
        arguments[1] = mechanism(0x4321)
        assert p11.rv(name, *arguments) == "CKR_MECHANISM_INVALID"
        arguments[1] = None
        assert p11.rv(name, *arguments) == "CKR_ARGUMENTS_BAD"
        arguments = list(scene(stage))
        arguments[1] = mechanism(arguments[1].mechanism, b"odd")
        assert p11.rv(name, *arguments) == "CKR_MECHANISM_PARAM_INVALID"
    p11("C_Logout", stage.session)
    if name == "C_CreateObject":
        assert answer((ck.CKA_PRIVATE, True)) == "CKR_USER_NOT_LOGGED_IN"


def test_what_changes_objects_in_a_session_that_only_reads(faulty: tuple[Cryptoki, int]) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot, on_token=True)
    read_only = p11.open(slot, read_write=False)
    assert p11.rv("C_DestroyObject", read_only, stage.data) == "CKR_SESSION_READ_ONLY"
    label = template((ck.CKA_LABEL, b"new"))
    assert p11.rv("C_SetAttributeValue", read_only, stage.data, label, 1) == "CKR_SESSION_READ_ONLY"
    for type_, value, expected in (
        (ck.CKA_CLASS, ck.CKO_DATA, "CKR_ATTRIBUTE_READ_ONLY"),
        (0x7654321, b"x", "CKR_ATTRIBUTE_TYPE_INVALID"),
        (ck.CKA_MODIFIABLE, b"xx", "CKR_ATTRIBUTE_READ_ONLY"),
    ):
        answer = p11.rv("C_SetAttributeValue", stage.session, stage.data, template((type_, value)), 1)
        assert answer in (expected, "CKR_ATTRIBUTE_VALUE_INVALID")
    fixed = p11.data_object(stage.session, (ck.CKA_MODIFIABLE, False), (ck.CKA_COPYABLE, False))
    assert p11.rv("C_SetAttributeValue", stage.session, fixed, label, 1) == "CKR_ACTION_PROHIBITED"
    assert p11.rv("C_CopyObject", stage.session, fixed, None, 0, c_ulong(0)) == "CKR_ACTION_PROHIBITED"


WITH_OUTPUT = {
    "C_Encrypt": -2,
    "C_EncryptUpdate": -2,
    "C_DecryptUpdate": -2,
    "C_Digest": -2,
    "C_DigestFinal": -2,
    "C_Sign": -2,
    "C_SignFinal": -2,
    "C_SignRecover": -2,
    "C_VerifyRecover": -2,
    "C_DigestEncryptUpdate": -2,
    "C_DecryptDigestUpdate": -2,
    "C_SignEncryptUpdate": -2,
    "C_DecryptVerifyUpdate": -2,
    "C_WrapKey": -2,
    "C_WrapKeyAuthenticated": -2,
    "C_EncapsulateKey": -3,
    "C_EncryptMessage": -2,
    "C_EncryptMessageNext": -3,
    "C_DecryptMessage": -2,
    "C_DecryptMessageNext": -3,
    "C_SignMessage": -2,
    "C_SignMessageNext": -2,
}
"""Functions with an output, and where it stands among their arguments."""


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_an_output_that_is_too_small(faulty: tuple[Cryptoki, int], name: str) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot)
    if name == "C_DecryptMessageNext":
        arguments = list(SCENES[name](stage))
        arguments[-1] = ck.CKF_END_OF_MESSAGE
    else:
        arguments = list(SCENES[name](stage))
    place = WITH_OUTPUT[name]
    arguments[place + 1] = c_ulong(1)
    assert p11.rv(name, *arguments) == "CKR_BUFFER_TOO_SMALL"
    assert arguments[place + 1].value > 1
    stage.end()
    if name != "C_SignMessageNext":  # there it means that more parts follow
        arguments = list(SCENES[name](stage))
        arguments[place + 1] = None
        assert p11.rv(name, *arguments) == "CKR_ARGUMENTS_BAD"


WITH_INPUT = [
    *("C_Sign", "C_SignUpdate", "C_Verify", "C_VerifyUpdate", "C_VerifySignature", "C_VerifySignatureUpdate"),
    *("C_Digest", "C_DigestUpdate", "C_SignRecover", "C_VerifyRecover", "C_Encrypt", "C_EncryptUpdate"),
    *("C_Decrypt", "C_DecryptUpdate", "C_VerifyFinal"),
]


@pytest.mark.parametrize("name", WITH_INPUT)
def test_an_input_that_is_none(faulty: tuple[Cryptoki, int], name: str) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot)
    arguments = list(SCENES[name](stage))
    arguments[1] = None
    assert p11.rv(name, *arguments) == "CKR_ARGUMENTS_BAD"


CONTINUING = [
    name
    for name in SCENES
    if name.startswith(("C_Encrypt", "C_Decrypt", "C_Digest", "C_Sign", "C_Verify"))
    and not name.endswith("Init")
]


def test_nothing_continues_what_was_not_begun(faulty: tuple[Cryptoki, int]) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot)
    for name in CONTINUING:
        arguments = SCENES[name](stage)
        stage.end()
        assert p11.rv(name, *arguments) == "CKR_OPERATION_NOT_INITIALIZED", name
    for family in ("Encrypt", "Decrypt", "Sign", "Verify"):
        final = f"C_Message{family}Final"
        assert p11.rv(final, stage.session) == "CKR_OPERATION_NOT_INITIALIZED"
        arguments = SCENES[f"C_{family}MessageNext"](stage)  # a message is in hand
        assert p11.rv(final, stage.session) == "CKR_OPERATION_ACTIVE"
        whole = SCENES[f"C_{family}Message"]
        assert whole is not None
        name = f"C_{family}Message"
        begun = list(arguments)
        if family in ("Encrypt", "Decrypt"):
            begun = [*arguments[:3], b"aad", 3, *arguments[3:-1]]
        assert p11.rv(name, *begun) == "CKR_OPERATION_ACTIVE"
        assert p11.rv(f"C_{family}MessageBegin", *begun[: 5 if family in ("Encrypt", "Decrypt") else 3]) == (
            "CKR_OPERATION_ACTIVE"
        )
        stage.end()
        parameter = SCENES[f"C_{family}MessageBegin"](stage)
        wrong = [*parameter[:2], 3, *parameter[3:]]
        assert p11.rv(f"C_{family}MessageBegin", *wrong) == "CKR_MECHANISM_PARAM_INVALID"
        stage.end()
        arguments = SCENES[name](stage)
        wrong = [*arguments[:2], 3, *arguments[3:]]
        assert p11.rv(name, *wrong) == "CKR_MECHANISM_PARAM_INVALID"
        stage.end()
        arguments = SCENES[f"C_{family}MessageNext"](stage)
        wrong = [*arguments[:2], 3, *arguments[3:]]
        assert p11.rv(f"C_{family}MessageNext", *wrong) == "CKR_MECHANISM_PARAM_INVALID"
        stage.end()


def test_what_is_left(faulty: tuple[Cryptoki, int]) -> None:
    p11, slot = faulty
    stage = Stage(p11, slot)
    session, place, out = stage.session, c_ulong(0), stage.out()
    assert (
        p11.rv("C_WrapKey", session, mechanism(0x4321), stage.aes, stage.hmac, *out)
        == "CKR_MECHANISM_INVALID"
    )
    how = mechanism(ck.CKM_AES_KEY_WRAP)
    inconsistent = "KEY_TYPE_INCONSISTENT"
    assert p11.rv("C_WrapKey", session, how, stage.hmac, stage.aes, *out) == f"CKR_WRAPPING_{inconsistent}"
    arguments = list(SCENES["C_UnwrapKey"](stage))
    arguments[2] = stage.hmac
    assert p11.rv("C_UnwrapKey", *arguments) == f"CKR_UNWRAPPING_{inconsistent}"
    arguments = list(SCENES["C_VerifyMessageNext"](stage))
    arguments[3] = None
    assert p11.rv("C_VerifyMessageNext", *arguments) == "CKR_ARGUMENTS_BAD"
    stage.end()
    public = p11.data_object(session, (ck.CKA_PRIVATE, False))
    sent = SCENES["C_EncapsulateKey"](stage)
    p11("C_Logout", session)
    private = template((ck.CKA_PRIVATE, True))
    assert p11.rv("C_CopyObject", session, public, private, 1, place) == "CKR_USER_NOT_LOGGED_IN"
    secret = with_pairs("C_EncapsulateKey", sent, (ck.CKA_PRIVATE, True))
    assert p11.rv("C_EncapsulateKey", *secret) == "CKR_USER_NOT_LOGGED_IN"


def test_slots_and_the_rest(faulty: tuple[Cryptoki, int]) -> None:
    p11, slot = faulty
    session, info, count = p11.open(slot), (c_ubyte * 512)(), c_ulong(0)
    p11("C_GetInfo", info)
    assert p11.rv("C_GetInfo", None) == "CKR_ARGUMENTS_BAD"
    p11("C_GetSlotInfo", slot, info)
    assert p11.rv("C_GetSlotInfo", slot, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_GetSlotInfo", 4711, info) == "CKR_SLOT_ID_INVALID"
    p11("C_GetMechanismList", slot, None, count)
    one = c_ulong(1)
    assert p11.rv("C_GetMechanismList", slot, info, one) == "CKR_BUFFER_TOO_SMALL"
    assert p11.rv("C_GetMechanismList", slot, None, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_GetMechanismList", 4711, None, count) == "CKR_SLOT_ID_INVALID"
    p11("C_GetMechanismInfo", slot, ck.CKM_SHA256, info)
    assert p11.rv("C_GetMechanismInfo", slot, ck.CKM_SHA256, None) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_GetMechanismInfo", slot, 0x4321, info) == "CKR_MECHANISM_INVALID"
    assert p11.rv("C_GetMechanismInfo", 4711, ck.CKM_SHA256, info) == "CKR_SLOT_ID_INVALID"
    p11("C_GetInterfaceList", None, count)
    few = c_ulong(1)
    assert p11.rv("C_GetInterfaceList", (c_ulong * 16)(), few) == "CKR_BUFFER_TOO_SMALL"
    assert p11.rv("C_GetInterfaceList", None, None) == "CKR_ARGUMENTS_BAD"
    place = c_ulong(0)
    p11("C_GetFunctionList", place)
    assert p11.rv("C_GetFunctionList", None) == "CKR_ARGUMENTS_BAD"
    p11("C_GetInterface", None, None, place, 0)
    assert p11.rv("C_GetInterface", None, None, None, 0) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_GetAttributeValue", session, 4711, None, 1) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_SetAttributeValue", session, 4711, None, 1) == "CKR_ARGUMENTS_BAD"
    assert p11.rv("C_CopyObject", session, 4711, None, 1, c_ulong(0)) == "CKR_ARGUMENTS_BAD"
    name = (b"name", 4)
    for user, pin, expected in (
        (99, b"user-pin", "CKR_USER_TYPE_INVALID"),
        (ck.CKU_CONTEXT_SPECIFIC, b"user-pin", "CKR_OPERATION_NOT_INITIALIZED"),
        (ck.CKU_USER, b"wrong-pin", "CKR_PIN_INCORRECT"),
        (ck.CKU_USER, b"user-pin", "CKR_OK"),
        (ck.CKU_USER, b"user-pin", "CKR_USER_ALREADY_LOGGED_IN"),
        (ck.CKU_SO, b"so-pin-1", "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"),
    ):
        assert p11.rv("C_LoginUser", session, user, pin, len(pin), *name) == expected
    p11("C_Logout", session)
    p11.open(slot, read_write=False)
    answer = p11.rv("C_LoginUser", session, ck.CKU_SO, b"so-pin-1", 8, *name)
    assert answer == "CKR_SESSION_READ_ONLY_EXISTS"


def test_a_slot_without_a_token(library: Cryptoki, configure: Callable[[str], None], tmp_path: Path) -> None:
    configure(f'[slots.gone]\nadapter = "there-is-none"\n[log]\ntarget = "{tmp_path / "log"}"\n')
    library("C_Initialize", None)
    try:
        (slot,) = library.slots()
        place, info = c_ulong(0), (c_ubyte * 512)()
        for call in (
            ("C_GetTokenInfo", slot, info),
            ("C_GetMechanismList", slot, None, place),
            ("C_GetMechanismInfo", slot, ck.CKM_SHA256, info),
            ("C_InitToken", slot, SO_PIN, len(SO_PIN), b"token".ljust(32)),
            ("C_OpenSession", slot, ck.CKF_SERIAL_SESSION, None, None, place),
        ):
            assert library.rv(*call) == "CKR_TOKEN_NOT_PRESENT", call[0]
    finally:
        library("C_Finalize", None)


@pytest.mark.parametrize("row", functions, ids=lambda row: row["name"])
def test_nothing_works_before_initialize(library: Cryptoki, row: dict[str, Any]) -> None:
    if row["name"] in ("C_Initialize", "C_GetFunctionList", "C_GetInterfaceList", "C_GetInterface"):
        pytest.skip("it may be called at any time")
    nothing = [None if argument["type"].endswith("_PTR") else 0 for argument in row["args"]]
    assert library.rv(row["name"], *nothing) == "CKR_CRYPTOKI_NOT_INITIALIZED"


def test_every_listed_value_is_provoked_or_explained() -> None:
    listed = json.loads((FACTS / "return-values-3.2.json").read_text())
    claimed = json.loads(CLAIMED.read_text())
    assert set(listed) == {row["name"] for row in functions}
    open_ones = [
        f"{function} {value}"
        for function, values in listed.items()
        for value in values
        if value not in claimed.get(function, {}) and why(function, value) is None
    ]
    assert open_ones == []


def test_no_reason_is_given_for_what_is_provoked() -> None:
    """A pair with a test needs no reason of its own; one that is there anyway is out of date."""
    from return_reasons import PAIRS

    claimed = json.loads(CLAIMED.read_text())
    assert [pair for pair in PAIRS if pair[1] in claimed.get(pair[0], {})] == []
