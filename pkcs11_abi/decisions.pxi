# Remembering what the core decided (`state/decisions.h`), and what is behind a slot that makes it possible: the
# signer's kernel and the store's generation.

cdef class Behind:
    """What a slot had behind it when the core was last asked."""

    cdef ferro_slot *slot
    cdef object token
    cdef object kernel
    cdef object words
    cdef object finder


cdef dict BEHIND = {}
"""By the slot's id. A thread may be reading a generation without Python's lock, so what was replaced is kept, too."""

cdef list LEFT = []  # of what was behind


cdef object look_behind(CK_SLOT_ID slot_id, bint present):
    """Take over what is behind a slot now; decisions about what was behind it before are forgotten."""
    cdef Behind known = BEHIND.get(slot_id), now
    cdef ferro_slot *slot = known.slot if known is not None else ferro_slot_find(slot_id, NULL)
    if slot == NULL:
        return
    token, kernel, words = core().behind(slot_id) if present else (None, None, None)
    if known is not None and known.token is token and known.words is words:
        return
    now = Behind.__new__(Behind)
    now.slot, now.token, now.kernel, now.words = slot, token, kernel, words
    ferro_slot_finds_with(slot, NULL)
    ferro_slot_behind(slot, kernel_of(kernel), words_of(words))
    if known is not None:
        LEFT.append(known)
        if known.token is not None and known.token is not token:
            ferro_slot_removed(slot)  # the sessions with it are closed on the way out of Python
            ferro_handles_kill_slot(slot_id)
        ferro_sessions_forget_slot(slot)
    BEHIND[slot_id] = now


cdef enum:
    SEARCHES = 3  # by way of the core, before a finder opens the store's file for itself


cdef object find_without(ferro_slot *slot, unsigned long long births):
    """After a search by way of the core: see that the next one need not take it, if somebody searches much."""
    cdef Behind known = BEHIND.get(slot.id)
    if known is None:
        return
    slot.asked += 1
    if slot.asked < SEARCHES:
        return
    finder = core().finder(slot.id)
    if finder is None or BEHIND.get(slot.id) is not known:  # or another thread found something else behind it
        return
    ferro_slot_was_bare(slot, births)
    if finder is known.finder:
        return
    if known.finder is not None:
        LEFT.append(known.finder)  # a thread may be searching with it
    known.finder = finder
    ferro_slot_finds_with(slot, <ferro_finder *>PyCapsule_GetPointer(finder, FERRO_FINDER_CAPSULE))


cdef const ferro_kernel *kernel_of(object capsule) except? NULL:
    return NULL if capsule is None else <const ferro_kernel *>PyCapsule_GetPointer(capsule, FERRO_KERNEL_CAPSULE)


cdef const void *words_of(object view) except? NULL:
    """Where three 64-bit words stand; a view of anything else is none."""
    cdef Py_buffer *buffer
    if view is None:
        return NULL
    buffer = PyMemoryView_GET_BUFFER(view)
    if buffer.len != 3 * sizeof(unsigned long long) or <size_t>buffer.buf % sizeof(unsigned long long):
        return NULL
    return buffer.buf


cdef void leave_behind():
    """C_Finalize: no call is in progress, so nobody reads what is behind the slots any more."""
    cdef Behind known
    for known in BEHIND.values():
        ferro_slot_finds_with(known.slot, NULL)
        ferro_slot_behind(known.slot, NULL, NULL)
    BEHIND.clear()
    LEFT.clear()


cdef struct Moment:
    # What stood before the core was asked.
    unsigned long long stamp
    unsigned long long epoch
    unsigned long long generation
    bint settled


cdef void note(ferro_slot *slot, Moment *moment) noexcept nogil:
    moment.stamp = ferro_slot_stamp(slot)
    moment.epoch = login_epoch(slot)
    moment.settled = ferro_slot_settled(slot, &moment.generation)


cdef object remember(Call *call, Moment *before, object bound):
    """Keep the decision that has just begun an operation, if the next one may go without asking."""
    cdef const ferro_kernel *kernel = ferro_slot_kernel(call.slot)
    cdef ferro_decision decision
    if kernel == NULL:
        return
    terms = bound.terms()
    if terms is None:
        return
    key, is_private, on_token = terms
    memset(&decision, 0, sizeof(decision))
    decision.slot, decision.handle, decision.kernel = call.slot, call.key, kernel
    decision.mechanism, decision.function = call.number, ferro_operation_flag(call.operation)
    decision.parameter = DECODER_OF[parameter_kind(decision.mechanism)]
    decision.is_private, decision.on_token = is_private, on_token
    decision.epoch, decision.generation = before.epoch, before.generation
    if on_token:
        look_behind(call.slot.id, True)
        if not before.settled:
            return
    if not subject_of(&decision.subject, bound):
        return
    if SHAPES[decision.parameter] == NULL or kernel.serves(decision.function, decision.mechanism) != CKR_OK:
        return
    if key is not None:
        decision.key = <ferro_kernel_key *>PyCapsule_GetPointer(key, "ferrohsm.kernel.key")
        kernel.key_retain(decision.key)
    elif call.operation != FERRO_DIGEST:
        return
    ferro_decisions_keep(&decision, before.stamp)


def calls_without_python() -> int:
    """Return how many calls in sessions needed no Python so far."""
    return ferro_sessions_quick()
