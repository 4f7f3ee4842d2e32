# The few shapes of a call. Here stand the length rule (Section 5.2), the order of the checks (initialized: the loader;
# session; arguments; the rest) and the ways into Python; a function of a chapter only says which shape it has.

cdef struct Call:
    ferro_session *session
    ferro_slot *slot
    int operation  # FERRO_ENCRYPT …: which of the session's operations
    bint exclusive  # it has the session's operations to itself
    bint quick  # it needed no Python
    bint bad  # an argument cannot be: CKR_ARGUMENTS_BAD once the session is known
    CK_MECHANISM *mechanism  # ours, once the session is known
    CK_MECHANISM mechanism_copy
    CK_OBJECT_HANDLE key
    CK_OBJECT_HANDLE other
    CK_BYTE *data
    CK_ULONG data_length
    CK_BYTE *extra  # a signature, a new PIN, a user's name
    CK_ULONG extra_length
    CK_BYTE *out
    CK_ULONG *out_length
    CK_ULONG room  # what stood there when the call began
    CK_ATTRIBUTE *template
    CK_ULONG count
    CK_ATTRIBUTE *second_template
    CK_ULONG second_count
    CK_OBJECT_HANDLE *made
    CK_OBJECT_HANDLE *second_made
    CK_ULONG number
    ferro_entry *entry  # what could not be recorded without Python, and whom to ask
    void *owner


cdef void clear(Call *call) noexcept nogil:
    ferro_zero(call, sizeof(Call))


cdef bint unreadable(const void *data, CK_ULONG length) noexcept nogil:
    """Whether an input cannot be: no pointer with a length, or longer than any input may be."""
    return (data == NULL and length != 0) or length > DATA_LIMIT


cdef bint bad_template(const CK_ATTRIBUTE *template, CK_ULONG count) noexcept nogil:
    return count != 0 and (template == NULL or count > COUNT_LIMIT)


# Ways in.


cdef CK_RV in_slot(CK_SLOT_ID slot_id, Call *call, work_t work) noexcept nogil:
    """A call about a slot."""
    call.slot = listed_slot(slot_id, NULL)
    if call.slot == NULL:
        return CKR_SLOT_ID_INVALID
    if call.bad:
        return CKR_ARGUMENTS_BAD
    return cross(work, call)


ctypedef CK_RV (*quick_t)(Call *) noexcept nogil


cdef void look_once(Call *call) noexcept nogil:
    """Take over what the caller's structures say. Another thread may change them: what was checked is what is used."""
    if call.mechanism != NULL:
        call.mechanism_copy = call.mechanism[0]
        call.mechanism = &call.mechanism_copy
    if call.out_length != NULL:
        call.room = call.out_length[0]


cdef CK_RV beside(CK_SESSION_HANDLE handle, Call *call, work_t work, quick_t quick) noexcept nogil:
    """A call in a session that leaves its operations alone; several may run at once.

    `quick` (NULL: none) does it without Python or says FERRO_ASK; then `work` does it.
    """
    cdef CK_RV rv = ferro_session_take(handle, 0, 0, &call.session)
    if rv != CKR_OK:
        return rv
    call.slot = call.session.slot
    rv = CKR_ARGUMENTS_BAD if call.bad else either(call, work, quick)
    return leave(call, rv, 0)


cdef CK_RV either(Call *call, work_t work, quick_t quick) noexcept nogil:
    look_once(call)
    cdef CK_RV rv = FERRO_ASK if quick == NULL else quick(call)
    call.quick = rv != FERRO_ASK
    if not call.quick:
        return cross(work, call)
    ferro_wipe_registers()
    return rv


cdef CK_RV alone(CK_SESSION_HANDLE handle, int operation, Call *call, work_t work, quick_t quick) noexcept nogil:
    """A call that uses or changes one of the session's operations."""
    cdef CK_RV rv = ferro_session_take(handle, 1, ferro_operation_flag(operation), &call.session)
    if rv != CKR_OK:
        return rv
    call.slot, call.operation, call.exclusive = call.session.slot, operation, True
    rv = either(call, work, quick)
    return leave(call, rv, 1)


