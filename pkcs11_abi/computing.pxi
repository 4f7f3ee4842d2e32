# Operations that need no Python: begun from a remembered decision, computed by a kernel on the caller's thread. What is
# said here and in `shapes.pxi` about lengths, order of checks and ends of operations is the same; FERRO_ASK hands a
# call over to the shapes there.

# A mechanism as a kernel may see it: our own copy of the structure, with lengths and pointers checked. What is not well
# formed is left to the decoders of `params.pxi`, which know what is wrong with it.

ctypedef union Structure:
    CK_BYTE iv[16]
    CK_ULONG number
    CK_AES_CTR_PARAMS ctr
    CK_GCM_PARAMS gcm
    CK_RSA_PKCS_PSS_PARAMS pss
    CK_RSA_PKCS_OAEP_PARAMS oaep
    CK_EDDSA_PARAMS eddsa
    CK_ECDH1_DERIVE_PARAMS ecdh
    CK_SIGN_ADDITIONAL_CONTEXT context
    CK_HASH_SIGN_ADDITIONAL_CONTEXT hash_context

cdef struct Parameter:
    CK_MECHANISM mechanism
    Structure structure

ctypedef bint (*shape_t)(Parameter *parameter) noexcept nogil

cdef shape_t SHAPES[KINDS]
"""By the number of the parameter's kind (DECODER_OF); NULL for a kind that always goes through the core."""


cdef bint copied(Parameter *parameter, CK_ULONG size) noexcept nogil:
    """Take a structure of this size over."""
    if parameter.mechanism.pParameter == NULL or parameter.mechanism.ulParameterLen != size:
        return False
    memcpy(&parameter.structure, parameter.mechanism.pParameter, size)
    parameter.mechanism.pParameter = &parameter.structure
    return True


cdef bint readable(const void *pointer, CK_ULONG length) noexcept nogil:
    return length == 0 or (pointer != NULL and length <= PARAMETER_LIMIT)


cdef bint shape_none(Parameter *parameter) noexcept nogil:
    parameter.mechanism.pParameter = NULL
    return parameter.mechanism.ulParameterLen == 0


cdef bint shape_iv16(Parameter *parameter) noexcept nogil:
    return copied(parameter, 16)


cdef bint shape_ulong(Parameter *parameter) noexcept nogil:
    return copied(parameter, sizeof(CK_ULONG))


cdef bint shape_ctr(Parameter *parameter) noexcept nogil:
    return copied(parameter, sizeof(CK_AES_CTR_PARAMS))


cdef bint shape_gcm(Parameter *parameter) noexcept nogil:
    cdef CK_GCM_PARAMS *gcm = &parameter.structure.gcm
    return (
        copied(parameter, sizeof(CK_GCM_PARAMS))
        and readable(gcm.pIv, gcm.ulIvLen)
        and readable(gcm.pAAD, gcm.ulAADLen)
    )


cdef bint shape_pss(Parameter *parameter) noexcept nogil:
    return copied(parameter, sizeof(CK_RSA_PKCS_PSS_PARAMS))


cdef bint shape_oaep(Parameter *parameter) noexcept nogil:
    cdef CK_RSA_PKCS_OAEP_PARAMS *oaep = &parameter.structure.oaep
    return copied(parameter, sizeof(CK_RSA_PKCS_OAEP_PARAMS)) and readable(oaep.pSourceData, oaep.ulSourceDataLen)


cdef bint shape_eddsa(Parameter *parameter) noexcept nogil:
    cdef CK_EDDSA_PARAMS *eddsa = &parameter.structure.eddsa
    if parameter.mechanism.ulParameterLen == 0:
        return shape_none(parameter)
    return copied(parameter, sizeof(CK_EDDSA_PARAMS)) and readable(eddsa.pContextData, eddsa.ulContextDataLen)


cdef bint shape_sign_context(Parameter *parameter) noexcept nogil:
    cdef CK_SIGN_ADDITIONAL_CONTEXT *context = &parameter.structure.context
    if parameter.mechanism.ulParameterLen == 0:
        return shape_none(parameter)
    return copied(parameter, sizeof(CK_SIGN_ADDITIONAL_CONTEXT)) and readable(context.pContext, context.ulContextLen)


cdef bint shape_hash_sign_context(Parameter *parameter) noexcept nogil:
    cdef CK_HASH_SIGN_ADDITIONAL_CONTEXT *context = &parameter.structure.hash_context
    return copied(parameter, sizeof(CK_HASH_SIGN_ADDITIONAL_CONTEXT)) and readable(
        context.pContext, context.ulContextLen
    )


