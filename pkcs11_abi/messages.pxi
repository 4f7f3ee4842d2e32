# Message-based encryption and decryption functions (Sections 5.9 and 5.11): processes that last for many messages. What
# fails ends the message, not the process.

from ferrohsm.parameters import MessageParameter

cdef enum:
    TAG_LIMIT = 64  # the longest tag, in bytes


cdef size_t message_size(object kind) except? 0:
    """Return the size of a mechanism's message parameter, 0 for one that has none."""
    if kind == ParameterKind.GCM:
        return sizeof(CK_GCM_MESSAGE_PARAMS)
    if kind == ParameterKind.CCM:
        return sizeof(CK_CCM_MESSAGE_PARAMS)
    if kind == ParameterKind.CHACHA20_POLY1305:
        return sizeof(CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS)
    return 0


cdef object read_message(object kind, const void *parameter, CK_ULONG length, Places *places):
    """Return a message's parameter, and where its vector and tag are."""
    cdef CK_GCM_MESSAGE_PARAMS gcm
    cdef CK_CCM_MESSAGE_PARAMS ccm
    cdef CK_SALSA20_CHACHA20_POLY1305_MSG_PARAMS chacha
    cdef CK_ULONG fixed = 0, generator = CKG_NO_GENERATE
    if parameter == NULL or length != message_size(kind):
        raise wrong_parameter()
    data_length = None
    if kind == ParameterKind.GCM:
        memcpy(&gcm, parameter, sizeof(gcm))
        if gcm.ulTagBits % 8 != 0:
            raise wrong_parameter()
        places.vector, places.vector_length = gcm.pIv, gcm.ulIvLen
        places.tag, places.tag_length = gcm.pTag, gcm.ulTagBits // 8
        fixed, generator = gcm.ulIvFixedBits, gcm.ivGenerator
    elif kind == ParameterKind.CCM:
        memcpy(&ccm, parameter, sizeof(ccm))
        places.vector, places.vector_length = ccm.pNonce, ccm.ulNonceLen
        places.tag, places.tag_length = ccm.pMAC, ccm.ulMACLen
        fixed, generator, data_length = ccm.ulNonceFixedBits, ccm.nonceGenerator, ccm.ulDataLen
    else:
        memcpy(&chacha, parameter, sizeof(chacha))
        # In bits by the specification, in bytes by most programs: no number is both.
        if chacha.ulNonceLen % 8 != 0 and chacha.ulNonceLen >= 64:
            raise wrong_parameter()
        places.vector_length = chacha.ulNonceLen if chacha.ulNonceLen < 64 else chacha.ulNonceLen // 8
        places.vector, places.tag, places.tag_length = chacha.pNonce, chacha.pTag, 16
    if places.tag_length > TAG_LIMIT:
        raise wrong_parameter()
    vector = inner(places.vector, places.vector_length)
    return MessageParameter(vector, fixed, generator, places.tag_length, data_length)


cdef CK_RV begin_messages(
    CK_SESSION_HANDLE handle, int operation, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key
) noexcept nogil:
    """C_MessageEncryptInit and C_MessageDecryptInit: without a mechanism they end the process."""
    cdef Call call
    clear(&call)
    call.mechanism, call.key = mechanism, key
    return alone(handle, operation, &call, begin_messages_work, NULL)


cdef CK_RV begin_messages_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef CK_MECHANISM value
    if call.mechanism == NULL:
        if operation.kind == FERRO_IDLE:
            return CKR_ARGUMENTS_BAD
        drop_operation(operation)
        return CKR_OK
    is_pending(call.session, operation)
    if operation.kind != FERRO_IDLE:
        return CKR_OPERATION_ACTIVE
    value = call.mechanism[0]
    kind = parameter_kind(value.mechanism)
    cdef size_t size = message_size(kind)
    if size == 0:
        raise errors.MechanismInvalid()
    # The parameter comes with each message. That of the first one may stand here already; it is not looked into.
    if value.ulParameterLen != 0 and (value.ulParameterLen != size or value.pParameter == NULL):
        raise wrong_parameter()
    session = core_session(call.session)
    key = object_id(call.session, call.key, errors.KeyHandleInvalid)
    function = ferro_operation_flag(call.operation)
    work = core().begin_messages(session, function, Mechanism(value.mechanism), key)
    operation.input_length = size  # which structure the messages' parameters are
    if defers(call, None):
        return put_off_begin(call, operation, work)
    try:
        start(operation, drive(call, work))
    except BaseException:
        operation.input_length = 0
        raise
    return CKR_OK


