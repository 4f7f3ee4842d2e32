# Slot and token management functions (Section 5.5).


cdef CK_RV C_GetSlotList(CK_BBOOL tokenPresent, CK_SLOT_ID_PTR pSlotList, CK_ULONG_PTR pulCount) noexcept nogil:
    cdef Call call
    cdef CK_RV rv
    if pulCount == NULL:
        return CKR_ARGUMENTS_BAD
    if pSlotList == NULL or not LISTED:  # only then may the list change
        clear(&call)
        rv = cross(scan_work, &call)
        if rv != CKR_OK:
            return rv
    return ferro_slots_list(tokenPresent, pSlotList, pulCount)


cdef bint LISTED = False
"""Whether the list of slots is whole: at C_Initialize, dispatched adapters are not waited for."""


cdef CK_RV scan_work(Call *call) except *:
    global LISTED
    tell, LISTED = LISTED, True
    scan(tell, True)
    return CKR_OK


cdef ferro_slot *listed_slot(CK_SLOT_ID slot_id, ferro_slot_copy *copy) noexcept nogil:
    """Find a slot by its id, even if the application has not asked for the list yet."""
    cdef Call call
    cdef ferro_slot *slot = ferro_slot_find(slot_id, copy)
    if slot == NULL and not LISTED:
        clear(&call)
        if cross(scan_work, &call) == CKR_OK:
            slot = ferro_slot_find(slot_id, copy)
    return slot


cdef object scan(bint tell, bint look):
    """Ask the core for the slots; `tell` makes an event of what changed.

    Without `look` dispatched adapters are not asked: they are as they were last seen.
    """
    cdef list views = list(step(core().slots(look)))
    cdef ferro_slot_view *copies = <ferro_slot_view *>calloc(len(views) + 1, sizeof(ferro_slot_view))
    cdef CK_ULONG i
    if copies == NULL:
        raise MemoryError
    try:
        for i in range(<CK_ULONG>len(views)):
            view = views[i]
            copies[i].id, copies[i].flags = view.id, view.flags
            copies[i].is_inline, copies[i].initialized = bool(view.inline), bool(view.initialized)
            copies[i].present = bool(view.token_present)
            copies[i].write_protected = bool(view.write_protected)
            copies[i].max_sessions = limit(view.max_sessions or 0)
            pad(copies[i].description, sizeof(copies[i].description), view.description)
            pad(copies[i].manufacturer, sizeof(copies[i].manufacturer), view.manufacturer)
        rv = ferro_slots_update(copies, len(views), tell)
    finally:
        free(copies)
    if rv != CKR_OK:
        raise MemoryError
    present = {view.id for view in views if view.token_present}
    for slot_id in present | BEHIND.keys():
        look_behind(slot_id, slot_id in present)


cdef CK_RV C_GetSlotInfo(CK_SLOT_ID slotID, CK_SLOT_INFO_PTR pInfo) noexcept nogil:
    cdef ferro_slot_copy slot
    if listed_slot(slotID, &slot) == NULL:
        return CKR_SLOT_ID_INVALID
    if pInfo == NULL:
        return CKR_ARGUMENTS_BAD
    memset(pInfo, 0, sizeof(CK_SLOT_INFO))
    memcpy(pInfo.slotDescription, slot.description, sizeof(slot.description))
    memcpy(pInfo.manufacturerID, slot.manufacturer, sizeof(slot.manufacturer))
    pInfo.flags = slot.flags | CKF_TOKEN_PRESENT if slot.present else slot.flags & ~CKF_TOKEN_PRESENT
    pInfo.hardwareVersion = pInfo.firmwareVersion = VERSION
    return CKR_OK


cdef CK_RV C_GetTokenInfo(CK_SLOT_ID slotID, CK_TOKEN_INFO_PTR pInfo) noexcept nogil:
    cdef Call call
    clear(&call)
    call.out = <CK_BYTE *>pInfo
    call.bad = pInfo == NULL
    return in_slot(slotID, &call, token_info)


