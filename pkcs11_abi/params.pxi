# Mechanism parameters, decoded by kind: length first, then inner pointers, then content. Every value is copied.

from ferrohsm.mechanisms import parameter_kind
from ferrohsm.parameters import (
    CbcEncryptData,
    Ccm,
    Ctr,
    Ecdh1,
    EdDsa,
    Gcm,
    Mechanism,
    ParameterKind,
    RsaAesKeyWrap,
    RsaOaep,
    RsaPss,
)

cdef enum:
    DATA_LIMIT = 0x7FFFFFFF  # the longest input of one call, in bytes: what every engine's int can hold
    PARAMETER_LIMIT = 0x100000  # the longest parameter and the longest string inside one, in bytes

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


cdef decoder_t DECODERS[17]
cdef dict DECODER_OF = {}


cdef void file_decoder(str kind, decoder_t decoder):
    cdef int place = len(DECODER_OF)
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
