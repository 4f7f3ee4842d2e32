# Mechanism parameters, decoded by kind: length first, then inner pointers, then content. Every value is copied.

from ferrohsm.mechanisms import parameter_kind
from ferrohsm.parameters import (
    CbcEncryptData,
    Ccm,
    ChaCha20,
    ChaCha20Poly1305,
    Ctr,
    DkmLength,
    Ecdh1,
    EcdhAesKeyWrap,
    EdDsa,
    Gcm,
    Hkdf,
    Ike1Prf,
    IkeExpansion,
    IkePrf,
    IntegerFormat,
    KeyReference,
    Mechanism,
    OtpParameters,
    ParameterKind,
    Pbe,
    Pbkd2,
    PrfData,
    RsaAesKeyWrap,
    RsaOaep,
    RsaPss,
    Secret,
    SignContext,
    Sp800108,
    SshKdf,
    TlsKdf,
    TlsKeyMaterial,
    TlsMac,
    TlsMaster,
    replace_keys,
)

cdef enum:
    DATA_LIMIT = 0x7FFFFFFF  # the longest input of one call, in bytes: what every engine's int can hold
    PARAMETER_LIMIT = 0x100000  # the longest parameter and the longest string inside one, in bytes
    PIECES_LIMIT = 1000  # the longest array inside a parameter, in elements
    KINDS = 64  # room for the parameters' kinds

ctypedef object (*decoder_t)(const CK_BYTE *parameter, CK_ULONG length)


cdef object wrong_parameter():
    return errors.MechanismParamInvalid()


cdef bytes inner(const void *pointer, CK_ULONG length):
    """Copy what a pointer inside a parameter names."""
    if length == 0:
        return b""
    if pointer == NULL or length > PARAMETER_LIMIT:
        raise wrong_parameter()
    return PyBytes_FromStringAndSize(<const char *>pointer, <Py_ssize_t>length)


cdef object secret(const void *pointer, CK_ULONG length):
    """Copy a secret that a pointer inside a parameter names; the copy ends overwritten, whoever has it last."""
    if length > PARAMETER_LIMIT or (pointer == NULL and length != 0):
        raise wrong_parameter()
    copy = Secret(length)
    if length != 0:
        memcpy(PyByteArray_AS_STRING(copy), pointer, length)
    return copy


cdef bytes exactly(const CK_BYTE *parameter, CK_ULONG length, CK_ULONG wanted):
    if length != wanted:
        raise wrong_parameter()
    return PyBytes_FromStringAndSize(<const char *>parameter, <Py_ssize_t>length)


cdef object decode_none(const CK_BYTE *parameter, CK_ULONG length):
    if length != 0:
        raise wrong_parameter()
    return None


cdef object decode_iv16(const CK_BYTE *parameter, CK_ULONG length):
    return exactly(parameter, length, 16)


cdef object decode_iv8(const CK_BYTE *parameter, CK_ULONG length):
    return None if length == 0 else exactly(parameter, length, 8)


cdef object decode_iv4(const CK_BYTE *parameter, CK_ULONG length):
    return None if length == 0 else exactly(parameter, length, 4)


cdef object decode_iv64(const CK_BYTE *parameter, CK_ULONG length):
    return exactly(parameter, length, 8)


cdef object decode_bytes(const CK_BYTE *parameter, CK_ULONG length):
    return inner(parameter, length)