cdef CK_RV token_info(Call *call) except *:
    cdef CK_TOKEN_INFO info
    cdef ferro_slot_copy slot
    token = drive(call, core().token_info(call.slot.id))
    memset(&info, 0, sizeof(info))
    pad(info.label, sizeof(info.label), token.label)
    pad(info.manufacturerID, sizeof(info.manufacturerID), token.manufacturer_id)
    pad(info.model, sizeof(info.model), token.model)
    pad(info.serialNumber, sizeof(info.serialNumber), token.serial_number)
    pad(info.utcTime, sizeof(info.utcTime), token.utc_time or "")
    info.flags = token.flags
    info.ulMaxSessionCount = limit(token.max_session_count)
    info.ulMaxRwSessionCount = limit(token.max_rw_session_count)
    info.ulMinPinLen, info.ulMaxPinLen = token.min_pin_len, token.max_pin_len
    info.ulTotalPublicMemory = limit(token.total_public_memory)
    info.ulFreePublicMemory = limit(token.free_public_memory)
    info.ulTotalPrivateMemory = limit(token.total_private_memory)
    info.ulFreePrivateMemory = limit(token.free_private_memory)
    info.hardwareVersion = info.firmwareVersion = VERSION
    if token.hardware_version is not None:
        info.hardwareVersion.major, info.hardwareVersion.minor = token.hardware_version
    if token.firmware_version is not None:
        info.firmwareVersion.major, info.firmwareVersion.minor = token.firmware_version
    ferro_slot_read(call.slot, &slot)
    info.ulSessionCount, info.ulRwSessionCount = slot.sessions, slot.rw_sessions
    (<CK_TOKEN_INFO *>call.out)[0] = info
    return CKR_OK


cdef CK_ULONG limit(object number) except? 0xFFFF:
    """A number that may say "not known" (CK_UNAVAILABLE_INFORMATION), in this platform's width."""
    return CK_UNAVAILABLE_INFORMATION if number >= CK_UNAVAILABLE_INFORMATION else number


cdef CK_RV C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID_PTR pSlot, CK_VOID_PTR pRserved) noexcept nogil:
    cdef Call call
    cdef CK_RV rv
    if pSlot == NULL or pRserved != NULL:
        return CKR_ARGUMENTS_BAD
    clear(&call)
    while True:
        rv = cross(scan_work, &call)
        if rv == CKR_OK:
            rv = ferro_slots_event(pSlot)
        if rv != CKR_NO_EVENT or flags & CKF_DONT_BLOCK:
            return rv
        if rest(1000):
            return CKR_CRYPTOKI_NOT_INITIALIZED


cdef bint rest(unsigned milliseconds) noexcept nogil:
    """Wait outside of the gate, so that a fork or C_Finalize need not wait for us; true when the library is gone."""
    cdef void *state = ferro_let_go()
    cdef bint gone
    if HOST != NULL:
        HOST.pause()
    gone = ferro_slots_wait(milliseconds)
    if HOST != NULL and HOST.resume():
        gone = True
    ferro_take_back(state)
    return gone


