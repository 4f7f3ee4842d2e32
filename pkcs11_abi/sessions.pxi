# Session management functions (Section 5.6).


cdef CK_RV C_OpenSession(
    CK_SLOT_ID slotID, CK_FLAGS flags, CK_VOID_PTR pApplication, CK_NOTIFY Notify, CK_SESSION_HANDLE_PTR phSession
) noexcept nogil:
    cdef Call call
    cdef CK_RV rv
    if phSession == NULL:
        return CKR_ARGUMENTS_BAD
    if not flags & CKF_SERIAL_SESSION:
        return CKR_SESSION_PARALLEL_NOT_SUPPORTED
    if flags & CKF_ASYNC_SESSION:
        clear(&call)
        rv = in_slot(slotID, &call, asynchronous_allowed)
        if rv != CKR_OK:
            return rv
    rv = ferro_session_open(slotID, flags, phSession)
    if rv == CKR_TOKEN_NOT_RECOGNIZED or rv == CKR_TOKEN_NOT_PRESENT or (rv == CKR_SLOT_ID_INVALID and not LISTED):
        clear(&call)  # another process may have made the token since we looked
        if cross(scan_work, &call) == CKR_OK:
            rv = ferro_session_open(slotID, flags, phSession)
    return rv


cdef CK_RV asynchronous_allowed(Call *call) except *:
    return CKR_OK if core().asynchronous else CKR_SESSION_ASYNC_NOT_SUPPORTED


cdef CK_RV C_CloseSession(CK_SESSION_HANDLE hSession) noexcept nogil:
    cdef Call call
    cdef int last = 0
    clear(&call)
    cdef CK_RV rv = ferro_session_detach(hSession, &call.session, &last)
    if rv == CKR_OK:
        close_detached(&call)
        if last:
            end_login(&call)
    return rv


cdef void close_detached(Call *call) noexcept nogil:
    """A call that still has the session finds it closed, and the last one to leave it tears it down."""
    call.slot = call.session.slot
    if not call.slot.is_inline:
        call.number = True
        cross(cancel_dispatched, call)
    if ferro_session_leave(call.session, 0):
        discard(call)
    call.session = NULL


cdef void end_login(Call *call) noexcept nogil:
    """The last session of a login was closed: the core is told."""
    enter(call.slot)
    cross(log_out_if_pending, call)
    ferro_sessions_forget_slot(call.slot)  # whoever told the core
    ferro_slot_leave(call.slot)
    ferro_wipe_stack()


cdef CK_RV log_out_if_pending(Call *call) except *:
    if ferro_slot_take_pending_logout(call.slot):
        try:
            drive(call, core().logout(call.slot.id))
        finally:
            forget_slot(call.slot)
    return CKR_OK


cdef CK_RV C_CloseAllSessions(CK_SLOT_ID slotID) noexcept nogil:
    cdef Call call
    cdef int last = 0
    clear(&call)
    cdef ferro_slot *slot = ferro_slot_find(slotID, NULL)
    if slot == NULL:
        return CKR_SLOT_ID_INVALID
    call.session = ferro_session_detach_any(slot, &last)
    while call.session != NULL:
        close_detached(&call)
        call.session = ferro_session_detach_any(slot, &last)
    call.slot = slot
    if last:
        end_login(&call)
    return CKR_OK


cdef CK_RV C_GetSessionInfo(CK_SESSION_HANDLE hSession, CK_SESSION_INFO_PTR pInfo) noexcept nogil:
    return ferro_session_info(hSession, pInfo)


cdef CK_RV C_SessionCancel(CK_SESSION_HANDLE hSession, CK_FLAGS flags) noexcept nogil:
    """End the operations that `flags` name; a call that is at work on one of them returns CKR_FUNCTION_CANCELED."""
    cdef Call call
    clear(&call)
    cdef CK_RV rv = ferro_session_take(hSession, 0, 0, &call.session)
    if rv != CKR_OK:
        return rv
    cdef bint running = ferro_session_cancel(call.session, flags)
    if running and not call.session.slot.is_inline:
        cross(cancel_dispatched, &call)
    leave(&call, CKR_OK, 0)
    if running:
        return CKR_OK
    call.number = flags
    rv = alone(hSession, FERRO_FIND, &call, cancel, NULL)
    return CKR_OPERATION_CANCEL_FAILED if rv == CKR_OPERATION_ACTIVE else rv


cdef CK_RV cancel(Call *call) except *:
    cdef int i
    if call.session.flags & CKF_ASYNC_SESSION:
        cancel_jobs(call.session, call.number)
    for i in range(FERRO_OPERATIONS):
        if ferro_operation_flag(i) & call.number:
            drop_operation(&call.session.operations[i])
    return CKR_OK