cdef void file_shape(str kind, shape_t shape):
    SHAPES[<int>DECODER_OF[kind]] = shape


file_shape(ParameterKind.NONE, shape_none)
file_shape(ParameterKind.IV16, shape_iv16)
file_shape(ParameterKind.ULONG, shape_ulong)
file_shape(ParameterKind.CTR, shape_ctr)
file_shape(ParameterKind.GCM, shape_gcm)
file_shape(ParameterKind.RSA_PSS, shape_pss)
file_shape(ParameterKind.RSA_OAEP, shape_oaep)
file_shape(ParameterKind.EDDSA, shape_eddsa)
file_shape(ParameterKind.SIGN_CONTEXT, shape_sign_context)
file_shape(ParameterKind.HASH_SIGN_CONTEXT, shape_hash_sign_context)


# Begin.


cdef CK_RV quick_begin(Call *call) noexcept nogil:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef Parameter parameter
    cdef ferro_memo *memo
    if operation.kind != FERRO_IDLE or call.mechanism == NULL or call.bad:
        return FERRO_ASK
    parameter.mechanism = call.mechanism[0]
    memo = ferro_session_memo(call.session, call.operation, call.key, parameter.mechanism.mechanism)
    if memo == NULL or not SHAPES[memo.decision.parameter](&parameter):
        return FERRO_ASK
    if ferro_ring_broken(memo.decision.subject.ring):
        return FERRO_ASK  # the core tries whether its uses can be recorded again
    if memo.decision.kernel.begin(memo.decision.function, &parameter.mechanism, memo.decision.key, &memo.op) != CKR_OK:
        return FERRO_ASK  # the core says what is wrong, or another engine does it
    operation.object = memo
    operation.kind = FERRO_KERNEL
    operation.phase = FERRO_FRESH
    if call.extra != NULL:
        operation.signature = ferro_copy(call.extra, call.extra_length)
        operation.signature_length = call.extra_length
        if operation.signature == NULL:
            return refused(operation, CKR_HOST_MEMORY)
    return CKR_OK


# Use.


cdef inline ferro_memo *memo_of(ferro_operation *operation) noexcept nogil:
    return <ferro_memo *>operation.object


cdef CK_RV quick_ready(Call *call, ferro_operation *operation) noexcept nogil:
    """CKR_OK when the operation is a kernel's and may be used."""
    if operation.kind == FERRO_PYTHON:
        return FERRO_ASK
    if operation.kind == FERRO_IDLE:
        return CKR_OPERATION_NOT_INITIALIZED
    return refused(operation, CKR_ARGUMENTS_BAD) if call.bad else CKR_OK


cdef CK_RV refused(ferro_operation *operation, CK_RV rv) noexcept nogil:
    """End an operation."""
    ferro_operation_end(operation)
    return rv


cdef CK_RV settle(ferro_operation *operation, CK_RV rv) noexcept nogil:
    """After a computation: the operation is over, but for a buffer that was too small."""
    if rv == CKR_OK:
        ferro_operation_clear(operation)  # the kernel has ended its own part
    elif rv != CKR_BUFFER_TOO_SMALL:
        ferro_operation_end(operation)
    return rv


cdef CK_RV quick_transform(Call *call) noexcept nogil:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef ferro_memo *memo
    cdef size_t length = 0
    cdef CK_RV rv = quick_ready(call, operation)
    if rv != CKR_OK:
        return rv
    if operation.phase == FERRO_HELD_ONCE:
        return quick_give_held(call, operation)
    if operation.phase != FERRO_FRESH:
        return refused(operation, CKR_OPERATION_NOT_INITIALIZED)
    memo = memo_of(operation)
    if call.out == NULL or only_bounded(call.operation):
        rv = memo.decision.kernel.once_length(memo.op, call.data_length, &length)
        return bounded(call, operation, rv, length, FERRO_HELD_ONCE)
    length = call.room
    rv = memo.decision.kernel.once(memo.op, call.data, call.data_length, call.out, &length)
    if rv != CKR_BUFFER_TOO_SMALL:
        rv = noted(call, memo, rv, FERRO_USE_WHOLE, length if rv == CKR_OK else 0)
    if rv == CKR_OK or rv == CKR_BUFFER_TOO_SMALL:
        call.out_length[0] = length
    return settle(operation, rv)


