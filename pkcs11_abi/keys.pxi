# Key management functions (Section 5.18).


cdef CK_RV C_GenerateKey(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulCount,
    CK_OBJECT_HANDLE_PTR phKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.template, call.count, call.made = pMechanism, pTemplate, ulCount, phKey
    call.bad = pMechanism == NULL or phKey == NULL or bad_template(pTemplate, ulCount)
    return beside(hSession, &call, generate_key, quick_key)


cdef CK_RV generate_key(Call *call) except *:
    cdef CK_MECHANISM value = call.mechanism[0]
    mechanism, session = read_mechanism(&value), core_session(call.session)
    cdef CK_BYTE *vector = vector_of(&value, mechanism.parameter)
    template = read_template(call.template, call.count)
    work = core().generate_key(session, mechanism, template)
    if vector != NULL:
        return generate_with_vector(call, template, work, mechanism.parameter.iv, vector)
    if defers(call, mechanism.type):
        given = inputs(None, values_of(template))
        return put_off(call, "C_GenerateKey", GIVES_OBJECT, work, given, is_persistent(template))
    cdef CK_RV rv = hand_out(call, drive_with(call, template, work), call.made)
    return learn(call, CKF_GENERATE, mechanism, None, [template]) if rv == CKR_OK else rv


cdef CK_RV generate_with_vector(Call *call, list template, object work, bytearray iv, CK_BYTE *vector) except *:
    """Make a key of a password, at once, and write the vector that goes with it; without it there is no key."""
    made = drive_with(call, template, work)
    if len(iv) != 8:  # an adapter in another process cannot give it
        drive(call, core().destroy_object(core_session(call.session), made))
        raise errors.DeviceError()
    cdef CK_RV rv = hand_out(call, made, call.made)
    if rv == CKR_OK:
        memcpy(vector, PyByteArray_AS_STRING(iv), 8)
    return rv


cdef list values_of(list template):
    return [value for _, value in template]


cdef bint is_persistent(list template):
    """Whether a template asks for a token object."""
    return any(type == CKA_TOKEN and value == b"\1" for type, value in template)


cdef CK_RV C_GenerateKeyPair(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_ATTRIBUTE_PTR pPublicKeyTemplate,
    CK_ULONG ulPublicKeyAttributeCount, CK_ATTRIBUTE_PTR pPrivateKeyTemplate, CK_ULONG ulPrivateKeyAttributeCount,
    CK_OBJECT_HANDLE_PTR phPublicKey, CK_OBJECT_HANDLE_PTR phPrivateKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism = pMechanism
    call.template, call.count = pPublicKeyTemplate, ulPublicKeyAttributeCount
    call.second_template, call.second_count = pPrivateKeyTemplate, ulPrivateKeyAttributeCount
    call.made, call.second_made = phPublicKey, phPrivateKey
    call.bad = (
        pMechanism == NULL
        or phPublicKey == NULL
        or phPrivateKey == NULL
        or bad_template(pPublicKeyTemplate, ulPublicKeyAttributeCount)
        or bad_template(pPrivateKeyTemplate, ulPrivateKeyAttributeCount)
    )
    return beside(hSession, &call, generate_key_pair, quick_pair)


cdef CK_RV generate_key_pair(Call *call) except *:
    cdef CK_OBJECT_HANDLE public_handle = 0, private_handle = 0
    mechanism = read_mechanism(call.mechanism)
    public_template = read_template(call.template, call.count)
    private_template = read_template(call.second_template, call.second_count)
    session = core_session(call.session)
    template = public_template + private_template
    work = core().generate_key_pair(session, mechanism, public_template, private_template)
    if defers(call, mechanism.type):
        persistent = is_persistent(public_template) and is_persistent(private_template)
        return put_off(
            call, "C_GenerateKeyPair", GIVES_PAIR, work, inputs(None, values_of(template)), persistent
        )
    pair = drive_with(call, template, work)
    hand_out_pair(call, pair, &public_handle, &private_handle)
    call.made[0], call.second_made[0] = public_handle, private_handle
    return learn(call, CKF_GENERATE_KEY_PAIR, mechanism, None, [public_template, private_template])


cdef CK_RV hand_out_pair(
    Call *call, tuple pair, CK_OBJECT_HANDLE *public_handle, CK_OBJECT_HANDLE *private_handle
) except *:
    """Give the caller both handles, or leave neither key."""
    ferro_slot_born(call.session.slot)
    try:
        public_handle[0] = handle_of(call.session, pair[0], True)
        private_handle[0] = handle_of(call.session, pair[1], True)
    except BaseException:
        public_handle[0] = private_handle[0] = 0
        take_back(call, pair)
        raise
    return CKR_OK


cdef CK_RV C_WrapKey(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hWrappingKey, CK_OBJECT_HANDLE hKey,
    CK_BYTE_PTR pWrappedKey, CK_ULONG_PTR pulWrappedKeyLen
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key, call.other = pMechanism, hWrappingKey, hKey
    call.out, call.out_length = pWrappedKey, pulWrappedKeyLen
    call.bad = pMechanism == NULL or pulWrappedKeyLen == NULL
    return beside(hSession, &call, wrap_key, NULL)


cdef CK_RV wrap_key(Call *call) except *:
    cdef CK_MECHANISM value = call.mechanism[0]
    if has_wrap_structure(&value):
        return wrap_with_structure(call, &value)
    mechanism, session = read_mechanism(call.mechanism), core_session(call.session)
    wrapping = object_id(call.session, call.key, errors.WrappingKeyHandleInvalid)
    target = object_id(call.session, call.other, errors.KeyHandleInvalid)
    cdef CK_ULONG length = drive(call, core().wrap_length(session, mechanism, wrapping, target))
    cdef CK_RV rv = fits_exactly(call, length)
    if rv != CKR_OK or call.out == NULL:
        return rv
    if defers(call, mechanism.type):
        work = core().wrap_key(session, mechanism, wrapping, target, call.room)
        job_for(call, "C_WrapKey", GIVES_BYTES, work, inputs(None, [])).length = length
        return CKR_PENDING
    return put_checked(
        call, drive(call, core().wrap_key(session, mechanism, wrapping, target, call.room))
    )


cdef CK_RV C_UnwrapKey(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hUnwrappingKey, CK_BYTE_PTR pWrappedKey,
    CK_ULONG ulWrappedKeyLen, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulAttributeCount, CK_OBJECT_HANDLE_PTR phKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key = pMechanism, hUnwrappingKey
    call.data, call.data_length = pWrappedKey, ulWrappedKeyLen
    call.template, call.count, call.made = pTemplate, ulAttributeCount, phKey
    call.bad = (
        pMechanism == NULL
        or phKey == NULL
        or pWrappedKey == NULL
        or unreadable(pWrappedKey, ulWrappedKeyLen)
        or bad_template(pTemplate, ulAttributeCount)
    )
    return beside(hSession, &call, unwrap_key, NULL)


cdef CK_RV unwrap_key(Call *call) except *:
    cdef CK_MECHANISM value = call.mechanism[0]
    if has_wrap_structure(&value):
        return unwrap_with_structure(call, &value)
    mechanism, template = read_mechanism(call.mechanism), read_template(call.template, call.count)
    unwrapping = object_id(call.session, call.key, errors.UnwrappingKeyHandleInvalid)
    session = core_session(call.session)
    wrapped = view_of(call.session.slot, call.data, call.data_length)
    if defers(call, mechanism.type):
        work = core().unwrap_key(session, mechanism, unwrapping, wrapped, template)
        given = inputs(wrapped, values_of(template))
        return put_off(call, "C_UnwrapKey", GIVES_OBJECT, work, given, is_persistent(template))
    try:
        made = drive_with(
            call, template, core().unwrap_key(session, mechanism, unwrapping, wrapped, template)
        )
    finally:
        release_view(wrapped)
    return hand_out(call, made, call.made)


cdef CK_RV C_DeriveKey(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hBaseKey, CK_ATTRIBUTE_PTR pTemplate,
    CK_ULONG ulAttributeCount, CK_OBJECT_HANDLE_PTR phKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key = pMechanism, hBaseKey
    call.template, call.count, call.made = pTemplate, ulAttributeCount, phKey
    call.bad = pMechanism == NULL or bad_template(pTemplate, ulAttributeCount)
    if pMechanism != NULL:
        call.mechanism_copy = pMechanism[0]  # what kind of derivation it is, is read once
        call.mechanism = &call.mechanism_copy
    if not call.bad and makes_key_material(call.mechanism):
        return beside(hSession, &call, derive_key_material, NULL)
    call.bad = call.bad or phKey == NULL
    return beside(hSession, &call, derive_key, quick_derive)


cdef CK_RV derive_key(Call *call) except *:
    cdef CK_MECHANISM value = call.mechanism[0]
    cdef FurtherKeys further
    take_further_keys(&value, &further)
    if further.count != 0:
        return derive_several(call, &value, &further)
    mechanism, session = read_mechanism_with_keys(call.session, &value), core_session(call.session)
    template = read_template(call.template, call.count)
    base = object_id(call.session, call.key, errors.KeyHandleInvalid)
    work = core().derive_key(session, mechanism, base, template)
    version = mechanism.parameter.version if isinstance(mechanism.parameter, TlsMaster) else None
    cdef CK_VERSION *version_place = NULL if version is None else place_of_version(&value)
    cdef Job job
    if defers(call, mechanism.type):
        job = job_for(call, "C_DeriveKey", GIVES_OBJECT, work, inputs(None, values_of(template)))
        job.persistent, job.elsewhere = is_persistent(template), version_place != NULL
        job.version, job.version_made = version_place, version
        return CKR_PENDING
    made = drive_with(call, template, work)
    cdef CK_RV rv = hand_out(call, made, call.made)
    put_version(version_place, version)
    return learn(call, CKF_DERIVE, mechanism, base, [template]) if rv == CKR_OK else rv


cdef struct FurtherKeys:
    CK_SP800_108_KDF_PARAMS plain
    CK_SP800_108_FEEDBACK_KDF_PARAMS feedback
    CK_DERIVED_KEY *keys
    CK_ULONG count


cdef void take_further_keys(CK_MECHANISM *mechanism, FurtherKeys *further) noexcept:
    """Take the array of further keys out of SP 800-108's parameter, which the mechanism has our copy of from here on.

    One of another length is left to its decoder, which refuses it.
    """
    cdef CK_MECHANISM_TYPE type = mechanism.mechanism
    further.keys, further.count = NULL, 0
    if mechanism.pParameter == NULL:
        return
    if type == CKM_SP800_108_COUNTER_KDF or type == CKM_SP800_108_DOUBLE_PIPELINE_KDF:
        if mechanism.ulParameterLen == sizeof(further.plain):
            memcpy(&further.plain, mechanism.pParameter, sizeof(further.plain))
            further.keys, further.count = further.plain.pAdditionalDerivedKeys, further.plain.ulAdditionalDerivedKeys
            further.plain.ulAdditionalDerivedKeys = 0
            mechanism.pParameter = &further.plain
    elif type == CKM_SP800_108_FEEDBACK_KDF and mechanism.ulParameterLen == sizeof(further.feedback):
        memcpy(&further.feedback, mechanism.pParameter, sizeof(further.feedback))
        further.keys = further.feedback.pAdditionalDerivedKeys
        further.count = further.feedback.ulAdditionalDerivedKeys
        further.feedback.ulAdditionalDerivedKeys = 0
        mechanism.pParameter = &further.feedback


cdef CK_RV derive_several(Call *call, CK_MECHANISM *value, FurtherKeys *further) except *:
    """Several keys, all or none. A template that is at fault is told by the place of its key's handle.

    In an asynchronous session, too, the call ends with its work: each key's handle has a place of its own.
    """
    if further.keys == NULL or further.count > PIECES_LIMIT:
        raise wrong_parameter()
    # Read once: what is checked is what is used.
    cdef bytearray memory = PyByteArray_FromStringAndSize(
        <const char *>further.keys, <Py_ssize_t>(further.count * sizeof(CK_DERIVED_KEY))
    )
    cdef CK_DERIVED_KEY *keys = <CK_DERIVED_KEY *>PyByteArray_AS_STRING(memory)
    cdef CK_ULONG i
    for i in range(further.count):
        if keys[i].phKey == NULL or bad_template(keys[i].pTemplate, keys[i].ulAttributeCount):
            raise wrong_parameter()
    mechanism, session = read_mechanism_with_keys(call.session, value), core_session(call.session)
    template = read_template(call.template, call.count)
    base = object_id(call.session, call.key, errors.KeyHandleInvalid)
    wanted = read_further_templates(keys, further.count)
    from ferrohsm.derived_keys import FurtherKeys as Wanted

    asked = Wanted(wanted)
    everything = template + [pair for one in wanted for pair in one]
    try:
        made = drive_with(call, everything, core().derive_several(session, mechanism, base, template, asked))
    except BaseException:
        if asked.wrong is not None:
            i = asked.wrong
            keys[i].phKey[0] = 0
        raise
    return hand_out_several(call, made, keys)


cdef list read_further_templates(const CK_DERIVED_KEY *keys, CK_ULONG count):
    """Return the templates; what bounds a single one bounds all of them together."""
    cdef Budget budget
    cdef CK_ULONG i
    budget.count = budget.size = 0
    wanted = []
    for i in range(count):
        try:
            wanted.append(read_attributes(keys[i].pTemplate, keys[i].ulAttributeCount, 0, &budget))
        except BaseException:
            keys[i].phKey[0] = 0
            raise
    return wanted


cdef CK_RV hand_out_several(Call *call, tuple made, const CK_DERIVED_KEY *keys) except *:
    """Give the caller the handles of all keys, the call's own first, or leave no key."""
    cdef CK_ULONG i
    ferro_slot_born(call.session.slot)
    try:
        handles = [handle_of(call.session, oid, True) for oid in made]
    except BaseException:
        take_back(call, made)
        raise
    call.made[0] = handles[0]
    for i in range(<CK_ULONG>len(handles) - 1):
        keys[i].phKey[0] = handles[i + 1]
    return CKR_OK


cdef bint makes_key_material(const CK_MECHANISM *mechanism) noexcept nogil:
    return (
        mechanism.mechanism == CKM_TLS12_KEY_AND_MAC_DERIVE or mechanism.mechanism == CKM_TLS12_KEY_SAFE_DERIVE
    )


cdef CK_RV derive_key_material(Call *call) except *:
    """Four keys and two initialization vectors, which the parameter has room for."""
    cdef CK_MECHANISM value = call.mechanism[0]
    if not makes_key_material(&value):
        raise errors.MechanismInvalid()
    mechanism, session = read_mechanism(&value), core_session(call.session)
    cdef MaterialPlaces places
    cdef CK_SSL3_KEY_MAT_OUT *out = (<CK_TLS12_KEY_MAT_PARAMS *>value.pParameter).pReturnedKeyMaterial
    places.handles, places.client_iv, places.server_iv = out, NULL, NULL
    ivs = mechanism.type == CKM_TLS12_KEY_AND_MAC_DERIVE and mechanism.parameter.iv_bits != 0
    if out != NULL and ivs:
        places.client_iv, places.server_iv = out.pIVClient, out.pIVServer
    if out == NULL or (ivs and (places.client_iv == NULL or places.server_iv == NULL)):
        raise wrong_parameter()
    template = read_template(call.template, call.count)
    base = object_id(call.session, call.key, errors.KeyHandleInvalid)
    work = core().derive_key_material(session, mechanism, base, template)
    cdef Job job
    if defers(call, mechanism.type):
        job = job_for(call, "C_DeriveKey", GIVES_MATERIAL, work, inputs(None, values_of(template)))
        job.persistent, job.elsewhere, job.material = is_persistent(template), True, places
        return CKR_PENDING
    return hand_out_material(call, drive_with(call, template, work), &places)


cdef CK_RV hand_out_material(Call *call, object made, MaterialPlaces *places) except *:
    """Give the caller the handles of all keys, and the vectors, or leave no key."""
    cdef CK_SSL3_KEY_MAT_OUT *out = places.handles
    cdef CK_OBJECT_HANDLE[4] handles
    cdef int i
    ferro_slot_born(call.session.slot)
    try:
        for i in range(4):
            handles[i] = 0 if made.keys[i] is None else handle_of(call.session, made.keys[i], True)
    except BaseException:
        take_back(call, made.keys)
        raise
    out.hClientMacSecret, out.hServerMacSecret = handles[0], handles[1]
    out.hClientKey, out.hServerKey = handles[2], handles[3]
    if places.client_iv != NULL:
        memcpy(places.client_iv, <const char *>made.client_iv, len(made.client_iv))
        memcpy(places.server_iv, <const char *>made.server_iv, len(made.server_iv))
    return CKR_OK


cdef CK_RV C_EncapsulateKey(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hPublicKey, CK_ATTRIBUTE_PTR pTemplate,
    CK_ULONG ulAttributeCount, CK_BYTE_PTR pCiphertext, CK_ULONG_PTR pulCiphertextLen, CK_OBJECT_HANDLE_PTR phKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key = pMechanism, hPublicKey
    call.template, call.count, call.made = pTemplate, ulAttributeCount, phKey
    call.out, call.out_length = pCiphertext, pulCiphertextLen
    call.bad = (
        pMechanism == NULL
        or pulCiphertextLen == NULL
        or (phKey == NULL and pCiphertext != NULL)
        or bad_template(pTemplate, ulAttributeCount)
    )
    return beside(hSession, &call, encapsulate_key, quick_encapsulate)


cdef CK_RV encapsulate_key(Call *call) except *:
    mechanism, session = read_mechanism(call.mechanism), core_session(call.session)
    public = object_id(call.session, call.key, errors.KeyHandleInvalid)
    cdef CK_ULONG length = drive(call, core().encapsulated_length(session, mechanism, public))
    cdef CK_RV rv = fits_exactly(call, length)
    cdef Job job
    if rv != CKR_OK or call.out == NULL:
        return rv
    template = read_template(call.template, call.count)
    work = core().encapsulate_key(session, mechanism, public, template, call.room)
    if defers(call, mechanism.type):
        job = job_for(call, "C_EncapsulateKey", GIVES_BOTH, work, inputs(None, values_of(template)))
        job.length, job.persistent = length, is_persistent(template)
        return CKR_PENDING
    rv = hand_out_both(call, drive_with(call, template, work), call.made)
    return learn(call, CKF_ENCAPSULATE, mechanism, public, [template]) if rv == CKR_OK else rv


cdef CK_RV hand_out_both(Call *call, tuple both, CK_OBJECT_HANDLE *place) except *:
    """Give the caller a ciphertext and the handle of its key, or leave no key."""
    ciphertext, made = both
    if <CK_ULONG>len(ciphertext) > call.room:
        take_back(call, (made,))
        raise RuntimeError("an engine gave more than it had said")
    cdef CK_RV rv = hand_out(call, made, place)
    return put(call, ciphertext) if rv == CKR_OK else rv


cdef CK_RV C_DecapsulateKey(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hPrivateKey, CK_ATTRIBUTE_PTR pTemplate,
    CK_ULONG ulAttributeCount, CK_BYTE_PTR pCiphertext, CK_ULONG ulCiphertextLen, CK_OBJECT_HANDLE_PTR phKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key = pMechanism, hPrivateKey
    call.data, call.data_length = pCiphertext, ulCiphertextLen
    call.template, call.count, call.made = pTemplate, ulAttributeCount, phKey
    call.bad = (
        pMechanism == NULL
        or phKey == NULL
        or pCiphertext == NULL
        or unreadable(pCiphertext, ulCiphertextLen)
        or bad_template(pTemplate, ulAttributeCount)
    )
    return beside(hSession, &call, decapsulate_key, quick_decapsulate)


cdef CK_RV decapsulate_key(Call *call) except *:
    mechanism, session = read_mechanism(call.mechanism), core_session(call.session)
    private = object_id(call.session, call.key, errors.UnwrappingKeyHandleInvalid)
    template = read_template(call.template, call.count)
    ciphertext = view_of(call.session.slot, call.data, call.data_length)
    if defers(call, mechanism.type):
        work = core().decapsulate_key(session, mechanism, private, template, ciphertext)
        given = inputs(ciphertext, values_of(template))
        return put_off(call, "C_DecapsulateKey", GIVES_OBJECT, work, given, is_persistent(template))
    try:
        made = drive_with(
            call, template, core().decapsulate_key(session, mechanism, private, template, ciphertext)
        )
    finally:
        release_view(ciphertext)
    cdef CK_RV rv = hand_out(call, made, call.made)
    return learn(call, CKF_DECAPSULATE, mechanism, private, [template]) if rv == CKR_OK else rv