cdef object kind_of(ferro_operation *operation):
    if operation.input_length == sizeof(CK_GCM_MESSAGE_PARAMS):
        return ParameterKind.GCM
    if operation.input_length == sizeof(CK_CCM_MESSAGE_PARAMS):
        return ParameterKind.CCM
    return ParameterKind.CHACHA20_POLY1305


cdef struct Message:
    # What a function about a message was given beside text and output.
    const void *parameter
    CK_ULONG parameter_length
    CK_BYTE *associated
    CK_ULONG associated_length
    bint whole
    bint last


cdef CK_RV message(CK_SESSION_HANDLE handle, int operation, Message *given, Call *call) noexcept nogil:
    """A call about one message: its beginning (no output), a part of it, or all of it."""
    call.extra = <CK_BYTE *>given
    call.bad = call.bad or unreadable(given.associated, given.associated_length)
    return alone(handle, operation, call, message_work, NULL)


cdef CK_RV message_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef Message *given = <Message *>call.extra
    cdef Places places
    if is_pending(call.session, operation):
        return CKR_OPERATION_ACTIVE
    if operation.kind != FERRO_PYTHON:
        return CKR_OPERATION_NOT_INITIALIZED
    process = <object>operation.object
    if not process.valid():
        drop_operation(operation)
        return CKR_OPERATION_NOT_INITIALIZED
    if process.needs_login:
        return CKR_USER_NOT_LOGGED_IN
    # The beginning of a message or all of it, while another one is in hand; a part, while none is.
    if process.in_message and (given.whole or call.out_length == NULL):
        return CKR_OPERATION_ACTIVE
    if not process.in_message and call.out_length != NULL and not given.whole:
        return CKR_OPERATION_NOT_INITIALIZED
    if call.bad:
        process.give_up()
        return CKR_ARGUMENTS_BAD
    parameter = read_message(kind_of(operation), given.parameter, given.parameter_length, &places)
    if call.out_length == NULL:
        return begin_message(call, process, parameter, &places)
    return whole_message(call, process, parameter, &places) if given.whole else message_part(call, process, &places)


cdef object associated_view(Call *call):
    cdef Message *given = <Message *>call.extra
    return view_of(call.slot, given.associated, given.associated_length)


async def message_begun(process, parameter, associated):
    """Begin a message; like all that is asked about messages it gives a vector, a text and a tag."""
    return await process.begin_message(parameter, associated), b"", b""


async def message_part_taken(process, data):
    return b"", await process.take_part(data), b""


async def message_ended(process, data, tag):
    text, made = await process.take_last(data, tag)
    return b"", text, made


cdef CK_RV begin_message(Call *call, object process, object parameter, Places *places) except *:
    associated = associated_view(call)
    return messaged(
        call, MESSAGE_BEGIN, message_begun(process, parameter, associated), inputs(associated, []), 0, places
    )


cdef CK_RV whole_message(Call *call, object process, object parameter, Places *places) except *:
    cdef CK_RV rv = fits_exactly(call, call.data_length)  # the text is as long as the other text
    if rv != CKR_OK or call.out == NULL:
        return rv
    tag = read_tag(call, places)
    cdef Inputs given = inputs(associated_view(call), [])
    given.other = view_of(call.slot, call.data, call.data_length)
    work = process.whole(parameter, given.view, given.other, tag)
    return messaged(call, MESSAGE, work, given, call.data_length, places)