cdef CK_RV leave(Call *call, CK_RV rv, int was_alone) noexcept nogil:
    """Leave the session; what was done to it meanwhile overrules the result."""
    cdef CK_RV fate
    if ferro_session_leave_well(call.session, was_alone, call.quick):
        return rv
    fate = ferro_session_fate(call.session, was_alone)
    if fate != CKR_OK:
        if rv != CKR_CRYPTOKI_NOT_INITIALIZED:  # C_Finalize closes the sessions of calls that wait elsewhere
            rv = fate
        if was_alone and call.session.operations[call.operation].kind == FERRO_KERNEL:
            ferro_operation_end(&call.session.operations[call.operation])
        elif was_alone:
            cross(forget_operation, call)
    if ferro_session_leave(call.session, was_alone):
        discard(call)
    return rv


cdef void discard(Call *call) noexcept nogil:
    """The last to leave a closed session gives back everything it had."""
    noted_ends(call)
    if needs_python(call.session):
        cross(tear_down, call)
    ferro_handles_kill_owned(call.session)
    ferro_session_free(call.session)


cdef CK_RV forget_operation(Call *call) except *:
    drop_operation(&call.session.operations[call.operation])
    return CKR_OK


# Refuse: a session must be there all the same.


cdef CK_RV known_session(CK_SESSION_HANDLE handle) noexcept nogil:
    cdef Call call
    clear(&call)
    cdef CK_RV rv = ferro_session_take(handle, 0, 0, &call.session)
    call.quick = True
    return leave(&call, CKR_OK, 0) if rv == CKR_OK else rv


cdef CK_RV refuse(CK_SESSION_HANDLE handle) noexcept nogil:
    """A function that no mechanism of the module offers."""
    cdef CK_RV rv = known_session(handle)
    return CKR_FUNCTION_NOT_SUPPORTED if rv == CKR_OK else rv


# Begin.


cdef CK_RV begin(
    CK_SESSION_HANDLE handle, int operation, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key
) noexcept nogil:
    """C_XInit: without a mechanism it ends the active operation (Section 5.8 and its like)."""
    cdef Call call
    clear(&call)
    call.mechanism = mechanism
    call.key = key
    cdef CK_RV rv = alone(handle, operation, &call, begin_work, quick_begin)
    if not call.quick:
        ferro_wipe_stack()  # a key may have been unsealed
    return rv


cdef CK_RV begin_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    if call.mechanism == NULL:
        if operation.kind == FERRO_IDLE:
            return CKR_ARGUMENTS_BAD
        drop_operation(operation)
        return CKR_OK
    is_pending(call.session, operation)
    if operation.kind != FERRO_IDLE:
        return CKR_OPERATION_ACTIVE
    if call.bad:
        return CKR_ARGUMENTS_BAD
    cdef Moment before
    mechanism = read_mechanism(call.mechanism)
    session = core_session(call.session)
    key = None
    if call.operation != FERRO_DIGEST:
        key = object_id(call.session, call.key, errors.KeyHandleInvalid)
    function = ferro_operation_flag(call.operation)
    note(call.slot, &before)
    work = core().begin(session, function, mechanism, key)
    if defers(call, None):
        return put_off_begin(call, operation, work)
    bound = drive(call, work)
    start(operation, bound)
    call.number = mechanism.type
    try:
        remember(call, &before, bound)
    except BaseException:
        drop_operation(operation)
        raise
    if call.extra != NULL:
        operation.signature = ferro_copy(call.extra, call.extra_length)
        operation.signature_length = call.extra_length
        if operation.signature == NULL:
            drop_operation(operation)
            return CKR_HOST_MEMORY
    return CKR_OK


cdef void start(ferro_operation *operation, object bound) noexcept:
    Py_INCREF(bound)
    operation.object = <void *>bound
    operation.kind = FERRO_PYTHON
    operation.phase = FERRO_FRESH


cdef CK_RV ready(Call *call, ferro_operation *operation) except *:
    """Whether the operation can be used: active, its login still there, the PIN given where each use needs it."""
    if is_pending(call.session, operation):
        return CKR_OPERATION_ACTIVE
    if operation.kind != FERRO_PYTHON:
        return quick_ready(call, operation)
    bound = <object>operation.object
    held = operation.phase == FERRO_HELD_ONCE or operation.phase == FERRO_HELD_FINISH
    if operation.held_epoch != login_epoch(call.slot) if held else not bound.valid():
        drop_operation(operation)
        return CKR_OPERATION_NOT_INITIALIZED
    if bound.needs_login and not held:
        return CKR_USER_NOT_LOGGED_IN
    if call.bad:
        drop_operation(operation)
        return CKR_ARGUMENTS_BAD
    return CKR_OK


