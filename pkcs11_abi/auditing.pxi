# What is recorded without Python: the uses of keys that were decided about before (`state/ring.h`).

from ferrohsm.audit import events

cdef enum:
    PLACES = 32  # more than a session has operations

cdef unsigned EVENT_OF[PLACES]

EVENT_OF[FERRO_SIGN] = events.SIGN
EVENT_OF[FERRO_VERIFY] = events.VERIFY
EVENT_OF[FERRO_ENCRYPT] = events.ENCRYPT
EVENT_OF[FERRO_DECRYPT] = events.DECRYPT
EVENT_OF[FERRO_SIGN_RECOVER] = events.SIGN_RECOVER
EVENT_OF[FERRO_VERIFY_RECOVER] = events.VERIFY_RECOVER

cdef CK_MECHANISM_TYPE NO_MECHANISM = events.NONE
cdef unsigned EVENT_CREATE = events.CREATE, EVENT_DESTROY = events.DESTROY, EVENT_DERIVE = events.DERIVE
cdef unsigned EVENT_ENCAPSULATE = events.ENCAPSULATE, EVENT_DECAPSULATE = events.DECAPSULATE

cdef dict USE_MODES = {"each": FERRO_USE_EACH, "counted": FERRO_USE_COUNTED, "sampled": FERRO_USE_SAMPLED}


cdef class SharedRing:
    """The carrier of a trail's events (`ferrohsm.audit.ring.Carrier`)."""

    cdef ferro_ring *ring
    cdef object view
    cdef object trail

    def __cinit__(self, view, trail, settings):
        cdef Py_buffer *buffer = PyMemoryView_GET_BUFFER(view)
        mode = USE_MODES.get(settings.key_use, FERRO_USE_EACH)
        self.ring = ferro_ring_make(buffer.buf, buffer.len, mode, settings.sample, settings.durability == "sync")
        if self.ring == NULL:
            raise MemoryError()
        self.view, self.trail = view, trail
        self.ring.owner = <void *>self

    def __dealloc__(self):
        ferro_ring_free(self.ring)

    def push(self, bytes entry):
        if len(entry) != sizeof(ferro_entry):
            raise ValueError("no entry")
        return ferro_ring_push(self.ring, <const ferro_entry *>PyBytes_AS_STRING(entry), NULL) != 0

    def close(self, number):
        return ferro_ring_close(self.ring, number)

    def broken(self, state):
        ferro_ring_set_broken(self.ring, state)

    def wait(self, milliseconds):
        cdef ferro_ring *ring = self.ring
        cdef unsigned time = milliseconds
        cdef int going
        with nogil:
            going = ferro_ring_wait(ring, time)
        return going != 0

    def attended(self, state):
        return ferro_ring_attend(self.ring, state) != 0

    def stop(self):
        ferro_ring_stop(self.ring)


cdef object carriers(object settings):
    """Return what makes a trail's carrier."""
    def make(view, trail):
        return SharedRing(view, trail, settings)
    return make


cdef bint subject_of(ferro_subject *subject, object bound) except *:
    """Fill in what is recorded of a decision; False when it is recorded only in Python."""
    try:
        audited = bound.audited
    except errors.FunctionNotSupported:
        return False
    if audited is None:
        return True
    carrier, chain, key = audited
    subject.ring = (<SharedRing>carrier).ring
    keep_name(subject.chain, sizeof(subject.chain), chain)
    keep_name(subject.object, sizeof(subject.object), key)
    return True


cdef void keep_name(char *field, size_t size, bytes name):
    memcpy(field, PyBytes_AS_STRING(name), min(size, <size_t>len(name)))


cdef CK_RV noted(Call *call, ferro_memo *memo, CK_RV rv, int part, size_t made) noexcept nogil:
    """Record that a key was used, before the caller is told; what cannot be recorded is not given out."""
    cdef ferro_ring *ring = memo.decision.subject.ring
    cdef ferro_use use
    cdef ferro_entry entry
    cdef CK_RV refusal
    if ring == NULL:
        return rv
    use.session, use.slot = call.session.handle, call.slot.id
    use.mechanism, use.result = memo.decision.mechanism, rv
    use.event, use.user, use.part = EVENT_OF[call.operation], ferro_slot_login(call.slot), part
    cdef int done = ferro_ring_note(ring, &memo.decision.subject, &memo.seen, &use, &entry)
    if done == FERRO_NOTED:
        return rv
    call.entry = &entry if done == FERRO_NOT_NOTED else NULL
    call.owner = ring.owner
    refusal = cross(note_in_python, call)
    call.entry = NULL
    if refusal == CKR_OK:
        return rv
    if call.out != NULL and made != 0:
        ferro_wipe(call.out, made)
    return refusal