cdef object decode_ulong(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_ULONG value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return value


cdef object decode_ctr(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_AES_CTR_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return Ctr(value.ulCounterBits, value.cb[:16])


cdef object decode_gcm(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_GCM_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return Gcm(inner(value.pIv, value.ulIvLen), value.ulIvBits, inner(value.pAAD, value.ulAADLen), value.ulTagBits)


cdef object decode_ccm(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_CCM_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    nonce = inner(value.pNonce, value.ulNonceLen)
    return Ccm(value.ulDataLen, nonce, inner(value.pAAD, value.ulAADLen), value.ulMACLen)


cdef object decode_rsa_pss(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_RSA_PKCS_PSS_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return RsaPss(value.hashAlg, value.mgf, value.sLen)


cdef object decode_rsa_oaep(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_RSA_PKCS_OAEP_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return RsaOaep(value.hashAlg, value.mgf, value.source, inner(value.pSourceData, value.ulSourceDataLen))


cdef object decode_ecdh1(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_ECDH1_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    shared = inner(value.pSharedData, value.ulSharedDataLen)
    return Ecdh1(value.kdf, shared, inner(value.pPublicData, value.ulPublicDataLen))


cdef object decode_eddsa(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_EDDSA_PARAMS value
    if length == 0:
        return None
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return EdDsa(value.phFlag != 0, inner(value.pContextData, value.ulContextDataLen))


cdef object decode_string(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_KEY_DERIVATION_STRING_DATA value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return inner(value.pData, value.ulLen)


cdef object decode_cbc_encrypt_data(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_AES_CBC_ENCRYPT_DATA_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return CbcEncryptData(value.iv[:16], inner(value.pData, value.length))


cdef object decode_rsa_aes_key_wrap(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_RSA_AES_KEY_WRAP_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    if value.pOAEPParams == NULL:
        raise wrong_parameter()
    oaep = decode_rsa_oaep(<const CK_BYTE *>value.pOAEPParams, sizeof(CK_RSA_PKCS_OAEP_PARAMS))
    return RsaAesKeyWrap(value.ulAESKeyBits, oaep)


cdef object decode_key(const CK_BYTE *parameter, CK_ULONG length):
    return KeyReference(decode_ulong(parameter, length))


cdef object decode_des_cbc_encrypt_data(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_DES_CBC_ENCRYPT_DATA_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return CbcEncryptData(value.iv[:8], inner(value.pData, value.length))


cdef bytes whole_bytes(const void *pointer, CK_ULONG bits):
    if bits % 8 != 0:
        raise wrong_parameter()
    return inner(pointer, bits // 8)


cdef object decode_chacha20(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_CHACHA20_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return ChaCha20(
        whole_bytes(value.pBlockCounter, value.blockCounterBits), whole_bytes(value.pNonce, value.ulNonceBits)
    )


cdef object decode_chacha20_poly1305(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_SALSA20_CHACHA20_POLY1305_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    # The specification counts the nonce in bits (64, 96, 192), most programs in bytes: no number is both.
    if value.ulNonceLen < 64:
        value.ulNonceLen *= 8
    return ChaCha20Poly1305(whole_bytes(value.pNonce, value.ulNonceLen), inner(value.pAAD, value.ulAADLen))


cdef object decode_hkdf(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_HKDF_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    salt = None
    if value.bExtract:
        if value.ulSaltType == CKF_HKDF_SALT_DATA:
            salt = inner(value.pSalt, value.ulSaltLen)
        elif value.ulSaltType == CKF_HKDF_SALT_KEY:
            salt = KeyReference(value.hSaltKey)
        elif value.ulSaltType != CKF_HKDF_SALT_NULL:
            raise wrong_parameter()
    info = inner(value.pInfo, value.ulInfoLen) if value.bExpand else b""
    return Hkdf(value.bExtract != 0, value.bExpand != 0, value.prfHashMechanism, salt, info)


cdef object integer_format(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_SP800_108_COUNTER_FORMAT value
    if parameter == NULL or length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return IntegerFormat(value.bLittleEndian != 0, value.ulWidthInBits)


cdef object length_format(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_SP800_108_DKM_LENGTH_FORMAT value
    if parameter == NULL or length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return DkmLength(value.dkmLengthMethod, value.bLittleEndian != 0, value.ulWidthInBits)


cdef object prf_value(const CK_PRF_DATA_PARAM *piece):
    cdef const CK_BYTE *start = <const CK_BYTE *>piece.pValue
    if piece.type == CK_SP800_108_ITERATION_VARIABLE:
        return None if start == NULL and piece.ulValueLen == 0 else integer_format(start, piece.ulValueLen)
    if piece.type == CK_SP800_108_COUNTER:
        return integer_format(start, piece.ulValueLen)
    if piece.type == CK_SP800_108_DKM_LENGTH:
        return length_format(start, piece.ulValueLen)
    if piece.type == CK_SP800_108_KEY_HANDLE and start != NULL:
        return decode_key(start, piece.ulValueLen)
    if piece.type != CK_SP800_108_BYTE_ARRAY or piece.ulValueLen == 0:
        raise wrong_parameter()
    return inner(start, piece.ulValueLen)


cdef tuple prf_data(const CK_PRF_DATA_PARAM *pieces, CK_ULONG count):
    cdef CK_PRF_DATA_PARAM piece
    cdef CK_ULONG i
    if count > PIECES_LIMIT or (pieces == NULL and count != 0):
        raise wrong_parameter()
    found = []
    for i in range(count):
        piece = pieces[i]
        found.append(PrfData(piece.type, prf_value(&piece)))
    return tuple(found)


cdef object decode_sp800_108(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_SP800_108_KDF_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    if value.ulAdditionalDerivedKeys != 0:
        raise wrong_parameter()
    return Sp800108(value.prfType, prf_data(value.pDataParams, value.ulNumberOfDataParams))


cdef object decode_sp800_108_feedback(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_SP800_108_FEEDBACK_KDF_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    if value.ulAdditionalDerivedKeys != 0:
        raise wrong_parameter()
    data = prf_data(value.pDataParams, value.ulNumberOfDataParams)
    return Sp800108(value.prfType, data, inner(value.pIV, value.ulIVLen))


cdef object decode_pbkd2(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_PKCS5_PBKD2_PARAMS2 value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    if value.saltSource != CKZ_SALT_SPECIFIED or value.pPrfData != NULL or value.ulPrfDataLen != 0:
        raise wrong_parameter()
    cdef CK_ULONG password_length = value.ulPasswordLen
    # CK_PKCS5_PBKD2_PARAMS of before 2.40 is as long and has a pointer to the length here; NSS still fills in that one.
    if password_length > PARAMETER_LIMIT and not ferro_peek(value.ulPasswordLen, &password_length):
        raise wrong_parameter()
    salt = inner(value.pSaltSourceData, value.ulSaltSourceDataLen)
    return Pbkd2(salt, value.iterations, value.prf, secret(value.pPassword, password_length))


cdef object decode_pbe(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_PBE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    salt = inner(value.pSalt, value.ulSaltLen)
    return Pbe(salt, value.ulIteration, secret(value.pPassword, value.ulPasswordLen), bytearray())


cdef CK_BYTE *vector_of(const CK_MECHANISM *mechanism, object parameter) noexcept:
    """Where the initialization vector of a password goes, NULL for nowhere."""
    cdef CK_PBE_PARAMS value
    if not isinstance(parameter, Pbe) or mechanism.mechanism == CKM_PBA_SHA1_WITH_SHA1_HMAC:
        return NULL
    memcpy(&value, mechanism.pParameter, sizeof(value))
    return value.pInitVector


cdef object decode_ecdh_aes_key_wrap(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_ECDH_AES_KEY_WRAP_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return EcdhAesKeyWrap(value.ulAESKeyBits, value.kdf, inner(value.pSharedData, value.ulSharedDataLen))


cdef object decode_sign_context(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_SIGN_ADDITIONAL_CONTEXT value
    if length == 0:
        return None
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return SignContext(value.hedgeVariant, inner(value.pContext, value.ulContextLen))


cdef object decode_hash_sign_context(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_HASH_SIGN_ADDITIONAL_CONTEXT value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return SignContext(value.hedgeVariant, inner(value.pContext, value.ulContextLen), value.hash)


cdef object decode_x9_42_dh(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_X9_42_DH1_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return Ecdh1(
        value.kdf, inner(value.pOtherInfo, value.ulOtherInfoLen), inner(value.pPublicData, value.ulPublicDataLen)
    )


cdef bytes randoms(const CK_SSL3_RANDOM_DATA *data, bint server_first):
    client = inner(data.pClientRandom, data.ulClientRandomLen)
    server = inner(data.pServerRandom, data.ulServerRandomLen)
    return server + client if server_first else client + server


cdef object decode_tls12_master(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_TLS12_MASTER_KEY_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    version = None if value.pVersion == NULL else bytearray(2)
    return TlsMaster(randoms(&value.RandomInfo, False), value.prfHashMechanism, version)


cdef object decode_tls12_extended_master(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    version = None if value.pVersion == NULL else bytearray(2)
    return TlsMaster(inner(value.pSessionHash, value.ulSessionHashLen), value.prfHashMechanism, version)


cdef CK_VERSION *place_of_version(const CK_MECHANISM *mechanism) noexcept:
    """Where the parameter says that the version of the pre-master secret goes."""
    if mechanism.mechanism == CKM_TLS12_MASTER_KEY_DERIVE:
        return (<CK_TLS12_MASTER_KEY_DERIVE_PARAMS *>mechanism.pParameter).pVersion
    return (<CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS *>mechanism.pParameter).pVersion


cdef void put_version(CK_VERSION *place, object version) noexcept:
    """Hand out the version that the pre-master secret has."""
    if place != NULL and version is not None:
        place.major, place.minor = version[0], version[1]


cdef object decode_tls12_key_material(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_TLS12_KEY_MAT_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    if value.bIsExport or value.pReturnedKeyMaterial == NULL:
        raise wrong_parameter()
    seed = randoms(&value.RandomInfo, True)
    return TlsKeyMaterial(
        value.ulMacSizeInBits, value.ulKeySizeInBits, value.ulIVSizeInBits, seed, value.prfHashMechanism
    )


cdef object decode_tls_kdf(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_TLS_KDF_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    seed = randoms(&value.RandomInfo, False)
    if value.pContextData != NULL:  # an empty context is another than none
        if value.ulContextDataLength > 0xFFFF:
            raise wrong_parameter()
        seed += value.ulContextDataLength.to_bytes(2, "big") + inner(value.pContextData, value.ulContextDataLength)
    elif value.ulContextDataLength != 0:
        raise wrong_parameter()
    return TlsKdf(value.prfMechanism, inner(value.pLabel, value.ulLabelLength), seed)


cdef object decode_tls_mac(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_TLS_MAC_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    return TlsMac(value.prfHashMechanism, value.ulMacLength, value.ulServerOrClient)


cdef object decode_ike_prf(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_IKE_PRF_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    if value.bDataAsKey and value.bRekey:
        raise errors.ArgumentsBad()
    nonces = inner(value.pNi, value.ulNiLen) + inner(value.pNr, value.ulNrLen)
    new_key = KeyReference(value.hNewKey) if value.bRekey else None
    return IkePrf(value.prfMechanism, value.bDataAsKey != 0, nonces, new_key)


cdef object decode_ike1_prf(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_IKE1_PRF_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    data = inner(value.pCKYi, value.ulCKYiLen) + inner(value.pCKYr, value.ulCKYrLen) + bytes((value.keyNumber,))
    previous = KeyReference(value.hPrevKey) if value.bHasPrevKey else None
    return Ike1Prf(value.prfMechanism, KeyReference(value.hKeygxy), previous, data)


cdef object decode_ike1_extended(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_IKE1_EXTENDED_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    key = KeyReference(value.hKeygxy) if value.bHasKeygxy else None
    return IkeExpansion(value.prfMechanism, key, inner(value.pExtraData, value.ulExtraDataLen))


cdef object decode_ike2_prf_plus(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_IKE2_PRF_PLUS_DERIVE_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    key = KeyReference(value.hSeedKey) if value.bHasSeedKey else None
    return IkeExpansion(value.prfMechanism, key, inner(value.pSeedData, value.ulSeedDataLen))


cdef object decode_ssh_kdf(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_KRYOPTIC_SSHKDF_PARAMS value
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    exchange_hash = inner(value.pExchangeHash, value.ulExchangeHashLen)
    session_id = inner(value.pSessionId, value.ulSessionIdLen)
    return SshKdf(value.prfHashMechanism, value.derivedKeyType, exchange_hash, session_id)


cdef object otp_value(const CK_OTP_PARAM *piece):
    if piece.type == CK_OTP_PIN:
        return b""  # no mechanism here uses one, and what is not copied cannot be left behind
    if piece.type == CK_OTP_FLAGS or piece.type == CK_OTP_OUTPUT_LENGTH or piece.type == CK_OTP_OUTPUT_FORMAT:
        if piece.pValue == NULL:
            raise wrong_parameter()
        return decode_ulong(<const CK_BYTE *>piece.pValue, piece.ulValueLen)
    return inner(piece.pValue, piece.ulValueLen)


cdef object decode_otp(const CK_BYTE *parameter, CK_ULONG length):
    cdef CK_OTP_PARAMS value
    cdef CK_OTP_PARAM piece
    cdef CK_ULONG i
    if length == 0:
        return OtpParameters()
    if length != sizeof(value):
        raise wrong_parameter()
    memcpy(&value, parameter, sizeof(value))
    if value.ulCount > PIECES_LIMIT or (value.pParams == NULL and value.ulCount != 0):
        raise wrong_parameter()
    given = []
    for i in range(value.ulCount):
        piece = value.pParams[i]
        given.append((piece.type, otp_value(&piece)))
    return OtpParameters(tuple(given))


cdef decoder_t DECODERS[KINDS]
cdef dict DECODER_OF = {}


cdef void file_decoder(str kind, decoder_t decoder):
    cdef int place = len(DECODER_OF)
    if place == KINDS:
        raise RuntimeError("no room for another kind of parameter")
    DECODERS[place] = decoder
    DECODER_OF[kind] = place


file_decoder(ParameterKind.NONE, decode_none)
file_decoder(ParameterKind.IV16, decode_iv16)
file_decoder(ParameterKind.IV8, decode_iv8)
file_decoder(ParameterKind.IV4, decode_iv4)
file_decoder(ParameterKind.ULONG, decode_ulong)
file_decoder(ParameterKind.CTR, decode_ctr)
file_decoder(ParameterKind.GCM, decode_gcm)
file_decoder(ParameterKind.CCM, decode_ccm)
file_decoder(ParameterKind.RSA_PSS, decode_rsa_pss)
file_decoder(ParameterKind.RSA_OAEP, decode_rsa_oaep)
file_decoder(ParameterKind.ECDH1, decode_ecdh1)
file_decoder(ParameterKind.EDDSA, decode_eddsa)
file_decoder(ParameterKind.STRING, decode_string)
file_decoder(ParameterKind.CBC_ENCRYPT_DATA, decode_cbc_encrypt_data)
file_decoder(ParameterKind.RSA_AES_KEY_WRAP, decode_rsa_aes_key_wrap)
file_decoder(ParameterKind.BYTES, decode_bytes)
file_decoder(ParameterKind.IV64, decode_iv64)
file_decoder(ParameterKind.KEY, decode_key)
file_decoder(ParameterKind.CHACHA20, decode_chacha20)
file_decoder(ParameterKind.CHACHA20_POLY1305, decode_chacha20_poly1305)
file_decoder(ParameterKind.DES_CBC_ENCRYPT_DATA, decode_des_cbc_encrypt_data)
file_decoder(ParameterKind.HKDF, decode_hkdf)
file_decoder(ParameterKind.SP800_108, decode_sp800_108)
file_decoder(ParameterKind.SP800_108_FEEDBACK, decode_sp800_108_feedback)
file_decoder(ParameterKind.PBKD2, decode_pbkd2)
file_decoder(ParameterKind.ECDH_AES_KEY_WRAP, decode_ecdh_aes_key_wrap)
file_decoder(ParameterKind.SIGN_CONTEXT, decode_sign_context)
file_decoder(ParameterKind.HASH_SIGN_CONTEXT, decode_hash_sign_context)
file_decoder(ParameterKind.X9_42_DH, decode_x9_42_dh)
file_decoder(ParameterKind.TLS12_MASTER, decode_tls12_master)
file_decoder(ParameterKind.TLS12_EXTENDED_MASTER, decode_tls12_extended_master)
file_decoder(ParameterKind.TLS12_KEY_MATERIAL, decode_tls12_key_material)
file_decoder(ParameterKind.TLS_KDF, decode_tls_kdf)
file_decoder(ParameterKind.TLS_MAC, decode_tls_mac)
file_decoder(ParameterKind.IKE_PRF, decode_ike_prf)
file_decoder(ParameterKind.IKE1_PRF, decode_ike1_prf)
file_decoder(ParameterKind.IKE1_EXTENDED, decode_ike1_extended)
file_decoder(ParameterKind.IKE2_PRF_PLUS, decode_ike2_prf_plus)
file_decoder(ParameterKind.SSH_KDF, decode_ssh_kdf)
file_decoder(ParameterKind.PBE, decode_pbe)
file_decoder(ParameterKind.OTP, decode_otp)


cdef object read_mechanism(const CK_MECHANISM *mechanism):
    """Return the caller's mechanism as the core knows it."""
    cdef CK_MECHANISM value = mechanism[0]
    kind = parameter_kind(value.mechanism)
    if kind is None:
        raise errors.MechanismInvalid()
    if value.ulParameterLen > PARAMETER_LIMIT or (value.pParameter == NULL and value.ulParameterLen != 0):
        raise wrong_parameter()
    cdef int place = DECODER_OF[kind]
    return Mechanism(value.mechanism, DECODERS[place](<const CK_BYTE *>value.pParameter, value.ulParameterLen))


cdef class Identities:
    """Turns the handle of a key that a parameter names into its identity, for one call."""

    cdef ferro_session *session

    def __call__(self, handle):
        return object_id(self.session, handle, errors.KeyHandleInvalid)


cdef object read_mechanism_with_keys(ferro_session *session, const CK_MECHANISM *mechanism):
    """Return the caller's mechanism, the keys that its parameter names found."""
    cdef Identities identities = Identities()
    identities.session = session
    read = read_mechanism(mechanism)
    return read._replace(parameter=replace_keys(read.parameter, identities))
