# Values across the border: copied in, copied out, with bounded counts, sizes and nesting.

from ferrohsm.attribute_kinds import ULONG, ULONGS
from ferrohsm.attributes import kind as attribute_kind, sensitive_types

cdef enum:
    COUNT_LIMIT = 4096  # attributes in one template, with those inside it
    DEPTH_LIMIT = 2  # templates inside templates
    TEMPLATE_LIMIT = 0x4000000  # bytes of all values of one template

cdef frozenset SECRET_VALUES = sensitive_types()
"""Attributes that may hold a secret: they travel as a bytearray. The core keeps a copy, `wipe_values` ends ours."""

cdef struct Budget:
    CK_ULONG count
    CK_ULONG size


cdef bint holds_template(CK_ATTRIBUTE_TYPE type) noexcept nogil:
    """Whether a value is an array of attributes. A vendor's types follow no such rule: NSS's have the bit too.

    The two templates of version 3.2 were given numbers without it.
    """
    if type == CKA_ENCAPSULATE_TEMPLATE or type == CKA_DECAPSULATE_TEMPLATE:
        return True
    return type & CKF_ARRAY_ATTRIBUTE != 0 and type & CKA_VENDOR_DEFINED == 0 and type != CKA_ALLOWED_MECHANISMS


cdef list read_template(const CK_ATTRIBUTE *template, CK_ULONG count):
    """Return the caller's template as (type, value) pairs.

    A pointer or count that cannot be is CKR_ARGUMENTS_BAD, a value that cannot be is CKR_ATTRIBUTE_VALUE_INVALID.
    """
    cdef Budget budget
    budget.count = budget.size = 0
    if count != 0 and (template == NULL or count > COUNT_LIMIT):
        raise errors.ArgumentsBad()
    return read_attributes(template, count, 0, &budget)


cdef list read_attributes(const CK_ATTRIBUTE *template, CK_ULONG count, int depth, Budget *budget):
    cdef list pairs = []
    cdef CK_ATTRIBUTE one
    cdef CK_ULONG i
    budget.count += count
    if budget.count > COUNT_LIMIT:
        raise errors.ArgumentsBad()
    for i in range(count):
        one = template[i]
        pairs.append((one.type, read_value(one, depth, budget)))
    return pairs


cdef object read_value(CK_ATTRIBUTE value, int depth, Budget *budget):
    if value.ulValueLen > TEMPLATE_LIMIT or (value.pValue == NULL and value.ulValueLen != 0):
        raise errors.AttributeValueInvalid()
    budget.size += value.ulValueLen
    if budget.size > TEMPLATE_LIMIT:
        raise errors.ArgumentsBad()
    if holds_template(value.type):
        if value.ulValueLen % sizeof(CK_ATTRIBUTE) or depth >= DEPTH_LIMIT:
            raise errors.AttributeValueInvalid()
        inside = read_attributes(
            <const CK_ATTRIBUTE *>value.pValue, value.ulValueLen // sizeof(CK_ATTRIBUTE), depth + 1, budget
        )
        return tuple(inside)
    if value.type in SECRET_VALUES:
        return PyByteArray_FromStringAndSize(<const char *>value.pValue, <Py_ssize_t>value.ulValueLen)
    return widen(value.type, PyBytes_FromStringAndSize(<const char *>value.pValue, <Py_ssize_t>value.ulValueLen))


cdef bint holds_ulongs(CK_ATTRIBUTE_TYPE type):
    """Whether a value is made of CK_ULONGs, and those are not 8 bytes wide here (Windows)."""
    return sizeof(CK_ULONG) != 8 and attribute_kind(type) in (ULONG, ULONGS)


cdef bytes resize(bytes value, int old, int new):
    """Return an array of little-endian numbers with another width; the largest number stays the largest."""
    numbers = []
    for place in range(0, len(value), old):
        number = int.from_bytes(value[place : place + old], "little")
        if number == (1 << 8 * old) - 1:
            number = (1 << 8 * new) - 1
        numbers.append(number.to_bytes(new, "little"))
    return b"".join(numbers)


cdef bytes widen(CK_ATTRIBUTE_TYPE type, bytes value):
    """Return a value of the caller's with each CK_ULONG in the core's 8 bytes."""
    if holds_ulongs(type) and len(value) % sizeof(CK_ULONG) == 0:
        return resize(value, sizeof(CK_ULONG), 8)
    return value