cdef CK_RV bounded(Call *call, ferro_operation *operation, CK_RV rv, size_t bound, int phase) noexcept nogil:
    """Answer a length query, or compute what is known only by an upper bound: aside, where the caller's room is less."""
    cdef size_t room, made = bound
    cdef unsigned char *aside
    if rv != CKR_OK:
        return refused(operation, rv)
    if call.out == NULL:
        call.out_length[0] = bound
        return CKR_OK
    room = call.room
    if room >= bound:
        rv = compute(call, operation, phase, call.out, &made)
        if rv == CKR_OK:
            call.out_length[0] = made
        return refused(operation, rv)
    aside = ferro_copy(NULL, 0) if bound == 0 else <unsigned char *>malloc(bound)
    if aside == NULL:
        return refused(operation, CKR_HOST_MEMORY)
    rv = compute(call, operation, phase, aside, &made)
    if rv == CKR_OK and made > room:
        operation.input = ferro_copy(call.data, call.data_length)
        if operation.input != NULL:
            ferro_wipe(aside + made, bound - made)
            operation.held, operation.held_length = aside, made
            operation.input_length = call.data_length
            operation.held_epoch = login_epoch(call.slot)
            operation.phase = phase
            call.out_length[0] = made
            return CKR_BUFFER_TOO_SMALL
        rv = CKR_HOST_MEMORY
    if rv == CKR_OK:
        if made != 0:
            memcpy(call.out, aside, made)
        call.out_length[0] = made
    ferro_wipe_free(aside, bound)
    return refused(operation, rv)


cdef CK_RV quick_give_held(Call *call, ferro_operation *operation) noexcept nogil:
    cdef bint over = False
    cdef CK_RV rv = hand_held(call, operation, &over)
    return refused(operation, rv) if over else rv


cdef CK_RV compute(
    Call *call, ferro_operation *operation, int phase, unsigned char *out, size_t *made
) noexcept nogil:
    cdef ferro_memo *memo = memo_of(operation)
    cdef CK_RV rv
    if phase == FERRO_HELD_FINISH:
        rv = memo.decision.kernel.finish(memo.op, out, made)
    else:
        rv = memo.decision.kernel.once(memo.op, call.data, call.data_length, out, made)
    return noted(call, memo, rv, part_of(operation), made[0] if rv == CKR_OK and out == call.out else 0)


cdef CK_RV quick_parts(Call *call, ferro_operation *operation) noexcept nogil:
    """Whether a kernel's operation takes (a further) part."""
    cdef CK_RV rv = quick_ready(call, operation)
    if rv != CKR_OK:
        return rv
    if operation.phase > FERRO_PARTS:
        return refused(operation, CKR_OPERATION_NOT_INITIALIZED)
    if not memo_of(operation).decision.kernel.multi_part(memo_of(operation).op):
        return refused(operation, CKR_FUNCTION_NOT_SUPPORTED)
    return CKR_OK


cdef CK_RV quick_update(Call *call) noexcept nogil:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef ferro_memo *memo
    cdef size_t length = 0
    cdef CK_RV rv = quick_parts(call, operation)
    if rv != CKR_OK:
        return rv
    memo = memo_of(operation)
    if call.out == NULL:
        rv = memo.decision.kernel.update_length(memo.op, call.data_length, &length)
        if rv != CKR_OK:
            return refused(operation, rv)
        call.out_length[0] = length
        return CKR_OK
    length = call.room
    rv = memo.decision.kernel.update(memo.op, call.data, call.data_length, call.out, &length)
    if rv != CKR_BUFFER_TOO_SMALL and operation.phase == FERRO_FRESH:
        rv = noted(call, memo, rv, FERRO_USE_FIRST, length if rv == CKR_OK else 0)
    if rv != CKR_OK and rv != CKR_BUFFER_TOO_SMALL:
        return refused(operation, rv)
    call.out_length[0] = length
    if rv == CKR_OK:
        operation.phase = FERRO_PARTS
    return rv


cdef CK_RV quick_absorb(Call *call) noexcept nogil:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef ferro_memo *memo
    cdef size_t none = 0
    cdef CK_RV rv = quick_parts(call, operation)
    if rv != CKR_OK:
        return rv
    memo = memo_of(operation)
    rv = memo.decision.kernel.update(memo.op, call.data, call.data_length, NULL, &none)
    if rv != CKR_OK:
        return refused(operation, rv)
    operation.phase = FERRO_PARTS
    return CKR_OK


