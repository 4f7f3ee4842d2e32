# A decoded mechanism parameter as the structure of the standard. The structure points into the
# bytes objects of the parameter, so it is good for as long as `held` is.

ctypedef union Structure:
    CK_GCM_PARAMS gcm
    CK_AES_CTR_PARAMS ctr
    CK_RSA_PKCS_PSS_PARAMS pss
    CK_RSA_PKCS_OAEP_PARAMS oaep
    CK_EDDSA_PARAMS eddsa
    CK_ECDH1_DERIVE_PARAMS ecdh
    CK_SIGN_ADDITIONAL_CONTEXT context
    CK_HASH_SIGN_ADDITIONAL_CONTEXT hash_context
    CK_ULONG number


cdef class Packed:
    """A ``CK_MECHANISM`` with what it points to."""

    cdef CK_MECHANISM mechanism
    cdef Structure parameter
    cdef list held

    cdef CK_BYTE *hold(self, object data, CK_ULONG *length) except? NULL:
        cdef bytes kept = data if type(data) is bytes else bytes(data)
        self.held.append(kept)
        length[0] = <CK_ULONG>len(kept)
        return <CK_BYTE *>PyBytes_AS_STRING(kept)


cdef Packed pack(CK_MECHANISM_TYPE mechanism, object parameter):
    cdef Packed p = Packed.__new__(Packed)
    cdef CK_BYTE *block
    cdef CK_ULONG length = 0
    cdef type kind = type(parameter)

    p.held = []
    p.mechanism.mechanism = mechanism
    p.mechanism.pParameter = &p.parameter
    if parameter is None:
        p.mechanism.pParameter = NULL
        p.mechanism.ulParameterLen = 0
    elif kind is bytes or kind is bytearray or kind is memoryview:
        p.mechanism.pParameter = p.hold(parameter, &p.mechanism.ulParameterLen)
    elif kind is Gcm:
        p.parameter.gcm.pIv = p.hold(parameter.iv, &p.parameter.gcm.ulIvLen)
        p.parameter.gcm.ulIvBits = 8 * p.parameter.gcm.ulIvLen
        p.parameter.gcm.pAAD = p.hold(parameter.aad, &p.parameter.gcm.ulAADLen)
        p.parameter.gcm.ulTagBits = parameter.tag_bits
        p.mechanism.ulParameterLen = sizeof(CK_GCM_PARAMS)
    elif kind is Ctr:
        p.parameter.ctr.ulCounterBits = parameter.counter_bits
        block = p.hold(parameter.block, &length)
        if length != 16:
            raise errors.MechanismParamInvalid("a counter block has 16 bytes")
        memcpy(p.parameter.ctr.cb, block, 16)
        p.mechanism.ulParameterLen = sizeof(CK_AES_CTR_PARAMS)
    elif kind is RsaPss:
        p.parameter.pss.hashAlg = parameter.hash
        p.parameter.pss.mgf = parameter.mgf
        p.parameter.pss.sLen = parameter.salt_length
        p.mechanism.ulParameterLen = sizeof(CK_RSA_PKCS_PSS_PARAMS)
    elif kind is RsaOaep:
        p.parameter.oaep.hashAlg = parameter.hash
        p.parameter.oaep.mgf = parameter.mgf
        p.parameter.oaep.source = parameter.source
        p.parameter.oaep.pSourceData = p.hold(parameter.source_data, &p.parameter.oaep.ulSourceDataLen)
        p.mechanism.ulParameterLen = sizeof(CK_RSA_PKCS_OAEP_PARAMS)
    elif kind is EdDsa:
        p.parameter.eddsa.phFlag = 1 if parameter.prehash else 0
        p.parameter.eddsa.pContextData = p.hold(parameter.context, &p.parameter.eddsa.ulContextDataLen)
        p.mechanism.ulParameterLen = sizeof(CK_EDDSA_PARAMS)
    elif kind is Ecdh1:
        p.parameter.ecdh.kdf = parameter.kdf
        p.parameter.ecdh.pSharedData = p.hold(parameter.shared_data, &p.parameter.ecdh.ulSharedDataLen)
        p.parameter.ecdh.pPublicData = p.hold(parameter.public_data, &p.parameter.ecdh.ulPublicDataLen)
        p.mechanism.ulParameterLen = sizeof(CK_ECDH1_DERIVE_PARAMS)
    elif kind is SignContext and parameter.hash is None:
        p.parameter.context.hedgeVariant = parameter.hedge
        p.parameter.context.pContext = p.hold(parameter.context, &p.parameter.context.ulContextLen)
        p.mechanism.ulParameterLen = sizeof(CK_SIGN_ADDITIONAL_CONTEXT)
    elif kind is SignContext:
        p.parameter.hash_context.hedgeVariant = parameter.hedge
        p.parameter.hash_context.pContext = p.hold(parameter.context, &p.parameter.hash_context.ulContextLen)
        p.parameter.hash_context.hash = parameter.hash
        p.mechanism.ulParameterLen = sizeof(CK_HASH_SIGN_ADDITIONAL_CONTEXT)
    elif kind is int:
        p.parameter.number = parameter
        p.mechanism.ulParameterLen = sizeof(CK_ULONG)
    else:
        return None
    return p
