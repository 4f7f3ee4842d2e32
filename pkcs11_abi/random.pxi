# Random number generation functions (Section 5.19).


cdef CK_RV C_SeedRandom(CK_SESSION_HANDLE hSession, CK_BYTE_PTR pSeed, CK_ULONG ulSeedLen) noexcept nogil:
    cdef Call call
    clear(&call)
    call.data, call.data_length = pSeed, ulSeedLen
    call.bad = pSeed == NULL or unreadable(pSeed, ulSeedLen)
    return beside(hSession, &call, seed_random, NULL)


cdef CK_RV seed_random(Call *call) except *:
    seed = view_of(call.session.slot, call.data, call.data_length)
    try:
        drive(call, core().seed_random(call.session.slot.id, seed))
    finally:
        release_view(seed)
    return CKR_OK


cdef CK_RV C_GenerateRandom(CK_SESSION_HANDLE hSession, CK_BYTE_PTR RandomData, CK_ULONG ulRandomLen) noexcept nogil:
    cdef Call call
    clear(&call)
    call.out, call.number = RandomData, ulRandomLen
    call.bad = RandomData == NULL or ulRandomLen > DATA_LIMIT
    return beside(hSession, &call, generate_random, quick_random)


cdef CK_RV generate_random(Call *call) except *:
    """Fill the caller's buffer a piece at a time, so that its length costs no memory of ours."""
    cdef CK_ULONG done = 0, piece
    cdef bytes data
    while done < call.number:
        piece = min(call.number - done, <CK_ULONG>RANDOM_PIECE)
        data = drive(call, core().random(call.session.slot.id, piece))
        if <CK_ULONG>len(data) != piece:
            raise RuntimeError("an engine gave another number of random bytes than it was asked for")
        memcpy(call.out + done, PyBytes_AS_STRING(data), piece)
        done += piece
    return CKR_OK


cdef enum:
    RANDOM_PIECE = 0x10000  # bytes asked of the engine at once
