# Object management functions (Section 5.7).

from ferrohsm.core import INVALID, SENSITIVE


cdef CK_RV C_CreateObject(
    CK_SESSION_HANDLE hSession, CK_ATTRIBUTE_PTR pTemplate, CK_ULONG ulCount, CK_OBJECT_HANDLE_PTR phObject
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.template, call.count, call.made = pTemplate, ulCount, phObject
    call.bad = phObject == NULL or bad_template(pTemplate, ulCount)
    return beside(hSession, &call, create_object, quick_create)


cdef object drive_with(Call *call, list template, object coroutine):
    """Drive a coroutine that was given a template, and wipe our copy of the secrets in it, refused or not."""
    cdef bint over = call.slot.is_inline  # a dispatched call that was given up may still be at work on it
    try:
        made = drive(call, coroutine)
        over = True
        return made
    finally:
        if over:
            wipe_values(template)


cdef CK_RV create_object(Call *call) except *:
    session, template = core_session(call.session), read_template(call.template, call.count)
    work = core().create_object(session, template)
    if defers(call, None):
        given = inputs(None, values_of(template))
        return put_off(call, "C_CreateObject", GIVES_OBJECT, work, given, is_persistent(template))
    cdef CK_RV rv = hand_out(call, drive_with(call, template, work), call.made)
    return learn(call, FERRO_CREATE, None, None, [template]) if rv == CKR_OK else rv


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
    session, template = core_session(call.session), read_template(call.template, call.count)
    work = core().copy_object(session, source, template)
    if defers(call, None):
        given = inputs(None, values_of(template))
        return put_off(call, "C_CopyObject", GIVES_OBJECT, work, given, is_persistent(template))
    made = drive_with(call, template, work)
    return hand_out(call, made, call.made)


cdef CK_RV C_DestroyObject(CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE hObject) noexcept nogil:
    cdef Call call
    clear(&call)
    call.key = hObject
    cdef CK_RV rv = beside(hSession, &call, destroy_object, quick_destroy)
    if not call.quick:
        ferro_wipe_stack()  # calls before this one may have left it there
    return rv


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
    return beside(hSession, &call, get_attributes, quick_attributes)


cdef CK_RV quick_attributes(Call *call) noexcept nogil:
    """Answer from what was shown before, if all that is asked for was."""
    cdef ferro_snapshot shown
    cdef const void *value = NULL
    cdef size_t length = 0
    cdef CK_RV rv = CKR_OK, one = CKR_OK
    cdef CK_ULONG i
    if not ferro_snapshots_read(call.slot, call.key, &shown):
        return FERRO_ASK
    for i in range(call.count):
        if not ferro_snapshot_find(&shown, call.template[i].type, &one, &value, &length):
            return FERRO_ASK
    for i in range(call.count):
        if not ferro_snapshot_find(&shown, call.template[i].type, &one, &value, &length):
            one = CKR_ATTRIBUTE_TYPE_INVALID  # the caller has changed it meanwhile
        if one == CKR_OK:
            one = answer_with(&call.template[i], value, length)
        else:
            call.template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION
        rv = worse(rv, one)
    return rv


cdef CK_RV get_attributes(Call *call) except *:
    cdef CK_ULONG i
    target = object_id(call.session, call.key, errors.ObjectHandleInvalid)
    cdef Moment before
    types = [call.template[i].type for i in range(call.count)]
    session = core_session(call.session)
    note(call.slot, &before)
    values, terms = drive(call, core().show_attributes(session, target, types))
    if terms is not None:
        remember_shown(call, &before, types, values, terms)
    return write_attributes(call.template, call.count, values)


cdef object remember_shown(Call *call, Moment *before, list types, list values, bint on_token):
    cdef ferro_snapshot shown
    cdef ferro_snapshot_moment moment
    cdef CK_ULONG length
    cdef const char *start
    if on_token:
        look_behind(call.slot.id, True)
        if not before.settled:
            return
    shown.used = 0
    for type, value in zip(types, values):
        if value is SENSITIVE:
            ferro_snapshot_add(&shown, type, CKR_ATTRIBUTE_SENSITIVE, NULL, 0)
        elif value is INVALID:
            ferro_snapshot_add(&shown, type, CKR_ATTRIBUTE_TYPE_INVALID, NULL, 0)
        elif isinstance(value, bytes):  # a bytearray is a secret, a tuple a template
            value = narrow(type, value)
            start = bytes_of(value, &length)
            ferro_snapshot_add(&shown, type, CKR_OK, start, length)
    moment.stamp, moment.epoch, moment.generation = before.stamp, before.epoch, before.generation
    ferro_snapshots_keep(call.slot, call.key, &shown, &moment, on_token)


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
    session, template = core_session(call.session), read_template(call.template, call.count)
    try:
        drive_with(call, template, core().set_attributes(session, target, template))
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
    return alone(hSession, FERRO_FIND, &call, find_objects_init, quick_find_init)


cdef CK_ATTRIBUTE_TYPE SECRET_TYPES[16]
cdef int SECRET_COUNT = 0


cdef object list_secret_types():
    """A search for a secret's value is kept nowhere."""
    global SECRET_COUNT
    for type in SECRET_VALUES:
        SECRET_TYPES[SECRET_COUNT] = type
        SECRET_COUNT += 1


if len(SECRET_VALUES) > 16:
    raise ImportError("more kinds of secrets than there is room for")
list_secret_types()


cdef bint flat(Call *call, ferro_wanted *wanted) noexcept nogil:
    """Copy a template that is small, without secrets and without templates in it."""
    cdef CK_ATTRIBUTE one
    cdef CK_ULONG i
    cdef int k
    wanted.used = 0
    for i in range(call.count):
        one = call.template[i]
        if holds_template(one.type) or (one.pValue == NULL and one.ulValueLen != 0):
            return False
        for k in range(SECRET_COUNT):
            if one.type == SECRET_TYPES[k]:
                return False
        if not ferro_wanted_add(wanted, one.type, one.pValue, one.ulValueLen):
            return False
    return True


cdef list pairs_of(const ferro_wanted *wanted):
    """Return a copied template as (type, value) pairs: what is kept must be about what was looked for."""
    cdef list pairs = []
    cdef size_t at = 0, length = 0
    cdef const void *value = NULL
    cdef CK_ATTRIBUTE_TYPE type = 0
    while ferro_wanted_next(wanted, &at, &type, &value, &length):
        pairs.append((type, widen(type, PyBytes_FromStringAndSize(<const char *>value, <Py_ssize_t>length))))
    return pairs


cdef CK_RV quick_find_init(Call *call) noexcept nogil:
    """Begin a search whose result is known and still true."""
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    cdef ferro_found *found
    cdef ferro_wanted wanted
    if search.kind != FERRO_IDLE:
        return CKR_OPERATION_ACTIVE
    if call.bad:
        return CKR_ARGUMENTS_BAD
    if not flat(call, &wanted):
        return FERRO_ASK
    found = ferro_finds_read(call.slot, &wanted)
    if found == NULL:
        found = ferro_finds_search(call.slot, &wanted)
    if found == NULL:
        return FERRO_ASK
    search.object = found
    search.kind = FERRO_FOUND
    return CKR_OK


cdef CK_RV find_objects_init(Call *call) except *:
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    cdef ferro_find_moment before
    cdef ferro_wanted wanted
    cdef CK_RV rv
    session = core_session(call.session)
    if not call.slot.is_inline or not flat(call, &wanted):
        template = read_template(call.template, call.count)
        bring_in_all(call.slot)
        start(search, drive_with(call, template, core().find(session, template)))
        return CKR_OK
    look_again_at(call.slot)
    with nogil:
        rv = quick_find_init(call)
    if rv == CKR_OK:
        return CKR_OK  # it was only time to look at the store's files
    ferro_find_note(call.slot, &before)
    bring_in_all(call.slot)  # a draft that is made from here on moves the births
    found = drive(call, core().find_few(session, pairs_of(&wanted), FERRO_FOUND_MOST))
    if isinstance(found, list):
        keep_found(call, &wanted, &before, <list>found)
    else:
        start(search, found)
    find_without(call.slot, before.births)
    return CKR_OK


cdef object look_again_at(ferro_slot *slot):
    """Have the core see whether the store's files are still what is behind the slot."""
    if not ferro_slot_looked(slot):
        core().look(slot.id)
        look_behind(slot.id, True)
        ferro_slot_look(slot)
    else:
        look_behind(slot.id, True)


cdef object keep_found(Call *call, ferro_wanted *wanted, ferro_find_moment *before, list objects):
    """Begin a search whose result is all there, and keep that for the next one."""
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    cdef CK_OBJECT_HANDLE handles[32]
    cdef CK_ULONG count = 0
    cdef ferro_found *found
    for oid in objects:
        handles[count] = handle_if_there(call.session, oid)
        count += handles[count] != 0
    found = ferro_found_make(handles, count, before.stamp)
    if found == NULL:
        raise errors.HostMemory()
    ferro_finds_keep(call.slot, wanted, found, before)
    search.object = found
    search.kind = FERRO_FOUND


cdef CK_RV C_FindObjects(
    CK_SESSION_HANDLE hSession, CK_OBJECT_HANDLE_PTR phObject, CK_ULONG ulMaxObjectCount, CK_ULONG_PTR pulObjectCount
) noexcept nogil:
    cdef Call call
    clear(&call)
    call.made, call.number, call.out_length = phObject, ulMaxObjectCount, pulObjectCount
    call.bad = pulObjectCount == NULL or (phObject == NULL and ulMaxObjectCount != 0)
    return alone(hSession, FERRO_FIND, &call, find_objects, quick_find)


cdef CK_RV quick_find(Call *call) noexcept nogil:
    """Hand out what was found, if the objects are there and seen as they were when it was."""
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    cdef ferro_found *found
    if search.kind == FERRO_IDLE:
        return CKR_OPERATION_NOT_INITIALIZED
    if call.bad:
        return CKR_ARGUMENTS_BAD
    if search.kind != FERRO_FOUND:
        return FERRO_ASK
    found = <ferro_found *>search.object
    if found.stamp != ferro_slot_stamp(call.slot):
        return FERRO_ASK
    call.out_length[0] = ferro_found_take(found, call.made, call.number)
    return CKR_OK


cdef CK_RV find_objects(Call *call) except *:
    """Fill the caller's array, whose end it may take several batches to reach."""
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    cdef CK_ULONG found = 0, batch
    if search.kind == FERRO_FOUND:
        look_again(call, <ferro_found *>search.object)
        call.out_length[0] = ferro_found_take(<ferro_found *>search.object, call.made, call.number)
        return CKR_OK
    cursor = <object>search.object
    while found < call.number:
        batch = call.number - found
        objects = drive(call, cursor.take(batch if batch < FIND_BATCH else FIND_BATCH))
        for oid in objects:
            call.made[found] = handle_if_there(call.session, oid)
            found += call.made[found] != 0
        if not objects:
            break
    call.out_length[0] = found
    return CKR_OK


cdef CK_OBJECT_HANDLE handle_if_there(ferro_session *session, object oid) except? 0:
    """Return the handle of an object that was found; 0 when it was destroyed since, or hidden by a logout."""
    try:
        return handle_of(session, oid, False)
    except errors.ObjectHandleInvalid:
        return 0


cdef object look_again(Call *call, ferro_found *found):
    """Leave out what was found and has been destroyed since, or hidden by a logout."""
    cdef unsigned long long stamp = ferro_slot_stamp(call.slot)
    cdef CK_ULONG i, left = found.at
    for i in range(found.at, found.count):
        try:
            object_id(call.session, found.handles[i], errors.ObjectHandleInvalid)
        except errors.ObjectHandleInvalid:
            continue
        found.handles[left] = found.handles[i]
        left += 1
    found.count, found.stamp = left, stamp


cdef enum:
    FIND_BATCH = 1024  # objects asked of the core at once


cdef CK_RV C_FindObjectsFinal(CK_SESSION_HANDLE hSession) noexcept nogil:
    cdef Call call
    clear(&call)
    return alone(hSession, FERRO_FIND, &call, find_objects_final, quick_find_final)


cdef CK_RV quick_find_final(Call *call) noexcept nogil:
    cdef ferro_operation *search = &call.session.operations[FERRO_FIND]
    if search.kind == FERRO_IDLE:
        return CKR_OPERATION_NOT_INITIALIZED
    if search.kind != FERRO_FOUND:
        return FERRO_ASK
    ferro_operation_end(search)
    return CKR_OK


cdef CK_RV find_objects_final(Call *call) except *:
    return forget_operation(call)