cdef object narrow(CK_ATTRIBUTE_TYPE type, object value):
    """Return a value of the core's with each CK_ULONG as wide as the caller's."""
    if holds_ulongs(type) and len(value) % 8 == 0:
        return resize(bytes(value), 8, sizeof(CK_ULONG))
    return value


cdef CK_RV write_attributes(CK_ATTRIBUTE *template, CK_ULONG count, list values) except *:
    """Answer C_GetAttributeValue: every attribute is processed, whatever is wrong with another."""
    cdef CK_RV rv = CKR_OK, one
    cdef CK_ULONG i
    for i in range(count):
        value = values[i]
        if value is SENSITIVE:
            template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION
            one = CKR_ATTRIBUTE_SENSITIVE
        elif value is INVALID:
            template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION
            one = CKR_ATTRIBUTE_TYPE_INVALID
        elif isinstance(value, tuple):
            one = write_template(&template[i], <tuple>value)
        else:
            one = write_value(&template[i], value)
        rv = worse(rv, one)
    return rv


cdef CK_RV worse(CK_RV rv, CK_RV one) noexcept nogil:
    """What C_GetAttributeValue says of all when it has said `rv` of some and `one` of a further one."""
    if one == CKR_ATTRIBUTE_SENSITIVE or rv == CKR_OK or (rv == CKR_BUFFER_TOO_SMALL and one != CKR_OK):
        return one
    return rv


cdef CK_RV answer_with(CK_ATTRIBUTE *attribute, const void *value, size_t length) noexcept nogil:
    """Put a value out, or only its length."""
    cdef void *place = attribute.pValue
    if place != NULL and attribute.ulValueLen < length:
        attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION
        return CKR_BUFFER_TOO_SMALL
    if place != NULL and length != 0:
        memcpy(place, value, length)
    attribute.ulValueLen = length
    return CKR_OK


cdef CK_RV write_value(CK_ATTRIBUTE *attribute, object value) except *:
    value = narrow(attribute.type, value)
    cdef CK_ULONG length
    cdef const char *start = bytes_of(value, &length)
    cdef CK_RV rv = answer_with(attribute, start, length)
    if isinstance(value, bytearray):
        wipe(value)
    return rv


cdef CK_RV write_template(CK_ATTRIBUTE *attribute, tuple pairs) except *:
    """Answer with an array of attributes: asked for its size first, then for the sizes inside, then for the values."""
    cdef CK_ULONG needed = len(pairs) * sizeof(CK_ATTRIBUTE), i
    cdef CK_ATTRIBUTE *inside = <CK_ATTRIBUTE *>attribute.pValue
    cdef CK_RV rv = CKR_OK, one
    if inside != NULL and attribute.ulValueLen < needed:
        attribute.ulValueLen = CK_UNAVAILABLE_INFORMATION
        return CKR_BUFFER_TOO_SMALL
    attribute.ulValueLen = needed
    if inside == NULL:
        return CKR_OK
    for i in range(<CK_ULONG>len(pairs)):
        inside[i].type, value = pairs[i]
        one = write_template(&inside[i], <tuple>value) if isinstance(value, tuple) else write_value(&inside[i], value)
        if one != CKR_OK:
            rv = one
    return rv


cdef const char *bytes_of(object value, CK_ULONG *length) except NULL:
    """Where a value's bytes stand, for as long as the value does."""
    length[0] = <CK_ULONG>len(value)
    if isinstance(value, bytearray):
        return PyByteArray_AS_STRING(value)
    if isinstance(value, bytes):
        return PyBytes_AS_STRING(value)
    raise TypeError(f"the core gave {type(value).__name__} for bytes")


cdef void wipe(object value) noexcept:
    """Overwrite a bytearray, of whatever kind."""
    ferro_wipe(PyByteArray_AS_STRING(value), len(value))


cdef void wipe_values(list template) noexcept:
    """Wipe what `read_template` copied of the caller's secrets."""
    for _, value in template:
        if isinstance(value, bytearray):
            wipe(value)


cdef object view_of(ferro_slot *slot, const CK_BYTE *data, CK_ULONG length):
    """Return the caller's memory as a view, which `release_view` ends.

    A dispatched call may be given up while its adapter still works, so it gets a copy.
    """
    if length == 0:
        return memoryview(b"")
    if not slot.is_inline:
        copy = Secret(length)
        memcpy(PyByteArray_AS_STRING(copy), data, length)
        return memoryview(copy)
    return PyMemoryView_FromMemory(<char *>data, <Py_ssize_t>length, PyBUF_READ)