cdef CK_RV message_part(Call *call, object process, Places *places) except *:
    cdef Message *message = <Message *>call.extra
    cdef Inputs given
    if message.last and places.tag_length != <CK_ULONG>process.tag_length:
        process.give_up()  # the tag that was begun has another length: there is no place for it, or it is another
        raise wrong_parameter()
    try:
        length = length_of(call, process.part_length, (call.data_length, message.last))
        rv = fits_exactly(call, length)
    except BaseException:
        process.give_up()
        raise
    if rv != CKR_OK or call.out == NULL:
        return rv
    tag = read_tag(call, places) if message.last else None
    given = inputs(view_of(call.slot, call.data, call.data_length), [])
    if message.last:
        work = message_ended(process, given.view, tag)
    else:
        work = message_part_taken(process, given.view)
    return messaged(call, MESSAGE_NEXT, work, given, length, places)


cdef CK_RV messaged(Call *call, dict names, object work, Inputs given, CK_ULONG length, Places *places) except *:
    """Do what was asked about a message, or put it off; the process goes on in its place."""
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef Job job
    if defers(call, None):
        job = job_for(call, names[call.operation], GIVES_MESSAGE, work, given)
        job.length, job.elsewhere, job.places = length, True, places[0]
        hold_place(call, operation, job, LASTS)
        return CKR_PENDING
    try:
        made = drive(call, work)
    finally:
        given()
    return put_message(call, made, places)


cdef CK_RV put_message(Call *call, tuple made, Places *places) except *:
    """Put out vector, text and tag."""
    vector, text, tag = made
    if call.out != NULL:
        put_checked(call, text)
    give_vector(call, vector, places)
    give_tag(call, tag, places)
    return CKR_OK


cdef bytes read_tag(Call *call, Places *places):
    """Return the tag to check; for encryption see that there is a place for one."""
    if places.tag == NULL:
        raise wrong_parameter()
    return b"" if call.operation == FERRO_MESSAGE_ENCRYPT else inner(places.tag, places.tag_length)


cdef void give_vector(Call *call, bytes vector, Places *places):
    if call.operation == FERRO_MESSAGE_ENCRYPT and <CK_ULONG>len(vector) == places.vector_length:
        memcpy(places.vector, PyBytes_AS_STRING(vector), places.vector_length)


cdef void give_tag(Call *call, bytes tag, Places *places):
    if call.operation == FERRO_MESSAGE_ENCRYPT and <CK_ULONG>len(tag) == places.tag_length:
        memcpy(places.tag, PyBytes_AS_STRING(tag), places.tag_length)


cdef CK_RV end_messages(CK_SESSION_HANDLE handle, int operation) noexcept nogil:
    """C_MessageEncryptFinal and its like."""
    cdef Call call
    clear(&call)
    return alone(handle, operation, &call, end_messages_work, NULL)


cdef CK_RV end_messages_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    if is_pending(call.session, operation):
        return CKR_OPERATION_ACTIVE
    if operation.kind != FERRO_PYTHON:
        return CKR_OPERATION_NOT_INITIALIZED
    if (<object>operation.object).in_message:
        return CKR_OPERATION_ACTIVE
    drop_operation(operation)
    return CKR_OK


cdef CK_RV message_begins(
    CK_SESSION_HANDLE handle, int operation, const void *parameter, CK_ULONG parameter_length, CK_BYTE *associated,
    CK_ULONG associated_length
) noexcept nogil:
    """C_EncryptMessageBegin and C_DecryptMessageBegin."""
    cdef Call call
    cdef Message given
    clear(&call)
    given = Message(parameter, parameter_length, associated, associated_length, False, False)
    return message(handle, operation, &given, &call)


cdef CK_RV message_goes_on(
    CK_SESSION_HANDLE handle, int operation, const void *parameter, CK_ULONG parameter_length, CK_BYTE *data,
    CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length, CK_FLAGS flags
) noexcept nogil:
    """C_EncryptMessageNext and C_DecryptMessageNext."""
    cdef Call call
    cdef Message given
    clear(&call)
    given = Message(parameter, parameter_length, NULL, 0, False, flags & CKF_END_OF_MESSAGE != 0)
    call.data, call.data_length, call.out, call.out_length = data, length, out, out_length
    call.bad = unreadable(data, length) or out_length == NULL or flags & ~CKF_END_OF_MESSAGE != 0
    if out_length == NULL:
        call.out_length = &call.number  # a place, so that it is still a part
    return message(handle, operation, &given, &call)