cdef bint recordable(ferro_slot *slot) noexcept nogil:
    """Whether what happens to the slot's drafts can be recorded now, or need not be."""
    cdef ferro_subject subject
    return not ferro_slot_subject(slot, &subject) or not ferro_ring_broken(subject.ring)


cdef CK_RV noted_object(Call *call, unsigned event, CK_MECHANISM_TYPE mechanism, const char *base_id) noexcept nogil:
    """Record that an object came or went of which only the handle is known."""
    cdef ferro_subject subject
    cdef ferro_use use
    cdef ferro_entry entry
    if not ferro_slot_subject(call.slot, &subject):
        return CKR_OK
    if base_id != NULL:
        memcpy(subject.object, base_id, sizeof(subject.object))
    use.session, use.slot, use.mechanism, use.result = call.session.handle, call.slot.id, mechanism, CKR_OK
    use.event, use.user, use.part = event, ferro_slot_login(call.slot), FERRO_USE_WHOLE
    return seen_to(call, &subject, ferro_ring_note_made(subject.ring, &subject, &use, &entry), &entry)


cdef void noted_ends(Call *call) noexcept nogil:
    """Record that the drafts of a session end with it; nobody waits for the answer."""
    cdef unsigned long long ending = ferro_drafts_owned(call.session)
    cdef ferro_subject subject
    cdef ferro_use use
    cdef ferro_entry entry
    if ending == 0 or not ferro_slot_subject(call.slot, &subject):
        return
    use.session, use.slot, use.mechanism, use.result = call.session.handle, call.slot.id, NO_MECHANISM, CKR_OK
    use.event, use.user, use.part = EVENT_DESTROY, ferro_slot_login(call.slot), FERRO_USE_WHOLE
    seen_to(call, &subject, ferro_ring_note_ended(subject.ring, &subject, &use, ending, &entry), &entry)


cdef object forget_slot(ferro_slot *slot):
    """Forget what is remembered of a slot; drafts that ended with a login leave a record."""
    cdef unsigned long long ended = ferro_sessions_forget_slot(slot)
    if ended != 0:
        core().record_ends(slot.id, ended)


cdef CK_RV seen_to(Call *call, ferro_subject *subject, int done, ferro_entry *entry) noexcept nogil:
    """Do in Python what is left to do for an entry."""
    cdef CK_RV rv
    if done == FERRO_NOTED:
        return CKR_OK
    call.entry = entry if done == FERRO_NOT_NOTED else NULL
    call.owner = subject.ring.owner
    rv = cross(note_in_python, call)
    call.entry = NULL
    return rv


cdef bint recorded_slot(ferro_slot *slot) except *:
    """See to it that the slot's drafts are recorded; False when that can only be done in Python."""
    cdef ferro_subject subject
    audit = core().token(slot.id).audit
    memset(&subject, 0, sizeof(subject))
    if not audit.off:
        carried = audit.carried()
        if carried is None:
            return False
        subject.ring = (<SharedRing>carried[0]).ring
        keep_name(subject.chain, sizeof(subject.chain), carried[1])
    ferro_slot_recorded(slot, &subject)
    return True


cdef CK_RV note_in_python(Call *call) except *:
    core()
    trail = (<SharedRing>call.owner).trail
    if call.entry == NULL:
        trail.attend()
        return CKR_OK
    trail.put(PyBytes_FromStringAndSize(<const char *>call.entry, sizeof(ferro_entry)))
    return CKR_OK


cdef int part_of(ferro_operation *operation) noexcept nogil:
    """Which part the end of an operation is."""
    return FERRO_USE_LAST if operation.phase == FERRO_PARTS else FERRO_USE_WHOLE
