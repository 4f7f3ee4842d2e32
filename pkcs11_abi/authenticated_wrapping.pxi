# C_WrapKeyAuthenticated and C_UnwrapKeyAuthenticated (Section 5.18), and C_WrapKey and C_UnwrapKey with the structures
# CK_GCM_WRAP_PARAMS and CK_CCM_WRAP_PARAMS, whose tag stands at the end of the wrapped key.


cdef CK_RV C_WrapKeyAuthenticated(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hWrappingKey, CK_OBJECT_HANDLE hKey,
    CK_BYTE_PTR pAssociatedData, CK_ULONG ulAssociatedDataLen, CK_BYTE_PTR pWrappedKey, CK_ULONG_PTR pulWrappedKeyLen
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key, call.other = pMechanism, hWrappingKey, hKey
    call.extra, call.extra_length = pAssociatedData, ulAssociatedDataLen
    call.out, call.out_length = pWrappedKey, pulWrappedKeyLen
    call.bad = pMechanism == NULL or pulWrappedKeyLen == NULL or unreadable(pAssociatedData, ulAssociatedDataLen)
    return beside(hSession, &call, wrap_authenticated, NULL)


cdef CK_RV C_UnwrapKeyAuthenticated(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hUnwrappingKey, CK_BYTE_PTR pWrappedKey,
    CK_ULONG ulWrappedKeyLen, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulAttributeCount, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen, CK_OBJECT_HANDLE_PTR phKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.mechanism, call.key = pMechanism, hUnwrappingKey
    call.data, call.data_length = pWrappedKey, ulWrappedKeyLen
    call.extra, call.extra_length = pAssociatedData, ulAssociatedDataLen
    call.template, call.count, call.made = pTemplate, ulAttributeCount, phKey
    call.bad = (
        pMechanism == NULL
        or phKey == NULL
        or pWrappedKey == NULL
        or unreadable(pWrappedKey, ulWrappedKeyLen)
        or unreadable(pAssociatedData, ulAssociatedDataLen)
        or bad_template(pTemplate, ulAttributeCount)
    )
    return beside(hSession, &call, unwrap_authenticated, NULL)


cdef object read_message_mechanism(CK_MECHANISM *mechanism, Places *places):
    """Return a mechanism whose parameter is that of a message, and where vector and tag are."""
    cdef CK_MECHANISM value = mechanism[0]
    kind = parameter_kind(value.mechanism)
    if message_size(kind) == 0:
        raise errors.MechanismInvalid()
    return Mechanism(value.mechanism, read_message(kind, value.pParameter, value.ulParameterLen, places))


cdef CK_RV wrap_authenticated(Call *call) except *:
    cdef Places places
    mechanism = read_message_mechanism(call.mechanism, &places)
    if places.tag == NULL:
        raise wrong_parameter()
    associated = view_of(call.slot, call.extra, call.extra_length)
    try:
        return wrap_apart(call, "C_WrapKeyAuthenticated", mechanism, associated, &places)
    finally:
        release_view(associated)


cdef CK_RV wrap_apart(Call *call, str name, object mechanism, object associated, Places *places) except *:
    """Wrap; the tag goes to its place, or behind the wrapped key where it has none."""
    cdef CK_ULONG behind = places.tag_length if places.tag == NULL else 0
    session = core_session(call.session)
    wrapping = object_id(call.session, call.key, errors.WrappingKeyHandleInvalid)
    target = object_id(call.session, call.other, errors.KeyHandleInvalid)
    length = drive(call, core().authenticated_length(session, mechanism, wrapping, target))
    cdef CK_RV rv = fits_exactly(call, length + behind)
    if rv != CKR_OK or call.out == NULL:
        return rv
    room = call.room - behind
    if defers(call, mechanism.type):
        copy = memoryview(bytes(associated))  # the caller's is let go with the call
        work = core().wrap_authenticated(session, mechanism, (wrapping, target), copy, room)
        return put_off_with_room(call, name, GIVES_MESSAGE, work, inputs(copy, []), length + behind, places)
    made = drive(call, core().wrap_authenticated(session, mechanism, (wrapping, target), associated, room))
    return put_wrapped(call, made, places)


cdef CK_RV put_wrapped(Call *call, tuple made, Places *places) except *:
    """Put out vector, wrapped key and tag."""
    vector, wrapped, tag = made
    cdef CK_RV rv = put_checked(call, wrapped + tag if places.tag == NULL else wrapped)
    if <CK_ULONG>len(vector) == places.vector_length:
        memcpy(places.vector, PyBytes_AS_STRING(vector), places.vector_length)
    if places.tag != NULL and <CK_ULONG>len(tag) == places.tag_length:
        memcpy(places.tag, PyBytes_AS_STRING(tag), places.tag_length)
    return rv


cdef CK_RV unwrap_authenticated(Call *call) except *:
    cdef Places places
    mechanism = read_message_mechanism(call.mechanism, &places)
    tag = inner(places.tag, places.tag_length)
    associated = view_of(call.slot, call.extra, call.extra_length)
    try:
        return unwrap_apart(call, "C_UnwrapKeyAuthenticated", mechanism, associated, tag, call.data_length)
    finally:
        release_view(associated)


cdef CK_RV unwrap_apart(
    Call *call, str name, object mechanism, object associated, bytes tag, CK_ULONG length
) except *:
    session, template = core_session(call.session), read_template(call.template, call.count)
    unwrapping = object_id(call.session, call.key, errors.UnwrappingKeyHandleInvalid)
    wrapped = view_of(call.slot, call.data, length)
    if defers(call, mechanism.type):
        copy = memoryview(bytes(associated))
        work = core().unwrap_authenticated(session, mechanism, unwrapping, (wrapped, tag, copy), template)
        given = inputs(wrapped, values_of(template))
        given.other = copy
        return put_off(call, name, GIVES_OBJECT, work, given, is_persistent(template))
    try:
        made = drive_with(
            call,
            template,
            core().unwrap_authenticated(session, mechanism, unwrapping, (wrapped, tag, associated), template),
        )
    finally:
        release_view(wrapped)
    return hand_out(call, made, call.made)


# The structures of C_WrapKey and C_UnwrapKey.


cdef bint has_wrap_structure(const CK_MECHANISM *mechanism) noexcept nogil:
    """Whether the parameter is one of version 3.2's, which is told from the older one by its size."""
    if mechanism.pParameter == NULL:
        return False
    if mechanism.mechanism == CKM_AES_GCM:
        return mechanism.ulParameterLen == sizeof(CK_GCM_WRAP_PARAMS)
    return mechanism.mechanism == CKM_AES_CCM and mechanism.ulParameterLen == sizeof(CK_CCM_WRAP_PARAMS)


cdef object read_wrap_structure(const CK_MECHANISM *mechanism, Places *places):
    """Return the mechanism, the associated data, and where the vector is; the tag has no place of its own."""
    cdef CK_GCM_WRAP_PARAMS gcm
    cdef CK_CCM_WRAP_PARAMS ccm
    places.tag = NULL
    if mechanism.mechanism == CKM_AES_GCM:
        memcpy(&gcm, mechanism.pParameter, sizeof(gcm))
        if gcm.ulTagBits % 8 != 0:
            raise wrong_parameter()
        places.vector, places.vector_length, places.tag_length = gcm.pIv, gcm.ulIvLen, gcm.ulTagBits // 8
        fixed, generator, length = gcm.ulIvFixedBits, gcm.ivGenerator, None
        associated = inner(gcm.pAAD, gcm.ulAADLen)
    else:
        memcpy(&ccm, mechanism.pParameter, sizeof(ccm))
        places.vector, places.vector_length, places.tag_length = ccm.pNonce, ccm.ulNonceLen, ccm.ulMACLen
        fixed, generator, length = ccm.ulNonceFixedBits, ccm.nonceGenerator, 0
        associated = inner(ccm.pAAD, ccm.ulAADLen)
    if places.tag_length > TAG_LIMIT:
        raise wrong_parameter()
    vector = inner(places.vector, places.vector_length)
    parameter = MessageParameter(vector, fixed, generator, places.tag_length, length)
    return Mechanism(mechanism.mechanism, parameter), associated


cdef CK_RV wrap_with_structure(Call *call, const CK_MECHANISM *value) except *:
    cdef Places places
    mechanism, associated = read_wrap_structure(value, &places)
    return wrap_apart(call, "C_WrapKey", mechanism, memoryview(associated), &places)


cdef CK_RV unwrap_with_structure(Call *call, const CK_MECHANISM *value) except *:
    cdef Places places
    mechanism, associated = read_wrap_structure(value, &places)
    if call.data_length < places.tag_length:
        raise errors.WrappedKeyLenRange()
    cdef CK_ULONG length = call.data_length - places.tag_length
    tag = PyBytes_FromStringAndSize(<const char *>call.data + length, <Py_ssize_t>places.tag_length)
    return unwrap_apart(call, "C_UnwrapKey", mechanism, memoryview(associated), tag, length)