# Transform: the whole input, the whole output.


cdef CK_RV transform(
    CK_SESSION_HANDLE handle, int operation, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length
) noexcept nogil:
    """C_Encrypt and its like; it ends the operation, but for a length query and a buffer too small."""
    cdef Call call
    clear(&call)
    call.data, call.data_length = data, length
    call.out, call.out_length = out, out_length
    call.bad = unreadable(data, length) or out_length == NULL
    return alone(handle, operation, &call, transform_work, quick_transform)


cdef CK_RV transform_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef CK_RV rv = ready(call, operation)
    if rv != CKR_OK:
        return rv
    if operation.phase == FERRO_HELD_ONCE:
        return give_held(call, operation)
    if operation.phase != FERRO_FRESH:
        drop_operation(operation)  # a single part cannot end what was begun in parts
        return CKR_OPERATION_NOT_INITIALIZED
    bound = <object>operation.object
    if bound.pieces:
        return give_password(call, operation, bound, True)
    try:
        if not call.slot.is_inline:
            if defers(call, None):
                return put_off_once(call, operation, bound)
            result = once_elsewhere(call, bound)
            if isinstance(result, int):
                return fits(call, result)
        else:
            rv = fits(call, bound.once_length(call.data_length))
            if rv != CKR_OK or call.out == NULL:
                return rv
            result = with_input(call, bound.once)
    except BaseException:
        drop_operation(operation)
        raise
    return give(call, operation, result, FERRO_HELD_ONCE)


cdef object once_elsewhere(Call *call, object bound):
    """Have the adapter's thread apply the length rule and do the work in one go: a hop is dear."""
    room = -1 if call.out == NULL else None if only_bounded(call.operation) else call.room
    view = view_of(call.slot, call.data, call.data_length)
    try:
        return drive(call, bound.once_within(view, room))
    finally:
        release_view(view)


cdef bint only_bounded(int operation) noexcept nogil:
    """Whether an operation knows only an upper bound of its output before it has computed it."""
    return operation == FERRO_DECRYPT or operation == FERRO_VERIFY_RECOVER


cdef CK_RV fits(Call *call, object bound) except *:
    """The length rule, before anything is computed. For a query the length is the answer."""
    cdef CK_ULONG length = bound
    if call.out == NULL or (call.room < length and not only_bounded(call.operation)):
        call.out_length[0] = length
        return CKR_OK if call.out == NULL else CKR_BUFFER_TOO_SMALL
    return CKR_OK


cdef object with_input(Call *call, object method):
    """Give the engine a view of the caller's input, for the time of the call."""
    view = view_of(call.slot, call.data, call.data_length)
    try:
        return drive(call, method(view))
    finally:
        release_view(view)


cdef CK_RV give(Call *call, ferro_operation *operation, object result, int phase) except *:
    """End the operation with its result, or keep it until the caller comes with a buffer that is large enough."""
    cdef CK_ULONG length
    cdef const char *start = bytes_of(result, &length)
    if length <= call.room:
        drop_operation(operation)
        return put(call, result)
    operation.held = ferro_copy(start, length)
    operation.input = ferro_copy(call.data, call.data_length)
    if isinstance(result, bytearray):
        wipe(result)
    if operation.held == NULL or operation.input == NULL:
        drop_operation(operation)
        return CKR_HOST_MEMORY
    operation.held_length, operation.input_length = length, call.data_length
    operation.held_epoch = login_epoch(call.slot)
    operation.phase = phase
    call.out_length[0] = length
    return CKR_BUFFER_TOO_SMALL


cdef CK_RV give_held(Call *call, ferro_operation *operation) except *:
    """Give what was computed before; for another input the operation is used up."""
    cdef bint over = False
    cdef CK_RV rv = hand_held(call, operation, &over)
    if over:
        drop_operation(operation)
    return rv


cdef CK_RV hand_held(Call *call, ferro_operation *operation, bint *over) noexcept nogil:
    over[0] = call.data_length != operation.input_length or (
        call.data_length != 0 and memcmp(call.data, operation.input, call.data_length) != 0
    )
    if over[0]:
        return CKR_OPERATION_NOT_INITIALIZED
    if call.out == NULL or call.room < operation.held_length:
        call.out_length[0] = operation.held_length
        return CKR_OK if call.out == NULL else CKR_BUFFER_TOO_SMALL
    if operation.held_length != 0:
        memcpy(call.out, operation.held, operation.held_length)
    call.out_length[0] = operation.held_length
    over[0] = True
    return CKR_OK


