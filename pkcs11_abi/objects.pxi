# Object management functions (Section 5.7).

from ferrohsm.core import INVALID, SENSITIVE


cdef CK_RV C_CreateObject(
    CK_SESSION_HANDLE hSession, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulCount, CK_OBJECT_HANDLE_PTR phObject
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.template, call.count, call.made = pTemplate, ulCount, phObject
    call.bad = phObject == NULL or bad_template(pTemplate, ulCount)
    return beside(hSession, &call, create_object, NULL)


cdef CK_RV create_object(Call *call) except *:
    template = read_template(call.template, call.count)
    made = drive(call, core().create_object(core_session(call.session), template))
    return hand_out(call, made, call.made)


cdef CK_RV C_CopyObject(
    CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE hObject, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulCount,
    CK_OBJECT_HANDLE_PTR phNewObject
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.key, call.template, call.count, call.made = hObject, pTemplate, ulCount, phNewObject
    call.bad = phNewObject == NULL or bad_template(pTemplate, ulCount)
    return beside(hSession, &call, copy_object, NULL)


cdef CK_RV copy_object(Call *call) except *:
    source = object_id(call.session, call.key, errors.ObjectHandleInvalid)
    template = read_template(call.template, call.count)
    made = drive(call, core().copy_object(core_session(call.session), source, template))
    return hand_out(call, made, call.made)


cdef CK_RV C_DestroyObject(CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE hObject) noexcept nogil:
    cdef Call call
    clear(&call)
    call.key = hObject
    return beside(hSession, &call, destroy_object, NULL)


cdef CK_RV destroy_object(Call *call) except *:
    target = object_id(call.session, call.key, errors.ObjectHandleInvalid)
    try:
        drive(call, core().destroy_object(core_session(call.session), target))
    except BaseException:
        ferro_sessions_forget_handle(call.session.slot, call.key)  # however far it came
        raise
    ferro_handle_kill(call.session.slot, call.key)
    return CKR_OK


cdef CK_RV C_GetObjectSize(
    CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE hObject, CK_ULONG_PTR pulSize
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.key, call.out_length = hObject, pulSize
    call.bad = pulSize == NULL
    return beside(hSession, &call, object_size, NULL)


cdef CK_RV object_size(Call *call) except *:
    target = object_id(call.session, call.key, errors.ObjectHandleInvalid)
    call.out_length[0] = drive(call, core().object_size(core_session(call.session), target))
    return CKR_OK


cdef CK_RV C_GetAttributeValue(
    CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE hObject, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulCount
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.key, call.template, call.count = hObject, pTemplate, ulCount
    call.bad = bad_template(pTemplate, ulCount)
    return beside(hSession, &call, get_attributes, NULL)


cdef CK_RV get_attributes(Call *call) except *:
    cdef CK_ULONG i
    target = object_id(call.session, call.key, errors.ObjectHandleInvalid)
    types = [call.template[i].type for i in range(call.count)]
    values = drive(call, core().get_attributes(core_session(call.session), target, types))
    return write_attributes(call.template, call.count, list(values))


cdef CK_RV C_SetAttributeValue(
    CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE hObject, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulCount
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.key, call.template, call.count = hObject, pTemplate, ulCount
    call.bad = bad_template(pTemplate, ulCount)
    return beside(hSession, &call, set_attributes, NULL)


cdef CK_RV set_attributes(Call *call) except *:
    target = object_id(call.session, call.key, errors.ObjectHandleInvalid)
    template = read_template(call.template, call.count)
    try:
        drive(call, core().set_attributes(core_session(call.session), target, template))
    finally:
        ferro_sessions_forget_handle(call.session.slot, call.key)
    return CKR_OK


cdef CK_RV C_FindObjectsInit(
    CK_SESSION_HANDLE hSession, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulCount
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.template, call.count = pTemplate, ulCount
    call.bad = bad_template(pTemplate, ulCount)
    return alone(hSession, FERRO_FIND, &call, find_objects_init, NULL)


cdef CK_RV find_objects_init(Call *call) except *:
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    if search.kind != FERRO_IDLE:
        return CKR_OPERATION_ACTIVE
    if call.bad:
        return CKR_ARGUMENTS_BAD
    template = read_template(call.template, call.count)
    start(search, drive(call, core().find(core_session(call.session), template)))
    return CKR_OK


cdef CK_RV C_FindObjects(
    CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE_PTR phObject, CK_ULONG ulMaxObjectCount, CK_ULONG_PTR pulObjectCount
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.made, call.number, call.out_length = phObject, ulMaxObjectCount, pulObjectCount
    call.bad = pulObjectCount == NULL or (phObject == NULL and ulMaxObjectCount != 0)
    return alone(hSession, FERRO_FIND, &call, find_objects, NULL)


cdef CK_RV find_objects(Call *call) except *:
    """Fill the caller's array, whose end it may take several batches to reach."""
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    cdef CK_ULONG found = 0, batch
    if search.kind == FERRO_IDLE:
        return CKR_OPERATION_NOT_INITIALIZED
    if call.bad:
        return CKR_ARGUMENTS_BAD
    cursor = <object>search.object
    while found < call.number:
        batch = call.number - found
        objects = drive(call, cursor.take(batch if batch < FIND_BATCH else FIND_BATCH))
        for oid in objects:
            call.made[found] = handle_of(call.session, oid, False)
            found += 1
        if not objects:
            break
    call.out_length[0] = found
    return CKR_OK


cdef enum:
    FIND_BATCH = 1024  # objects asked of the core at once


cdef CK_RV C_FindObjectsFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    cdef Call call
    clear(&call)
    return alone(hSession, FERRO_FIND, &call, find_objects_final, NULL)


cdef CK_RV find_objects_final(Call *call) except *:
    if call.session.operations[FERRO_FIND].kind == FERRO_IDLE:
        return CKR_OPERATION_NOT_INITIALIZED
    return forget_operation(call)
