"""The rows of the mechanism table for ciphers and their MACs: AES, Camellia, ARIA, ChaCha20, DES."""

from __future__ import annotations

from ferrohsm import constants as ck
from ferrohsm.adapters import Function
from ferrohsm.mechanism_row import CRYPT, SIGN, WRAP, Row
from ferrohsm.parameters import ParameterKind

_BOTH = CRYPT | WRAP
_MESSAGES = Function.MESSAGE_ENCRYPT | Function.MESSAGE_DECRYPT
_GENERATE = Function.GENERATE


def _aes() -> list[Row]:
    kind, key, xts = ParameterKind, (ck.CKK_AES,), (ck.CKK_AES_XTS,)
    return [
        Row(ck.CKM_AES_KEY_GEN, _GENERATE, (), kind.NONE, 16, 32, "secret", produces=ck.CKK_AES),
        Row(ck.CKM_AES_ECB, _BOTH, key, kind.NONE, 16, 32, "aes"),
        Row(ck.CKM_AES_CBC, _BOTH, key, kind.IV16, 16, 32, "aes"),
        Row(ck.CKM_AES_CBC_PAD, _BOTH, key, kind.IV16, 16, 32, "aes"),
        Row(ck.CKM_AES_CTR, _BOTH, key, kind.CTR, 16, 32, "aes"),
        Row(ck.CKM_AES_GCM, _BOTH | _MESSAGES, key, kind.GCM, 16, 32, "aes", flags=ck.CKF_MULTI_MESSAGE),
        Row(ck.CKM_AES_CCM, _BOTH | _MESSAGES, key, kind.CCM, 16, 32, "aes", flags=ck.CKF_MULTI_MESSAGE),
        Row(ck.CKM_AES_OFB, _BOTH, key, kind.IV16, 16, 32, "modes"),
        Row(ck.CKM_AES_CFB1, _BOTH, key, kind.IV16, 16, 32, "modes"),
        Row(ck.CKM_AES_CFB8, _BOTH, key, kind.IV16, 16, 32, "modes"),
        Row(ck.CKM_AES_CFB128, _BOTH, key, kind.IV16, 16, 32, "modes"),
        Row(ck.CKM_AES_CTS, _BOTH, key, kind.IV16, 16, 32, "modes"),
        Row(ck.CKM_AES_XTS_KEY_GEN, _GENERATE, (), kind.NONE, 32, 64, "secret", produces=ck.CKK_AES_XTS),
        Row(ck.CKM_AES_XTS, _BOTH, xts, kind.IV16, 32, 64, "modes"),
        Row(ck.CKM_AES_CMAC, SIGN, key, kind.NONE, 16, 32, "cmac"),
        Row(ck.CKM_AES_CMAC_GENERAL, SIGN, key, kind.ULONG, 16, 32, "cmac"),
        Row(ck.CKM_AES_MAC, SIGN, key, kind.NONE, 16, 32, "cbc_mac"),
        Row(ck.CKM_AES_MAC_GENERAL, SIGN, key, kind.ULONG, 16, 32, "cbc_mac"),
        Row(ck.CKM_AES_XCBC_MAC, SIGN, key, kind.NONE, 16, 16, "xcbc_mac"),
        Row(ck.CKM_AES_XCBC_MAC_96, SIGN, key, kind.NONE, 16, 16, "xcbc_mac"),
        Row(ck.CKM_AES_GMAC, SIGN, key, kind.GCM, 16, 32, "gmac"),
        Row(ck.CKM_AES_KEY_WRAP, _BOTH, key, kind.IV8, 16, 32, "aes_key_wrap", None, True),
        # Deprecated and never defined twice alike; this is RFC 5649, as SoftHSM2 has it.
        Row(ck.CKM_AES_KEY_WRAP_PAD, _BOTH, key, kind.IV4, 16, 32, "aes_key_wrap", None, True),
        Row(ck.CKM_AES_KEY_WRAP_KWP, _BOTH, key, kind.IV4, 16, 32, "aes_key_wrap", None, True),
        Row(ck.CKM_AES_KEY_WRAP_PKCS7, _BOTH, key, kind.IV8, 16, 32, "aes_key_wrap", None, True),
        Row(ck.CKM_AES_ECB_ENCRYPT_DATA, Function.DERIVE, key, kind.STRING, 16, 32, "derive"),
        Row(ck.CKM_AES_CBC_ENCRYPT_DATA, Function.DERIVE, key, kind.CBC_ENCRYPT_DATA, 16, 32, "derive"),
    ]