cdef object release_view(object view):
    """End a view of `view_of`. A copy may be a plaintext: it is overwritten when nobody has it any more.

    That is now, unless an adapter whose call was given up is still at work on it.
    """
    try:
        view.release()
    except BufferError:
        if not isinstance(view.obj, Secret):
            raise


cdef CK_RV put(Call *call, object value) except *:
    """Copy a result out, which is known to fit, and wipe our copy if that can be done."""
    cdef CK_ULONG length
    cdef const char *start = bytes_of(value, &length)
    if length != 0:
        memcpy(call.out, start, length)
    call.out_length[0] = length
    if isinstance(value, bytearray):
        wipe(value)
    return CKR_OK


cdef void pad(CK_UTF8CHAR *field, size_t size, object text):
    """Fill a fixed field of an information structure: UTF-8, cut at a character, blank padded."""
    cdef bytes encoded = str(text).encode("utf-8", "replace")
    if len(encoded) > size:
        encoded = encoded[:size].decode("utf-8", "ignore").encode()
    memset(field, 0x20, size)
    memcpy(field, PyBytes_AS_STRING(encoded), len(encoded))


cdef bytearray read_pin(const CK_BYTE *pin, CK_ULONG length):
    return PyByteArray_FromStringAndSize(<const char *>pin, <Py_ssize_t>length)


# Handles.


cdef unsigned long long login_epoch(ferro_slot *slot) noexcept nogil:
    return ferro_slot_epoch(slot)


cdef unsigned long long epoch_of(ferro_slot *slot) noexcept nogil:
    """The epoch of the login under way, 0 when nobody is logged in."""
    cdef ferro_slot_copy copy
    ferro_slot_read(slot, &copy)
    return copy.epoch if copy.login != FERRO_NOBODY else 0


cdef bint still_valid(ferro_session *session, ferro_target *target) except -1:
    """Judge a handle from before the last login: a private object's is dead, a public object's stays for good."""
    if target.epoch == 0 or target.epoch == epoch_of(session.slot):
        return True
    if not run(session.slot, session, core().is_private(core_session(session), target.oid)):
        ferro_handle_confirm(target.handle)
        return True
    ferro_handle_kill(session.slot, target.handle)
    return False


cdef object object_id(ferro_session *session, CK_OBJECT_HANDLE handle, object refusal):
    """Return the core's identity of an object; `refusal` is raised for a handle that is none."""
    cdef ferro_target target
    if not ferro_handle_find(handle, &target) or target.slot != session.slot.id:
        raise refusal()
    try:
        if target.is_draft:
            bring_in(session.slot, handle)
        valid = still_valid(session, &target)
    except errors.ObjectHandleInvalid:
        raise refusal() from None
    if not valid:
        raise refusal()
    return target.oid


cdef CK_OBJECT_HANDLE handle_of(ferro_session *session, object oid, bint made) except 0:
    """Return the handle of an object the core named; `made` says that this session has just made it."""
    cdef ferro_target target
    cdef CK_OBJECT_HANDLE handle
    cdef long long number = oid
    cdef ferro_session *owner = session if made and number < 0 else NULL
    if ferro_handle_of(session.slot.id, number, &target) and still_valid(session, &target) and owner == NULL:
        return target.handle
    # A search may have been faster than its maker, with whom the handle has to end all the same.
    handle = ferro_handle_make(session.slot.id, number, epoch_of(session.slot), owner)
    if handle == 0:
        raise errors.HostMemory()
    return handle


cdef object forget_objects(ferro_slot *slot, object made):
    """Kill the handles that searches may have given out of an object, or several, that the core has destroyed."""
    cdef ferro_target target
    for oid in made if isinstance(made, tuple) else (made,):
        if ferro_handle_of(slot.id, oid, &target):
            ferro_handle_kill(slot, target.handle)


cdef CK_RV hand_out(Call *call, object oid, CK_OBJECT_HANDLE *place) except *:
    """Give the caller the handle of the object that was made for it."""
    ferro_slot_born(call.session.slot)
    try:
        place[0] = handle_of(call.session, oid, True)
    except BaseException:
        take_back(call, (oid,))
        raise
    return CKR_OK


cdef object take_back(Call *call, tuple made):
    """Destroy objects that were made for a caller who cannot be told of them; None is no object.

    What cannot be destroyed, or is gone already, keeps nobody from the others.
    """
    for oid in made:
        if oid is None:
            continue
        try:
            drive(call, core().destroy_object(core_session(call.session), oid))
        except Exception as error:
            report(error)
        forget_objects(call.session.slot, oid)
