# Message-based signing and verifying functions (Sections 5.14 and 5.16): processes that last for many messages. No
# mechanism has a parameter for each message. What fails ends the message, not the process.


cdef struct Signed:
    # What a function about a message was given beside data and signature.
    CK_ULONG parameter_length
    bint whole
    bint last


cdef CK_RV begin_signatures(
    CK_SESSION_HANDLE handle, int operation, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key
) noexcept nogil:
    """C_MessageSignInit and C_MessageVerifyInit: without a mechanism they end the process."""
    cdef Call call
    clear(&call)
    call.mechanism, call.key = mechanism, key
    return alone(handle, operation, &call, begin_signatures_work, NULL)


cdef CK_RV begin_signatures_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    if call.mechanism == NULL:
        if operation.kind == FERRO_IDLE:
            return CKR_ARGUMENTS_BAD
        drop_operation(operation)
        return CKR_OK
    is_pending(call.session, operation)
    if operation.kind != FERRO_IDLE:
        return CKR_OPERATION_ACTIVE
    mechanism, session = read_mechanism(call.mechanism), core_session(call.session)
    key = object_id(call.session, call.key, errors.KeyHandleInvalid)
    function = ferro_operation_flag(call.operation)
    work = core().begin_signatures(session, function, mechanism, key)
    if defers(call, None):
        return put_off_begin(call, operation, work)
    start(operation, drive(call, work))
    return CKR_OK


cdef CK_RV signed(CK_SESSION_HANDLE handle, int operation, Signed *given, Call *call, work_t work) noexcept nogil:
    call.template = <CK_ATTRIBUTE *>given
    return alone(handle, operation, call, work, NULL)


cdef Signed *given_of(Call *call) noexcept nogil:
    return <Signed *>call.template


cdef CK_RV ready_to_sign(Call *call, bint begins) except *:
    """Whether the process is there and in the right place for a message that begins, or for one that goes on."""
    cdef ferro_operation *operation = &call.session.operations[call.operation]
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
    if process.in_message == begins:
        return CKR_OPERATION_ACTIVE if begins else CKR_OPERATION_NOT_INITIALIZED
    if call.bad:
        process.give_up()
        return CKR_ARGUMENTS_BAD
    if given_of(call).parameter_length != 0:
        process.give_up()
        raise wrong_parameter()
    return CKR_OK


cdef CK_RV begin_signed(Call *call) except *:
    cdef CK_RV rv = ready_to_sign(call, True)
    if rv != CKR_OK:
        return rv
    process = <object>call.session.operations[call.operation].object
    return about_signed(call, MESSAGE_BEGIN, GIVES_NOTHING, process.begin_message(), inputs(None, []), 0)


cdef dict names_of(Call *call):
    return MESSAGE if given_of(call).whole else MESSAGE_NEXT


cdef CK_RV about_signed(Call *call, dict names, int gives, object work, Inputs given, CK_ULONG length) except *:
    """Do what was asked about a message, or put it off; the process goes on in its place."""
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef Job job
    if defers(call, None):
        job = job_for(call, names[call.operation], gives, work, given)
        job.length = length
        hold_place(call, operation, job, LASTS)
        return CKR_PENDING
    try:
        made = drive(call, work)
    finally:
        given()
    return put_checked(call, made) if gives == GIVES_BYTES else CKR_OK


cdef CK_RV take_part(Call *call, object process) except *:
    """Take a part that is not the last."""
    cdef Inputs given = inputs(view_of(call.slot, call.data, call.data_length), [])
    return about_signed(call, MESSAGE_NEXT, GIVES_NOTHING, process.take_part(given.view), given, 0)


cdef CK_RV sign_message(Call *call) except *:
    """C_SignMessage, and C_SignMessageNext with a part or with the last one."""
    cdef Signed *given = given_of(call)
    cdef CK_RV rv = ready_to_sign(call, given.whole)
    if rv != CKR_OK:
        return rv
    process = <object>call.session.operations[call.operation].object
    if not given.last:
        return take_part(call, process)
    try:
        length = drive(call, process.signature_length(call.data_length, whole=given.whole))
    except BaseException:
        process.give_up()
        raise
    rv = fits_exactly(call, length)
    if rv != CKR_OK or call.out == NULL:
        return rv
    cdef Inputs data = inputs(view_of(call.slot, call.data, call.data_length), [])
    work = process.sign(data.view, whole=given.whole)
    return about_signed(call, names_of(call), GIVES_BYTES, work, data, length)