cdef CK_RV C_GetMechanismList(
    CK_SLOT_ID slotID, CK_MECHANISM_TYPE_PTR pMechanismList, CK_ULONG_PTR pulCount
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.out, call.out_length = <CK_BYTE *>pMechanismList, pulCount
    call.bad = pulCount == NULL
    return in_slot(slotID, &call, mechanism_list)


cdef CK_RV mechanism_list(Call *call) except *:
    cdef CK_MECHANISM_TYPE *place = <CK_MECHANISM_TYPE *>call.out
    cdef CK_ULONG room = call.out_length[0], i
    cdef list types = list(step(core().mechanism_list(call.slot.id)))  # known since the adapter was opened
    call.out_length[0] = len(types)
    if place == NULL:
        return CKR_OK
    if room < <CK_ULONG>len(types):
        return CKR_BUFFER_TOO_SMALL
    for i in range(<CK_ULONG>len(types)):
        place[i] = types[i]
    return CKR_OK


cdef CK_RV C_GetMechanismInfo(
    CK_SLOT_ID slotID, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR pInfo
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.number, call.out = type, <CK_BYTE *>pInfo
    call.bad = pInfo == NULL
    return in_slot(slotID, &call, mechanism_info)


cdef CK_RV mechanism_info(Call *call) except *:
    cdef CK_MECHANISM_INFO *info = <CK_MECHANISM_INFO *>call.out
    smallest, largest, flags = step(core().mechanism_info(call.slot.id, call.number))
    info.ulMinKeySize, info.ulMaxKeySize, info.flags = smallest, largest, flags
    return CKR_OK


cdef CK_RV C_InitToken(
    CK_SLOT_ID slotID, CK_UTF8CHAR_PTR pPin, CK_ULONG ulPinLen, CK_UTF8CHAR_PTR pLabel
) noexcept nogil:
    cdef Call call
    cdef CK_RV rv
    clear(&call)
    call.slot = listed_slot(slotID, NULL)
    if call.slot == NULL:
        return CKR_SLOT_ID_INVALID
    if pPin == NULL or pLabel == NULL or ulPinLen > PIN_LIMIT:
        return CKR_ARGUMENTS_BAD
    call.data, call.data_length, call.extra = pPin, ulPinLen, pLabel
    enter(call.slot)
    rv = ferro_slot_begin_init(call.slot)
    if rv == CKR_OK:
        rv = cross(init_token, &call)
        ferro_slot_end_init(call.slot)
        if rv == CKR_OK:
            ferro_handles_kill_slot(slotID)
        ferro_sessions_forget_slot(call.slot)
    ferro_slot_leave(call.slot)
    return rv


cdef CK_RV init_token(Call *call) except *:
    label = read_label(call.extra)
    pin = read_pin(call.data, call.data_length)
    try:
        drive(call, core().init_token(call.slot.id, pin, label))
    finally:
        wipe(pin)
    scan(False, True)
    return CKR_OK


cdef str read_label(const CK_BYTE *label):
    """Return the 32 bytes of a label without their padding; some callers end it with a NUL instead."""
    cdef bytes text = label[:32]
    return text.partition(b"\0")[0].decode("utf-8", "ignore").rstrip(" ")


cdef CK_RV C_InitPIN(CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pPin, CK_ULONG ulPinLen) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = pPin, ulPinLen
    call.bad = pPin == NULL or ulPinLen > PIN_LIMIT
    return in_slot_alone(hSession, &call, init_pin)


cdef CK_RV init_pin(Call *call) except *:
    if ferro_session_state(call.session) != CKS_RW_SO_FUNCTIONS:
        return CKR_USER_NOT_LOGGED_IN
    session, pin = core_session(call.session), read_pin(call.data, call.data_length)
    try:
        drive(call, core().init_pin(session, pin))
    finally:
        wipe(pin)
        ferro_sessions_forget_slot(call.slot)
    return CKR_OK


cdef CK_RV C_SetPIN(
    CK_SESSION_HANDLE hSession, CK_UTF8CHAR_PTR pOldPin, CK_ULONG ulOldLen, CK_UTF8CHAR_PTR pNewPin, CK_ULONG ulNewLen
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = pOldPin, ulOldLen
    call.extra, call.extra_length = pNewPin, ulNewLen
    call.bad = pOldPin == NULL or pNewPin == NULL or ulOldLen > PIN_LIMIT or ulNewLen > PIN_LIMIT
    return in_slot_alone(hSession, &call, set_pin)


cdef CK_RV set_pin(Call *call) except *:
    if not call.session.flags & CKF_RW_SESSION:
        return CKR_SESSION_READ_ONLY
    session = core_session(call.session)
    old, new = read_pin(call.data, call.data_length), read_pin(call.extra, call.extra_length)
    try:
        drive(call, core().set_pin(session, old, new))
    finally:
        wipe(old)
        wipe(new)
        ferro_sessions_forget_slot(call.slot)
    return CKR_OK


# One login, logout or PIN function of a slot at a time.

cdef enum:
    PIN_LIMIT = 0x10000  # bytes; what is too long for the token is the core's to say


cdef void enter(ferro_slot *slot) noexcept nogil:
    cdef void *state
    while not ferro_slot_try_enter(slot):
        state = ferro_let_go()
        ferro_slot_await_free(slot)
        ferro_take_back(state)


cdef CK_RV in_slot_alone(CK_SESSION_HANDLE handle, Call *call, work_t work) noexcept nogil:
    """A call in a session that has its slot's login to itself."""
    cdef CK_RV rv = ferro_session_take(handle, 0, 0, &call.session)
    if rv != CKR_OK:
        return rv
    if call.bad:
        return leave(call, CKR_ARGUMENTS_BAD, 0)
    call.slot = call.session.slot
    enter(call.slot)
    rv = cross(work, call)
    ferro_slot_leave(call.slot)
    return leave(call, rv, 0)