cdef CK_RV quick_finish(Call *call) noexcept nogil:
    cdef ferro_operation *operation = &call.session.operations[call.operation]
    cdef ferro_memo *memo
    cdef size_t length = 0
    cdef CK_RV rv = quick_ready(call, operation)
    if rv != CKR_OK:
        return rv
    if operation.phase == FERRO_HELD_FINISH:
        return quick_give_held(call, operation)
    if operation.phase == FERRO_HELD_ONCE:
        return refused(operation, CKR_OPERATION_NOT_INITIALIZED)
    memo = memo_of(operation)
    if not memo.decision.kernel.multi_part(memo.op):
        return refused(operation, CKR_FUNCTION_NOT_SUPPORTED)
    if call.out == NULL or only_bounded(call.operation):
        rv = memo.decision.kernel.finish_length(memo.op, &length)
        return bounded(call, operation, rv, length, FERRO_HELD_FINISH)
    length = call.room
    rv = memo.decision.kernel.finish(memo.op, call.out, &length)
    if rv != CKR_BUFFER_TOO_SMALL:
        rv = noted(call, memo, rv, part_of(operation), length if rv == CKR_OK else 0)
    if rv == CKR_OK or rv == CKR_BUFFER_TOO_SMALL:
        call.out_length[0] = length
    return settle(operation, rv)


cdef CK_RV quick_check(Call *call, bint given, bint in_one) noexcept nogil:
    """Verify with the signature of C_VerifySignatureInit (`given`) or with the caller's, in one part or at the end."""
    cdef ferro_operation *operation = &call.session.operations[FERRO_VERIFY]
    cdef ferro_memo *memo
    cdef const CK_BYTE *signature = call.extra
    cdef CK_ULONG length = call.extra_length
    cdef CK_RV rv = quick_ready(call, operation)
    if rv != CKR_OK:
        return rv
    if given != (operation.signature != NULL):
        return CKR_OPERATION_NOT_INITIALIZED
    if given:
        signature, length = operation.signature, operation.signature_length
    if in_one and operation.phase != FERRO_FRESH:
        return refused(operation, CKR_OPERATION_NOT_INITIALIZED)
    memo = memo_of(operation)
    if in_one:
        rv = memo.decision.kernel.verify(memo.op, call.data, call.data_length, signature, length)
    elif memo.decision.kernel.multi_part(memo.op):
        rv = memo.decision.kernel.finish_verify(memo.op, signature, length)
    else:
        return refused(operation, CKR_FUNCTION_NOT_SUPPORTED)
    return refused(operation, noted(call, memo, rv, FERRO_USE_WHOLE, 0))


cdef CK_RV quick_verify_in_one(Call *call) noexcept nogil:
    return quick_check(call, False, True)


cdef CK_RV quick_verify_at_end(Call *call) noexcept nogil:
    return quick_check(call, False, False)


cdef CK_RV quick_given_in_one(Call *call) noexcept nogil:
    return quick_check(call, True, True)


cdef CK_RV quick_given_at_end(Call *call) noexcept nogil:
    return quick_check(call, True, False)


cdef CK_RV quick_verify_part(Call *call) noexcept nogil:
    return absorb_of(call, False)


cdef CK_RV quick_given_part(Call *call) noexcept nogil:
    return absorb_of(call, True)


cdef CK_RV absorb_of(Call *call, bint given) noexcept nogil:
    """Take a part in, if the operation is of the family that the function belongs to."""
    cdef ferro_operation *operation = &call.session.operations[FERRO_VERIFY]
    if operation.kind == FERRO_KERNEL and given != (operation.signature != NULL):
        return CKR_OPERATION_NOT_INITIALIZED
    return quick_absorb(call)


# Dual functions.