# Update: a part in, what is complete out.


cdef CK_RV update(
    CK_SESSION_HANDLE handle, int operation, CK_BYTE *data, CK_ULONG length, CK_BYTE *out, CK_ULONG *out_length
) noexcept nogil:
    """C_EncryptUpdate and C_DecryptUpdate."""
    cdef Call call
    clear(&call)
    call.data, call.data_length = data, length
    call.out, call.out_length = out, out_length
    call.bad = unreadable(data, length) or out_length == NULL
    return alone(handle, operation, &call, update_work, quick_update)


cdef CK_RV absorb(CK_SESSION_HANDLE handle, int operation, CK_BYTE *data, CK_ULONG length) noexcept nogil:
    """C_DigestUpdate, C_SignUpdate, C_VerifyUpdate: a part in, nothing out."""
    cdef Call call
    clear(&call)
    call.data, call.data_length = data, length
    call.bad = unreadable(data, length)
    return alone(handle, operation, &call, absorb_work, quick_absorb)


cdef CK_RV in_parts(Call *call, ferro_operation *operation) except *:
    """Whether the operation takes (a further) part."""
    cdef CK_RV rv = ready(call, operation)
    if rv != CKR_OK:
        return rv
    if operation.phase > FERRO_PARTS:
        drop_operation(operation)  # its result is waiting to be fetched: the input is complete
        return CKR_OPERATION_NOT_INITIALIZED
    if not bound_of(operation).multi_part:
        drop_operation(operation)
        return CKR_FUNCTION_NOT_SUPPORTED
    return CKR_OK


cdef CK_RV update_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef CK_RV rv = in_parts(call, operation)
    if rv != CKR_OK:
        return rv
    bound = <object>operation.object
    try:
        length = length_of(call, bound.update_length, (call.data_length,))
        rv = fits_exactly(call, length)
        if rv != CKR_OK or call.out == NULL:
            return rv
        if defers(call, None):
            return put_off_part(call, operation, GIVES_BYTES, length)
        result = with_input(call, bound.update)
        operation.phase = FERRO_PARTS
        return put_checked(call, result)
    except BaseException:
        drop_operation(operation)
        raise


cdef CK_RV put_off_part(Call *call, ferro_operation *operation, int gives, CK_ULONG length) except *:
    """Take a part in the background; the operation goes on afterwards."""
    cdef str name = UPDATE[call.operation]
    cdef Inputs given = inputs(view_of(call.slot, call.data, call.data_length), [])
    if operation.signature != NULL:
        name = GIVEN[name]
    work = (<object>operation.object).update(given.view)
    hold_place(call, operation, job_for(call, name, gives, work, given), GOES_ON).length = length
    return CKR_PENDING


cdef CK_RV fits_exactly(Call *call, object exact) except *:
    """The length rule for an update, whose length is known whatever the operation."""
    cdef CK_ULONG length = exact
    if call.out == NULL or call.room < length:
        call.out_length[0] = length
        return CKR_OK if call.out == NULL else CKR_BUFFER_TOO_SMALL
    return CKR_OK


cdef CK_RV put_checked(Call *call, object result) except *:
    if <CK_ULONG>len(result) > call.room:
        raise RuntimeError("an engine gave more than it had said")
    return put(call, result)


cdef CK_RV absorb_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef CK_RV rv = in_parts(call, operation)
    if rv != CKR_OK:
        return rv
    try:
        if defers(call, None):
            return put_off_part(call, operation, GIVES_NOTHING, 0)
        with_input(call, (<object>operation.object).update)
    except BaseException:
        drop_operation(operation)
        raise
    operation.phase = FERRO_PARTS
    return CKR_OK


# Finish.


cdef CK_RV finish(CK_SESSION_HANDLE handle, int operation, CK_BYTE *out, CK_ULONG *out_length) noexcept nogil:
    """C_EncryptFinal and its like."""
    cdef Call call
    clear(&call)
    call.out, call.out_length = out, out_length
    call.bad = out_length == NULL
    return alone(handle, operation, &call, finish_work, quick_finish)