cdef CK_RV whole(
    CK_SESSION_HANDLE handle, int operation, const void *parameter, CK_ULONG parameter_length, CK_BYTE *associated,
    CK_ULONG associated_length, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length
) noexcept nogil:
    """C_EncryptMessage and C_DecryptMessage."""
    cdef Call call
    cdef Message given
    clear(&call)
    given = Message(parameter, parameter_length, associated, associated_length, True, True)
    call.data, call.data_length, call.out, call.out_length = data, length, out, out_length
    call.bad = unreadable(data, length) or out_length == NULL
    if out_length == NULL:
        call.out_length = &call.number
    return message(handle, operation, &given, &call)


cdef CK_RV C_MessageEncryptInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin_messages(hSession, FERRO_MESSAGE_ENCRYPT, pMechanism, hKey)


cdef CK_RV C_EncryptMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen, CK_BYTE_PTR pPlaintext, CK_ULONG ulPlaintextLen, CK_BYTE_PTR pCiphertext,
    CK_ULONG_PTR pulCiphertextLen
) noexcept nogil:
    return whole(
        hSession, FERRO_MESSAGE_ENCRYPT, pParameter, ulParameterLen, pAssociatedData, ulAssociatedDataLen, pPlaintext,
        ulPlaintextLen, pCiphertext, pulCiphertextLen
    )


cdef CK_RV C_EncryptMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen
) noexcept nogil:
    return message_begins(
        hSession, FERRO_MESSAGE_ENCRYPT, pParameter, ulParameterLen, pAssociatedData, ulAssociatedDataLen
    )


cdef CK_RV C_EncryptMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pPlaintextPart,
    CK_ULONG ulPlaintextPartLen, CK_BYTE_PTR pCiphertextPart, CK_ULONG_PTR pulCiphertextPartLen, CK_FLAGS flags
) noexcept nogil:
    return message_goes_on(
        hSession, FERRO_MESSAGE_ENCRYPT, pParameter, ulParameterLen, pPlaintextPart, ulPlaintextPartLen,
        pCiphertextPart, pulCiphertextPartLen, flags
    )


cdef CK_RV C_MessageEncryptFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return end_messages(hSession, FERRO_MESSAGE_ENCRYPT)


cdef CK_RV C_MessageDecryptInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin_messages(hSession, FERRO_MESSAGE_DECRYPT, pMechanism, hKey)


cdef CK_RV C_DecryptMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen, CK_BYTE_PTR pCiphertext, CK_ULONG ulCiphertextLen, CK_BYTE_PTR pPlaintext,
    CK_ULONG_PTR pulPlaintextLen
) noexcept nogil:
    return whole(
        hSession, FERRO_MESSAGE_DECRYPT, pParameter, ulParameterLen, pAssociatedData, ulAssociatedDataLen, pCiphertext,
        ulCiphertextLen, pPlaintext, pulPlaintextLen
    )


cdef CK_RV C_DecryptMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pAssociatedData,
    CK_ULONG ulAssociatedDataLen
) noexcept nogil:
    return message_begins(
        hSession, FERRO_MESSAGE_DECRYPT, pParameter, ulParameterLen, pAssociatedData, ulAssociatedDataLen
    )


cdef CK_RV C_DecryptMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pCiphertextPart,
    CK_ULONG ulCiphertextPartLen, CK_BYTE_PTR pPlaintextPart, CK_ULONG_PTR pulPlaintextPartLen, CK_FLAGS flags
) noexcept nogil:
    return message_goes_on(
        hSession, FERRO_MESSAGE_DECRYPT, pParameter, ulParameterLen, pCiphertextPart, ulCiphertextPartLen,
        pPlaintextPart, pulPlaintextPartLen, flags
    )


cdef CK_RV C_MessageDecryptFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return end_messages(hSession, FERRO_MESSAGE_DECRYPT)