cdef CK_RV quick_both(Call *call) noexcept nogil:
    """An update of a cipher, and its plaintext for another operation (`both_work` of dual.pxi says the same)."""
    cdef ferro_operation *cipher = &call.session.operations[call.operation]
    cdef ferro_operation *reader = &call.session.operations[call.number]
    cdef ferro_memo *memo
    cdef size_t length = 0, read = call.data_length
    cdef const CK_BYTE *plain = call.data
    cdef CK_RV rv
    if cipher.kind == FERRO_PYTHON or reader.kind == FERRO_PYTHON:
        return FERRO_ASK
    if cipher.kind == FERRO_IDLE or reader.kind == FERRO_IDLE or reader.signature != NULL:
        return CKR_OPERATION_NOT_INITIALIZED
    rv = quick_parts(call, cipher)
    if rv == CKR_OK:
        rv = quick_parts(call, reader)
    if rv != CKR_OK:
        return rv
    memo = memo_of(cipher)
    rv = memo.decision.kernel.update_length(memo.op, call.data_length, &length)
    if rv != CKR_OK:
        return refused(cipher, rv)
    if call.out == NULL or call.room < length:
        call.out_length[0] = length
        return CKR_OK if call.out == NULL else CKR_BUFFER_TOO_SMALL
    if call.operation == FERRO_ENCRYPT and overlap(call.data, call.data_length, call.out, length):
        return FERRO_ASK  # the plaintext is read after it was encrypted
    length = call.room
    rv = memo.decision.kernel.update(memo.op, call.data, call.data_length, call.out, &length)
    if cipher.phase == FERRO_FRESH:
        rv = noted(call, memo, rv, FERRO_USE_FIRST, length if rv == CKR_OK else 0)
    if rv != CKR_OK:
        return refused(cipher, rv)
    cipher.phase = FERRO_PARTS
    if call.operation == FERRO_DECRYPT:
        plain, read = call.out, length
    rv = update_reader(memo_of(reader), plain, read)
    if rv != CKR_OK:
        ferro_wipe(call.out, length)
        ferro_operation_end(cipher)
        return refused(reader, rv)
    reader.phase = FERRO_PARTS
    call.out_length[0] = length
    return CKR_OK


cdef CK_RV update_reader(ferro_memo *memo, const CK_BYTE *plain, size_t length) noexcept nogil:
    cdef size_t none = 0
    return memo.decision.kernel.update(memo.op, plain, length, NULL, &none)


cdef bint overlap(const CK_BYTE *data, size_t length, const CK_BYTE *out, size_t room) noexcept nogil:
    return length != 0 and room != 0 and data < out + room and out < data + length


# Random.


cdef CK_RV quick_random(Call *call) noexcept nogil:
    """Fill the caller's buffer; one that is huge in pieces, so that closing the session ends it."""
    cdef const ferro_kernel *kernel = ferro_slot_kernel(call.slot)
    cdef CK_ULONG done = 0, piece
    cdef CK_RV rv = CKR_OK
    if kernel == NULL or kernel.random == NULL:
        return FERRO_ASK
    while rv == CKR_OK and done < call.number:
        piece = min(call.number - done, <CK_ULONG>QUICK_RANDOM_PIECE)
        rv = kernel.random(call.out + done, piece)
        done += piece
        if rv == CKR_OK and done < call.number:
            rv = ferro_session_fate(call.session, 0)
    return rv


cdef enum:
    QUICK_RANDOM_PIECE = 0x100000  # bytes


# For the calls that still go through Python with such an operation: C_DigestKey, and dual functions in place or with an
# operation of another engine.


cdef class Lent:
    """A kernel's operation as the core's."""

    cdef ferro_operation *operation

    @property
    def multi_part(self):
        return memo_of(self.operation).decision.kernel.multi_part(memo_of(self.operation).op) != 0

    def update_length(self, size_t length):
        cdef ferro_memo *memo = memo_of(self.operation)
        cdef size_t made = 0
        cdef CK_RV rv = memo.decision.kernel.update_length(memo.op, length, &made)
        if rv != CKR_OK:
            raise errors.from_rv(rv)
        return made

    async def update(self, data):
        return self.update_now(data)

    def update_now(self, const unsigned char[:] data):
        cdef ferro_memo *memo = memo_of(self.operation)
        cdef size_t length = data.shape[0], made = self.update_length(length)
        cdef bytearray out = PyByteArray_FromStringAndSize(NULL, <Py_ssize_t>made)
        cdef const unsigned char *start = &data[0] if length != 0 else NULL
        cdef char *place = PyByteArray_AS_STRING(out) if made != 0 else NULL
        cdef CK_RV rv
        with nogil:
            rv = memo.decision.kernel.update(memo.op, start, length, place, &made)
        if rv != CKR_OK:
            raise errors.from_rv(rv)
        return out


cdef object bound_of(ferro_operation *operation):
    """Return what computes an operation."""
    cdef Lent lent
    if operation.kind != FERRO_KERNEL:
        return <object>operation.object
    lent = Lent.__new__(Lent)
    lent.operation = operation
    return lent
