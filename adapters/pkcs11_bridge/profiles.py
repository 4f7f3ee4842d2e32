"""What is particular about each backend, as data: one row a product.

``profile = "NAME"`` in the slot's section chooses one. A row that is not `verified` says what the vendor's
public documents (`sources`) say, and nobody here has tried it.
``docs/bridge.md`` shows this table.
"""

from __future__ import annotations

from typing import NamedTuple

from ferrohsm import constants as ck


class Profile(NamedTuple):
    """A backend's particulars.

    `module`: where its library usually is. `init`: what ``C_Initialize`` wants in ``pReserved`` ("" when
    nothing). `pin`: how a PIN looks. `os_locking`: it takes calls of several threads (``CKF_OS_LOCKING_OK``);
    else they come one by one. `sessions`: the most sessions to open (0: as many as needed). `edwards_point`:
    how it wants ``CKA_EC_POINT`` of Edwards and Montgomery keys, "der" or "raw". `one_by_one`: it tells
    the truth only about an attribute that is asked for alone. `silent`: attributes that it
    refuses to be told. `notes`: what an administrator should know.
    """

    name: str
    product: str
    module: str
    sources: tuple[str, ...]
    verified: bool
    init: str = ""
    pin: str = "any text"
    os_locking: bool = True
    sessions: int = 0
    edwards_point: str = "der"
    one_by_one: bool = False
    silent: frozenset[int] = frozenset()
    notes: str = ""


GENERIC = Profile(
    "generic",
    "any module of PKCS#11 2.40 or later",
    "",
    ("https://docs.oasis-open.org/pkcs11/pkcs11-base/v2.40/pkcs11-base-v2.40.html",),
    False,
    notes="The standard, no quirks. The default.",
)

_TABLE = (
    GENERIC,
    Profile(
        "softhsm2",
        "SoftHSM 2",
        "/usr/lib/softhsm/libsofthsm2.so",
        ("https://github.com/opendnssec/SoftHSMv2",),
        True,
        pin="4 to 255 bytes",
        notes="Configuration by the variable SOFTHSM2_CONF of the host's environment. No CKA_UNIQUE_ID. "
        "A token that was just initialized keeps its slot until the process ends.",
    ),
    Profile(
        "nss",
        "NSS softoken (libsoftokn3)",
        "/usr/lib/x86_64-linux-gnu/libsoftokn3.so",
        ("https://firefox-source-docs.mozilla.org/security/nss/legacy/reference/nss_initialize/index.html",),
        True,
        init="configdir='sql:DIRECTORY' certPrefix='' keyPrefix='' secmod='secmod.db' flags=",
        # Asked for several at once, it calls a private key in its database neither private nor sensitive.
        one_by_one=True,
        # Softoken answers CKR_ATTRIBUTE_TYPE_INVALID or keeps such attributes only on some classes.
        silent=frozenset((ck.CKA_SIGN_RECOVER, ck.CKA_VERIFY_RECOVER)),
        # Versions that have such keys refuse the octet string.
        edwards_point="raw",
        notes="Two slots: the first is for cryptography without login and keeps no token objects, the second "
        "is the database's. The user's PIN is set with C_InitPIN on a new database, whose first SO PIN is "
        "empty; C_InitToken resets a database.",
    ),
    Profile(
        "kryoptic",
        "Kryoptic",
        "/usr/lib/x86_64-linux-gnu/pkcs11/libkryoptic_pkcs11.so",
        ("https://docs.rs/crate/kryoptic-lib/latest/source/doc/User_Guide.md",),
        False,
        init="kryoptic_conf=/path/to/token.conf (or the file that KRYOPTIC_CONF names)",
        edwards_point="raw",
        notes="PKCS#11 3.2; without an init string it looks for token.conf in the user's and the system's "
        "configuration directories.",
    ),
    Profile(
        "luna",
        "Thales Luna HSM 7",
        "/usr/safenet/lunaclient/lib/libCryptoki2_64.so",
        (
            "https://thalesdocs.com/gphsm/luna/7/docs/usb/Content/install/client_install/dynamic_partition_loading.htm",
        ),
        False,
        notes="Configuration in Chrystoki.conf; the user of PKCS#11 is the partition's Crypto Officer. "
        "Functions of the vendor's own (CA_*) are not forwarded.",
    ),
    Profile(
        "nshield",
        "Entrust nShield",
        "/opt/nfast/toolkits/pkcs11/libcknfast.so",
        (
            "https://nshielddocs.entrust.com/security-world-docs/v13.6.3/api-pkcs11/env-variables.html",
            "https://nshielddocs.entrust.com/security-world-docs/v13.6.3/api-pkcs11/no-load-sharing-or-pool-mode.html",
        ),
        False,
        notes="Settings by CKNFAST_* in the environment or in /opt/nfast/cknfastrc. The accelerator slot "
        "takes no login and no private objects: choose the card set's slot by token_label, or set "
        "CKNFAST_NO_ACCELERATOR_SLOTS. CKNFAST_ASSUME_SINGLE_PROCESS=0 shows objects of other processes. "
        "C_InitToken is not for FIPS 140 Level 3 Security Worlds without load sharing.",
    ),
    Profile(
        "cloudhsm",
        "AWS CloudHSM, Client SDK 5",
        "/opt/cloudhsm/lib/libcloudhsm_pkcs11.so",
        (
            "https://docs.aws.amazon.com/cloudhsm/latest/userguide/pkcs11-library.html",
            "https://docs.aws.amazon.com/cloudhsm/latest/userguide/ki-pkcs11-sdk.html",
        ),
        False,
        pin="USER:PASSWORD of a crypto user",
        notes="No read-only sessions (the bridge opens read-write ones). At most 16 KB a call with AES-GCM. "
        "Users and tokens are managed with the vendor's command, not with C_InitToken and C_InitPIN.",
    ),
    Profile(
        "yubihsm2",
        "Yubico YubiHSM 2",
        "/usr/lib/x86_64-linux-gnu/pkcs11/yubihsm_pkcs11.so",
        ("https://docs.yubico.com/hardware/yubihsm-2/hsm-2-user-guide/hsm2-pkcs11-guide.html",),
        False,
        init="connector=http://127.0.0.1:12345 (or the file that YUBIHSM_PKCS11_CONF names)",
        pin="the authentication key's id as 4 hexadecimal digits, then its password",
        sessions=16,
        notes="Everything of interest needs a login. The device has 16 sessions for all its clients.",
    ),
    Profile(
        "utimaco",
        "Utimaco CryptoServer, PKCS#11 R2",
        "/usr/lib/libcs_pkcs11_R2.so",
        ("https://crypto-hsm.com/Utimaco_PKCS11_ENG_Guide",),
        False,
        notes="Configuration in cs_pkcs11_R2.cfg, which the variable CS_PKCS11_R2_CFG names.",
    ),
    Profile(
        "nethsm",
        "Nitrokey NetHSM",
        "/usr/lib/nitrokey/libnethsm_pkcs11.so",
        ("https://docs.nitrokey.com/nethsm/pkcs11-setup.html",),
        False,
        pin="the operator's password",
        notes="Configuration in /etc/nitrokey/p11nethsm.conf and its like, or in the file that "
        "P11NETHSM_CONFIG_FILE names. Keys are made and destroyed by the administrator (the SO) "
        "and used by the operator (the user).",
    ),
)

PROFILES = {profile.name: profile for profile in _TABLE}