cdef CK_RV finish_work(Call *call) except *:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef CK_RV rv = ready(call, operation)
    if rv != CKR_OK:
        return rv
    if operation.phase == FERRO_HELD_FINISH:
        return give_held(call, operation)
    if operation.phase == FERRO_HELD_ONCE:
        drop_operation(operation)
        return CKR_OPERATION_NOT_INITIALIZED
    bound = <object>operation.object
    if not bound.multi_part:
        drop_operation(operation)
        return CKR_FUNCTION_NOT_SUPPORTED
    if bound.pieces:
        return give_password(call, operation, bound, False)
    try:
        length = length_of(call, bound.finish_length, ())
        rv = fits(call, length)
        if rv != CKR_OK or call.out == NULL:
            return rv
        if defers(call, None):
            if not whole_room(call, length):
                return CKR_BUFFER_TOO_SMALL
            return put_off_operation(call, operation, FINISH, GIVES_BYTES, bound.finish(), inputs(None, []), length)
        result = drive(call, bound.finish())
    except BaseException:
        drop_operation(operation)
        raise
    return give(call, operation, result, FERRO_HELD_FINISH)


# Verify: a signature in, nothing out. It always ends the operation.


cdef CK_RV verify(
    CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG length, CK_BYTE *signature, CK_ULONG signature_length,
    work_t work, quick_t quick
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = data, length
    call.extra, call.extra_length = signature, signature_length
    call.bad = unreadable(data, length) or unreadable(signature, signature_length)
    return alone(handle, FERRO_VERIFY, &call, work, quick)


cdef CK_RV check(Call *call, bint given, bint in_one) except *:
    """Verify with the signature of C_VerifySignatureInit (`given`) or with the caller's, in one part or at the end."""
    cdef ferro_operation *operation = &call.session.operations[FERRO_VERIFY]
    cdef CK_RV rv = ready(call, operation)
    if rv != CKR_OK:
        return rv
    if given != (operation.signature != NULL):
        return CKR_OPERATION_NOT_INITIALIZED
    if in_one and operation.phase != FERRO_FRESH:
        drop_operation(operation)
        return CKR_OPERATION_NOT_INITIALIZED
    bound = <object>operation.object
    if not in_one and not bound.multi_part:
        drop_operation(operation)
        return CKR_FUNCTION_NOT_SUPPORTED
    if defers(call, None):
        return put_off_check(call, operation, in_one)
    if given:
        signature = view_of(call.slot, operation.signature, operation.signature_length)
    else:
        signature = view_of(call.slot, call.extra, call.extra_length)
    try:
        if in_one:
            data = view_of(call.slot, call.data, call.data_length)
            try:
                drive(call, bound.verify(data, signature))
            finally:
                release_view(data)
        else:
            drive(call, bound.finish_verify(signature))
    finally:
        release_view(signature)
        drop_operation(operation)
    return CKR_OK


cdef CK_RV put_off_check(Call *call, ferro_operation *operation, bint in_one) except *:
    """Verify with the caller's signature, in one part or at the end, in the background."""
    bound = <object>operation.object
    cdef Inputs given
    if operation.signature != NULL:
        given = inputs(view_of(call.slot, operation.signature, operation.signature_length), [])
    else:
        given = inputs(view_of(call.slot, call.extra, call.extra_length), [])
    if in_one:
        given.other = view_of(call.slot, call.data, call.data_length)
        work, names = bound.verify(given.other, given.view), ONCE
    else:
        work, names = bound.finish_verify(given.view), FINISH
    name = names[FERRO_VERIFY] if operation.signature == NULL else GIVEN[names[FERRO_VERIFY]]
    try:
        hold_place(call, operation, job_for(call, name, GIVES_NOTHING, work, given), ENDS)
        return CKR_PENDING
    except BaseException:
        drop_operation(operation)
        raise


cdef CK_RV put_off_once(Call *call, ferro_operation *operation, object bound) except *:
    """Do it all in the background, once the length rule was applied."""
    length = length_of(call, bound.once_length, (call.data_length,))
    cdef CK_RV rv = fits(call, length)
    if rv != CKR_OK or call.out == NULL:
        return rv
    if not whole_room(call, length):
        return CKR_BUFFER_TOO_SMALL
    view = view_of(call.slot, call.data, call.data_length)
    return put_off_operation(call, operation, ONCE, GIVES_BYTES, bound.once(view), inputs(view, []), length)