cdef CK_RV verify_message(Call *call) except *:
    """C_VerifyMessage, and C_VerifyMessageNext with a part or with the last one."""
    cdef Signed *given = given_of(call)
    cdef CK_RV rv = ready_to_sign(call, given.whole)
    if rv != CKR_OK:
        return rv
    process = <object>call.session.operations[call.operation].object
    if not given.last:
        return take_part(call, process)
    cdef Inputs data = inputs(view_of(call.slot, call.data, call.data_length), [])
    data.other = view_of(call.slot, call.extra, call.extra_length)
    work = process.verify_message(data.view, data.other, whole=given.whole)
    return about_signed(call, names_of(call), GIVES_NOTHING, work, data, 0)


cdef CK_RV message_begins_signed(CK_SESSION_HANDLE handle, int operation, CK_ULONG parameter_length) noexcept nogil:
    cdef Call call
    cdef Signed given
    clear(&call)
    given = Signed(parameter_length, False, False)
    return signed(handle, operation, &given, &call, begin_signed)


cdef CK_RV sign_it(
    CK_SESSION_HANDLE handle, CK_ULONG parameter_length, CK_BYTE *data, CK_ULONG length, CK_BYTE *out,
    CK_ULONG *out_length, bint whole, bint last
) noexcept nogil:
    cdef Call call
    cdef Signed given
    clear(&call)
    given = Signed(parameter_length, whole, last)
    call.data, call.data_length, call.out, call.out_length = data, length, out, out_length
    call.bad = unreadable(data, length) or (last and out_length == NULL)
    return signed(handle, FERRO_MESSAGE_SIGN, &given, &call, sign_message)


cdef CK_RV verify_it(
    CK_SESSION_HANDLE handle, CK_ULONG parameter_length, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature,
    CK_ULONG signature_length, bint whole, bint last
) noexcept nogil:
    cdef Call call
    cdef Signed given
    clear(&call)
    given = Signed(parameter_length, whole, last)
    call.data, call.data_length, call.extra, call.extra_length = data, length, signature, signature_length
    call.bad = unreadable(data, length) or (last and unreadable(signature, signature_length))
    return signed(handle, FERRO_MESSAGE_VERIFY, &given, &call, verify_message)


cdef CK_RV C_MessageSignInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin_signatures(hSession, FERRO_MESSAGE_SIGN, pMechanism, hKey)


cdef CK_RV C_SignMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG_PTR pulSignatureLen
) noexcept nogil:
    return sign_it(hSession, ulParameterLen, pData, ulDataLen, pSignature, pulSignatureLen, True, True)


cdef CK_RV C_SignMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen
) noexcept nogil:
    return message_begins_signed(hSession, FERRO_MESSAGE_SIGN, ulParameterLen)


cdef CK_RV C_SignMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG_PTR pulSignatureLen
) noexcept nogil:
    """Without a place for the signature's length more parts follow."""
    cdef bint last = pulSignatureLen != NULL
    return sign_it(hSession, ulParameterLen, pData, ulDataLen, pSignature, pulSignatureLen, False, last)


cdef CK_RV C_MessageSignFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return end_messages(hSession, FERRO_MESSAGE_SIGN)


cdef CK_RV C_MessageVerifyInit(
    CK_SESSION_HANDLE hSession, CK_MECHANISM_PTR pMechanism, CK_OBJECT_HANDLE hKey
) noexcept nogil:
    return begin_signatures(hSession, FERRO_MESSAGE_VERIFY, pMechanism, hKey)


cdef CK_RV C_VerifyMessage(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG ulSignatureLen
) noexcept nogil:
    return verify_it(hSession, ulParameterLen, pData, ulDataLen, pSignature, ulSignatureLen, True, True)


cdef CK_RV C_VerifyMessageBegin(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen
) noexcept nogil:
    return message_begins_signed(hSession, FERRO_MESSAGE_VERIFY, ulParameterLen)


cdef CK_RV C_VerifyMessageNext(
    CK_SESSION_HANDLE hSession, CK_VOID_PTR pParameter, CK_ULONG ulParameterLen, CK_BYTE_PTR pData, CK_ULONG
    ulDataLen, CK_BYTE_PTR pSignature, CK_ULONG ulSignatureLen
) noexcept nogil:
    """Without a signature more parts follow."""
    cdef bint last = pSignature != NULL
    return verify_it(hSession, ulParameterLen, pData, ulDataLen, pSignature, ulSignatureLen, False, last)


cdef CK_RV C_MessageVerifyFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    return end_messages(hSession, FERRO_MESSAGE_VERIFY)