def _sixteen(name: str, key_type: int) -> list[Row]:
    """Return what Camellia and ARIA have, whose blocks and keys are as long as those of AES."""
    kind, key, derive = ParameterKind, (key_type,), Function.DERIVE

    def of(suffix: str) -> int:
        return int(getattr(ck, f"CKM_{name}_{suffix}"))

    return [
        Row(of("KEY_GEN"), _GENERATE, (), kind.NONE, 16, 32, "secret", produces=key_type),
        Row(of("ECB"), _BOTH, key, kind.NONE, 16, 32, "modes"),
        Row(of("CBC"), _BOTH, key, kind.IV16, 16, 32, "modes"),
        Row(of("CBC_PAD"), _BOTH, key, kind.IV16, 16, 32, "modes"),
        Row(of("MAC"), SIGN, key, kind.NONE, 16, 32, "cbc_mac"),
        Row(of("MAC_GENERAL"), SIGN, key, kind.ULONG, 16, 32, "cbc_mac"),
        Row(of("ECB_ENCRYPT_DATA"), derive, key, kind.STRING, 16, 32, "derive"),
        Row(of("CBC_ENCRYPT_DATA"), derive, key, kind.CBC_ENCRYPT_DATA, 16, 32, "derive"),
    ]


def _camellia() -> list[Row]:
    counter = Row(ck.CKM_CAMELLIA_CTR, _BOTH, (ck.CKK_CAMELLIA,), ParameterKind.CTR, 16, 32, "modes")
    return [*_sixteen("CAMELLIA", ck.CKK_CAMELLIA), counter]


def _chacha20() -> list[Row]:
    kind, key = ParameterKind, (ck.CKK_CHACHA20,)
    return [
        Row(ck.CKM_CHACHA20_KEY_GEN, _GENERATE, (), kind.NONE, 32, 32, "secret", produces=ck.CKK_CHACHA20),
        Row(ck.CKM_CHACHA20, _BOTH, key, kind.CHACHA20, 256, 256, "modes"),
        Row(
            ck.CKM_CHACHA20_POLY1305,
            CRYPT | _MESSAGES,
            key,
            kind.CHACHA20_POLY1305,
            256,
            256,
            "modes",
            flags=ck.CKF_MULTI_MESSAGE,
        ),
        Row(ck.CKM_POLY1305_KEY_GEN, _GENERATE, (), kind.NONE, 32, 32, "secret", produces=ck.CKK_POLY1305),
        Row(ck.CKM_POLY1305, SIGN, (ck.CKK_POLY1305,), kind.NONE, 256, 256, "poly1305"),
    ]


def _des() -> list[Row]:
    """Return what the configuration has to ask for (``[mechanisms] weak``)."""
    kind, single, triple, derive = ParameterKind, (ck.CKK_DES,), (ck.CKK_DES2, ck.CKK_DES3), Function.DERIVE
    rows = [
        Row(ck.CKM_DES_KEY_GEN, _GENERATE, (), kind.NONE, 8, 8, "secret", produces=ck.CKK_DES),
        Row(ck.CKM_DES2_KEY_GEN, _GENERATE, (), kind.NONE, 16, 16, "secret", produces=ck.CKK_DES2),
        Row(ck.CKM_DES3_KEY_GEN, _GENERATE, (), kind.NONE, 24, 24, "secret", produces=ck.CKK_DES3),
        Row(ck.CKM_DES_OFB64, CRYPT, single, kind.IV64, 8, 8, "modes"),
        Row(ck.CKM_DES_CFB64, CRYPT, single, kind.IV64, 8, 8, "modes"),
        Row(ck.CKM_DES_CFB8, CRYPT, single, kind.IV64, 8, 8, "modes"),
        Row(ck.CKM_DES3_CMAC, SIGN, triple, kind.NONE, 16, 24, "cmac"),
        Row(ck.CKM_DES3_CMAC_GENERAL, SIGN, triple, kind.ULONG, 16, 24, "cmac"),
    ]
    for name, key, sizes in (("DES", single, (8, 8)), ("DES3", triple, (16, 24))):

        def of(suffix: str, name: str = name) -> int:
            return int(getattr(ck, f"CKM_{name}_{suffix}"))

        rows += [
            Row(of("ECB"), _BOTH, key, kind.NONE, *sizes, "modes"),
            Row(of("CBC"), _BOTH, key, kind.IV64, *sizes, "modes"),
            Row(of("CBC_PAD"), _BOTH, key, kind.IV64, *sizes, "modes"),
            Row(of("MAC"), SIGN, key, kind.NONE, *sizes, "cbc_mac"),
            Row(of("MAC_GENERAL"), SIGN, key, kind.ULONG, *sizes, "cbc_mac"),
            Row(of("ECB_ENCRYPT_DATA"), derive, key, kind.STRING, *sizes, "derive"),
            Row(of("CBC_ENCRYPT_DATA"), derive, key, kind.DES_CBC_ENCRYPT_DATA, *sizes, "derive"),
        ]
    return [row._replace(weak=True) for row in rows]


def rows() -> list[Row]:
    """Return the rows."""
    return [*_aes(), *_camellia(), *_sixteen("ARIA", ck.CKK_ARIA), *_chacha20(), *_des()]
