# One-time passwords: what C_Sign gives with them is a structure and what it points at (CK_OTP_SIGNATURE_INFO).


cdef CK_RV give_password(Call *call, ferro_operation *operation, object bound, bint whole) except *:
    """End the operation with its password, in one block of the caller's memory."""
    cdef CK_ULONG head = sizeof(CK_OTP_SIGNATURE_INFO) + <CK_ULONG>bound.pieces * sizeof(CK_OTP_PARAM)
    cdef CK_RV rv
    try:
        rv = fits_exactly(call, head + <CK_ULONG>bound.password_length(call.data_length if whole else 0))
        if rv != CKR_OK or call.out == NULL:
            return rv
        given = with_input(call, bound.once) if whole else drive(call, bound.finish())
    except BaseException:
        drop_operation(operation)
        raise
    drop_operation(operation)
    put_pieces(call, given, head)
    return CKR_OK


cdef object put_pieces(Call *call, tuple given, CK_ULONG head):
    """Write the structures and their values, which are known to fit; the memory need not be aligned."""
    cdef CK_OTP_SIGNATURE_INFO info
    cdef CK_OTP_PARAM piece
    cdef CK_BYTE *place = call.out + sizeof(info)
    cdef CK_BYTE *end = call.out + head
    cdef CK_ULONG length
    cdef const char *start
    info.pParams, info.ulCount = <CK_OTP_PARAM *>place, <CK_ULONG>len(given)
    memcpy(call.out, &info, sizeof(info))
    for type, value in given:
        start = bytes_of(value, &length)
        if <CK_ULONG>(end - call.out) + length > call.room:
            raise RuntimeError("a password longer than was said")
        piece.type, piece.pValue, piece.ulValueLen = type, end, length
        memcpy(place, &piece, sizeof(piece))
        memcpy(end, start, length)
        place += sizeof(piece)
        end += length
    call.out_length[0] = <CK_ULONG>(end - call.out)