cdef CK_RV C_GetOperationState(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pOperationState, CK_ULONG_PTR pulOperationStateLen
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.out, call.out_length = pOperationState, pulOperationStateLen
    call.bad = pulOperationStateLen == NULL
    return alone(hSession, FERRO_FIND, &call, get_state, NULL)


cdef CK_RV C_SetOperationState(
    CK_SESSION_HANDLE hSession, CK_BYTE_PTR pOperationState, CK_ULONG ulOperationStateLen,
    CK_OBJECT_HANDLE hEncryptionKey, CK_OBJECT_HANDLE hAuthenticationKey
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = pOperationState, ulOperationStateLen
    call.key, call.other = hEncryptionKey, hAuthenticationKey
    call.bad = pOperationState == NULL or unreadable(pOperationState, ulOperationStateLen)
    return alone(hSession, FERRO_FIND, &call, set_state, NULL)


cdef CK_RV C_Login(
    CK_SESSION_HANDLE hSession, CK_USER_TYPE userType, CK_UTF8CHAR_PTR pPin, CK_ULONG ulPinLen
) noexcept nogil:
    return log_in(hSession, userType, pPin, ulPinLen, NULL, 0)


cdef CK_RV C_LoginUser(
    CK_SESSION_HANDLE hSession, CK_USER_TYPE userType, CK_UTF8CHAR_PTR pPin, CK_ULONG ulPinLen,
    CK_UTF8CHAR_PTR pUsername, CK_ULONG ulUsernameLen
) noexcept nogil:
    return log_in(hSession, userType, pPin, ulPinLen, pUsername, ulUsernameLen)


cdef CK_RV log_in(
    CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG length, CK_BYTE *name, CK_ULONG name_length
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.number = user
    call.data, call.data_length = pin, length
    call.extra, call.extra_length = name, name_length
    call.bad = pin == NULL or length > PIN_LIMIT or (name == NULL and name_length != 0) or name_length > PIN_LIMIT
    if user == CKU_CONTEXT_SPECIFIC:
        return alone(handle, FERRO_SIGN, &call, log_in_for_one_use, NULL)
    if user != CKU_SO and user != CKU_USER:
        call.bad = False
        return beside(handle, &call, no_such_user, NULL)
    return in_slot_alone(handle, &call, log_in_to_slot)


cdef CK_RV no_such_user(Call *call) except *:
    return CKR_USER_TYPE_INVALID


cdef CK_RV log_in_to_slot(Call *call) except *:
    cdef int user = <int>call.number
    cdef bint success = False
    cdef CK_RV rv
    session = core_session(call.session)
    follow_login(call)
    rv = ferro_slot_begin_login(call.slot, user)
    if rv != CKR_OK:
        return rv
    try:
        name = None
        if call.extra_length != 0:
            try:
                name = call.extra[: call.extra_length].decode("utf-8")
            except UnicodeDecodeError:
                raise errors.ArgumentsBad() from None
        pin = read_pin(call.data, call.data_length)
        try:
            drive(call, core().login(session, user, pin, name))
        finally:
            wipe(pin)
        success = True
    finally:
        ferro_slot_end_login(call.slot, user, success)
        forget_slot(call.slot)
    return log_out_if_pending(call)  # the last session may have been closed meanwhile


cdef CK_RV log_in_for_one_use(Call *call) except *:
    """CKU_CONTEXT_SPECIFIC: the PIN for the operation whose key asks for it at each use (CKA_ALWAYS_AUTHENTICATE)."""
    cdef int i
    if call.bad:
        return CKR_ARGUMENTS_BAD
    waiting = None
    for i in range(FERRO_OPERATIONS):
        if call.session.operations[i].kind == FERRO_PYTHON and i != FERRO_FIND:
            bound = <object>call.session.operations[i].object
            if bound.needs_login:
                waiting = bound
    if waiting is None:
        return CKR_OPERATION_NOT_INITIALIZED
    session, pin = core_session(call.session), read_pin(call.data, call.data_length)
    try:
        drive(call, core().check_pin(session, pin, waiting))
    finally:
        wipe(pin)
        if core().login_state(call.slot.id) is None:  # a PIN that was locked by this
            ferro_slot_logged_out(call.slot)
            forget_slot(call.slot)
    waiting.needs_login = False
    return CKR_OK


cdef CK_RV C_Logout(CK_SESSION_HANDLE hSession) noexcept nogil:
    cdef Call call
    clear(&call)
    cdef CK_RV rv = in_slot_alone(hSession, &call, log_out)
    ferro_wipe_stack()
    return rv


cdef CK_RV log_out(Call *call) except *:
    cdef CK_STATE state = ferro_session_state(call.session)
    if state == CKS_RO_PUBLIC_SESSION or state == CKS_RW_PUBLIC_SESSION:
        return CKR_USER_NOT_LOGGED_IN
    cancel_jobs_of_slot(call.slot)
    try:
        drive(call, core().logout(call.slot.id))
    finally:
        ferro_slot_logged_out(call.slot)
        forget_slot(call.slot)
    return CKR_OK


cdef CK_RV C_GetSessionValidationFlags(
    CK_SESSION_HANDLE hSession, CK_SESSION_VALIDATION_FLAGS_TYPE type, CK_FLAGS_PTR pFlags
) noexcept nogil:
    """The module was not validated by anybody, so no flag is ever set (Section 5.6)."""
    cdef CK_RV rv = known_session(hSession)
    if rv != CKR_OK:
        return rv
    if pFlags == NULL or type != CKS_LAST_VALIDATION_OK:
        return CKR_ARGUMENTS_BAD
    pFlags[0] = 0
    return CKR_OK
