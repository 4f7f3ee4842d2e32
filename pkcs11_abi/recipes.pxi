# Session objects that come into being without Python, once the core has said how (`state/recipes.h`): made by the kernel
# and kept there as drafts. The core hears of one when more is wanted of it than its handle.

cdef dict RECIPES = {}
"""The core's side of the recipes, by their numbers."""

cdef dict SEEN = {}
"""How often something was made in the same way, by a hash of the way; REFUSED where the core has no recipe for it."""

cdef enum:
    REFUSED = -1
    SEEN_LIMIT = 256  # ways that are counted at the same time
    FERRO_CIPHERTEXT = 2048  # bytes: room for every ciphertext of an ML-KEM


# Make.


cdef bint pack(Call *call, CK_FLAGS function, ferro_packed *packed) noexcept nogil:
    """Lay down what has to be the same again; the mechanism's parameter is not in it, so there is none that counts."""
    packed.length = 0
    if not ferro_template_pack(packed, call.template, call.count, function == FERRO_CREATE):
        return False
    if function != CKF_GENERATE_KEY_PAIR:
        return True
    return ferro_template_pack(packed, call.second_template, call.second_count, False) != 0


cdef bint pack_read(CK_FLAGS function, list templates, ferro_packed *packed) except -1:
    """Lay down the same of templates that were read: what the core is asked about is what is remembered."""
    cdef CK_ATTRIBUTE attributes[32]
    cdef CK_ULONG i
    packed.length = 0
    for template in templates:
        if len(template) > FERRO_TEMPLATE_COUNT:
            return False
        values = []
        for i, (type, value) in enumerate(template):
            if isinstance(value, tuple):
                return False
            wide = narrow(type, value)
            values.append(wide)
            attributes[i].type = type
            attributes[i].pValue = <void *>bytes_of(wide, &attributes[i].ulValueLen)
        if not ferro_template_pack(packed, attributes, len(values), function == FERRO_CREATE):
            return False
    return True


cdef bint without_parameter(object mechanism):
    """Whether nothing of a mechanism's parameter counts: the other side's point of an agreement is new each time."""
    if mechanism is None or mechanism.parameter is None or mechanism.parameter == b"":
        return True
    agreed = mechanism.parameter
    return isinstance(agreed, Ecdh1) and agreed.kdf == CKD_NULL and not agreed.shared_data


cdef bint has_base(CK_FLAGS function) noexcept nogil:
    return function == CKF_DERIVE or function == CKF_ENCAPSULATE or function == CKF_DECAPSULATE


cdef ferro_recipe *recipe_for(Call *call, CK_FLAGS function) noexcept nogil:
    cdef ferro_packed packed
    cdef CK_MECHANISM_TYPE mechanism = call.mechanism.mechanism if call.mechanism != NULL else 0
    if call.made == NULL or not pack(call, function, &packed):
        return NULL
    return ferro_recipe_find(call.slot, function, mechanism, call.key if has_base(function) else 0, &packed)


cdef unsigned event_of_use(CK_FLAGS function) noexcept nogil:
    if function == CKF_DERIVE:
        return EVENT_DERIVE
    return EVENT_ENCAPSULATE if function == CKF_ENCAPSULATE else EVENT_DECAPSULATE


cdef CK_RV give_out(Call *call, ferro_recipe *recipe, CK_RV rv, ferro_kernel_generated *made) noexcept nogil:
    """Give out what was made, or leave it to the core to say what is wrong."""
    cdef CK_OBJECT_HANDLE handles[2]  # ours, until all is well: what stands in the caller's memory is the caller's
    cdef CK_OBJECT_HANDLE *places[2]
    cdef CK_FLAGS function = recipe.function
    cdef CK_MECHANISM_TYPE mechanism = recipe.mechanism if function != FERRO_CREATE else NO_MECHANISM
    cdef char base_id[40]
    cdef int half, halves = recipe.halves
    if rv != CKR_OK:
        ferro_recipe_release(recipe)
        return FERRO_ASK
    memcpy(base_id, recipe.base_id, sizeof(base_id))
    places[0], places[1] = &handles[0], &handles[1]
    rv = ferro_draft_hand_out(recipe, made, call.session, places)
    if rv != CKR_OK:
        return rv
    if has_base(function):
        rv = noted_object(call, event_of_use(function), mechanism, base_id)
    for half in range(halves):
        if rv == CKR_OK:
            rv = noted_object(call, EVENT_CREATE, mechanism, NULL)
    if rv != CKR_OK:  # what cannot be recorded is not left behind
        for half in range(halves):
            ferro_draft_destroy(call.slot, handles[half])
        return rv
    call.made[0] = handles[0]
    if halves == 2:
        call.second_made[0] = handles[1]
    return CKR_OK


cdef CK_RV quick_generate(Call *call, CK_FLAGS function) noexcept nogil:
    cdef ferro_recipe *recipe
    cdef ferro_kernel_generated *made = NULL
    cdef CK_MECHANISM mechanism
    cdef CK_RV rv
    if call.session.flags & CKF_ASYNC_SESSION or call.mechanism.ulParameterLen != 0:
        return FERRO_ASK
    recipe = recipe_for(call, function)
    if recipe == NULL:
        return FERRO_ASK
    if not recordable(call.slot):
        return give_out(call, recipe, FERRO_ASK, NULL)
    memset(&mechanism, 0, sizeof(mechanism))
    mechanism.mechanism = recipe.mechanism
    rv = recipe.kernel.generate(&mechanism, &recipe.material, &made)
    return give_out(call, recipe, rv, made)


cdef CK_RV quick_key(Call *call) noexcept nogil:
    return quick_generate(call, CKF_GENERATE)


cdef CK_RV quick_pair(Call *call) noexcept nogil:
    return quick_generate(call, CKF_GENERATE_KEY_PAIR)


cdef CK_RV quick_derive(Call *call) noexcept nogil:
    """Agree on a key without a derivation function: the one parameter that may change is the other side's point."""
    cdef ferro_recipe *recipe
    cdef ferro_kernel_generated *made = NULL
    cdef ferro_decision decision
    cdef Parameter parameter
    cdef CK_ECDH1_DERIVE_PARAMS *ecdh = &parameter.structure.ecdh
    cdef CK_RV rv = FERRO_ASK
    parameter.mechanism = call.mechanism[0]
    if not copied(&parameter, sizeof(CK_ECDH1_DERIVE_PARAMS)) or not readable(ecdh.pPublicData, ecdh.ulPublicDataLen):
        return FERRO_ASK
    if ecdh.kdf != CKD_NULL or ecdh.ulSharedDataLen != 0:
        return FERRO_ASK
    recipe = recipe_for(call, CKF_DERIVE)
    if recipe == NULL:
        return FERRO_ASK
    if decided(call, recipe, &decision):
        rv = recipe.kernel.derive_key(&parameter.mechanism, decision.key, recipe.length, &made)
        ferro_decision_release(&decision)
    return give_out(call, recipe, rv, made)


cdef bint decided(Call *call, ferro_recipe *recipe, ferro_decision *decision) noexcept nogil:
    """Take the decision that the base key may be used for this; the caller releases it."""
    cdef unsigned long long stamp
    if not recordable(call.slot):
        return False
    if not ferro_decisions_find(call.slot, call.key, recipe.mechanism, recipe.function, decision, &stamp):
        return False
    # What the base key's attributes decide about the new key was taken over at this generation.
    if decision.kernel == recipe.kernel and (not recipe.on_token or decision.generation == recipe.generation):
        return True
    ferro_decision_release(decision)
    return False


cdef ferro_recipe *recipe_to_share(Call *call, CK_FLAGS function) noexcept nogil:
    """Encapsulation and its counterpart, which have no parameter."""
    if call.session.flags & CKF_ASYNC_SESSION or call.mechanism.ulParameterLen != 0:
        return NULL
    return recipe_for(call, function)


cdef CK_RV quick_encapsulate(Call *call) noexcept nogil:
    cdef unsigned char ciphertext[FERRO_CIPHERTEXT]  # the caller has it when the key is there
    cdef size_t length = sizeof(ciphertext)
    cdef ferro_kernel_generated *made = NULL
    cdef ferro_decision decision
    cdef ferro_recipe *recipe
    cdef CK_MECHANISM mechanism
    cdef CK_RV rv = FERRO_ASK
    if call.out == NULL:
        return FERRO_ASK
    recipe = recipe_to_share(call, CKF_ENCAPSULATE)
    if recipe == NULL:
        return FERRO_ASK
    memset(&mechanism, 0, sizeof(mechanism))
    mechanism.mechanism = recipe.mechanism
    if decided(call, recipe, &decision):
        length = min(length, call.room)
        rv = recipe.kernel.encapsulate_key(&mechanism, decision.key, ciphertext, &length, &made)
        ferro_decision_release(&decision)
    rv = give_out(call, recipe, rv, made)
    if rv == CKR_OK:
        memcpy(call.out, ciphertext, length)
        call.out_length[0] = length
    return rv


cdef CK_RV quick_decapsulate(Call *call) noexcept nogil:
    cdef ferro_kernel_generated *made = NULL
    cdef ferro_decision decision
    cdef ferro_recipe *recipe
    cdef CK_MECHANISM mechanism
    cdef CK_RV rv = FERRO_ASK
    recipe = recipe_to_share(call, CKF_DECAPSULATE)
    if recipe == NULL:
        return FERRO_ASK
    memset(&mechanism, 0, sizeof(mechanism))
    mechanism.mechanism = recipe.mechanism
    if decided(call, recipe, &decision):
        rv = recipe.kernel.decapsulate_key(&mechanism, decision.key, call.data, call.data_length, &made)
        ferro_decision_release(&decision)
    return give_out(call, recipe, rv, made)


cdef bint own_label(CK_ATTRIBUTE *template, CK_ULONG count, char *room) noexcept nogil:
    """Copy the label, of which there is one in a template that has a recipe: what was checked is what is kept."""
    cdef CK_ULONG i, used = 0
    for i in range(count):
        if template[i].type != CKA_LABEL or template[i].ulValueLen == 0:
            continue
        if template[i].pValue == NULL or template[i].ulValueLen > FERRO_TEMPLATE_BYTES - used:
            return False
        memcpy(room + used, template[i].pValue, template[i].ulValueLen)
        template[i].pValue = room + used
        used += template[i].ulValueLen
    return True


cdef CK_RV quick_create(Call *call) noexcept nogil:
    """Keep label, id and value of a key; everything else is the recipe's."""
    cdef CK_ATTRIBUTE template[32]
    cdef char label[FERRO_TEMPLATE_BYTES]
    cdef ferro_kernel_attribute values[3]
    cdef ferro_kernel_material material
    cdef ferro_kernel_generated *made = NULL
    cdef ferro_recipe *recipe
    cdef CK_ULONG i
    cdef CK_ATTRIBUTE *given = call.template
    cdef CK_RV rv
    if call.count > FERRO_TEMPLATE_COUNT or call.count == 0:
        return FERRO_ASK
    memcpy(template, call.template, call.count * sizeof(CK_ATTRIBUTE))  # one look at it: it is the caller's
    if not own_label(template, call.count, label):
        return FERRO_ASK
    call.template = template
    recipe = recipe_for(call, FERRO_CREATE)
    call.template = given
    if recipe == NULL:
        return FERRO_ASK
    if not recordable(call.slot):
        return give_out(call, recipe, FERRO_ASK, NULL)
    material.attributes, material.count = values, 0
    for i in range(call.count):
        if template[i].type == CKA_LABEL or template[i].type == CKA_ID or template[i].type == CKA_VALUE:
            if material.count < 3:  # none stands twice in a template that has a recipe
                values[material.count].type = template[i].type
                values[material.count].value = template[i].pValue
                values[material.count].length = template[i].ulValueLen
                material.count += 1
    rv = recipe.kernel.keep(&material, &made)
    return give_out(call, recipe, rv, made)


cdef CK_RV quick_destroy(Call *call) noexcept nogil:
    """A draft may be destroyed by every session: its recipe says so, and private ones end with the login."""
    cdef int claimed
    cdef CK_RV rv
    if not recordable(call.slot):
        return FERRO_ASK
    claimed = ferro_draft_claim(call.slot, call.key)
    if claimed == 0:
        return FERRO_ASK
    if claimed < 0:
        return CKR_OBJECT_HANDLE_INVALID  # another thread is destroying it
    rv = noted_object(call, EVENT_DESTROY, NO_MECHANISM, NULL)
    if rv != CKR_OK:  # what cannot be recorded does not happen
        ferro_draft_unclaim(call.key)
    elif not ferro_draft_destroy(call.slot, call.key):
        return FERRO_ASK  # the core has it since then
    return rv


# Bring in.


cdef object brought(const ferro_kernel_material *material):
    """Return attributes that a kernel holds; secrets as a bytearray, which is wiped."""
    cdef size_t i
    cdef dict out = {}
    for i in range(material.count):
        start = <const char *>material.attributes[i].value
        if material.attributes[i].type in SECRET_VALUES:
            out[material.attributes[i].type] = PyByteArray_FromStringAndSize(start, <Py_ssize_t>material.attributes[i].length)
        else:
            out[material.attributes[i].type] = PyBytes_FromStringAndSize(start, <Py_ssize_t>material.attributes[i].length)
    return out


cdef object bring_in(ferro_slot *slot, CK_OBJECT_HANDLE handle):
    """Tell the core of a draft; of one that is settled or gone meanwhile there is nothing to tell."""
    cdef int half = 0
    cdef long long oid = 0
    cdef Call call
    cdef CK_SESSION_HANDLE owner = 0
    cdef ferro_draft *draft = ferro_draft_find(handle, &half, &oid, &owner)
    if draft == NULL:
        return
    clear(&call)
    try:
        if ferro_session_take(owner, 0, 0, &call.session) != CKR_OK:
            raise errors.ObjectHandleInvalid()
        call.slot = slot
        try:
            tell_core(call.session, draft, half, oid, handle)
        finally:
            leave(&call, CKR_OK, 0)
    finally:
        ferro_draft_release(draft)


cdef object tell_core(
    ferro_session *owner, ferro_draft *draft, int half, long long oid, CK_OBJECT_HANDLE handle
):
    session, open = core_session(owner), brought(&draft.made.open)
    secret = brought(&draft.made.secret)
    try:
        run(
            owner.slot, owner,
            core().bring_in(session, RECIPES[draft.recipe.number], half, oid, open, secret),
        )
    finally:
        wipe_values(list(secret.items()))
    if not ferro_draft_settle(handle):  # destroyed meanwhile
        try:
            run(owner.slot, owner, core().destroy_object(session, oid))
        except HsmError:
            pass  # whoever ended it has told the core as well
        forget_objects(owner.slot, oid)
        raise errors.ObjectHandleInvalid()


cdef object bring_in_all(ferro_slot *slot):
    """Before a search: the core has to know what there is. What others go on making is not waited for."""
    cdef ferro_drafts_seen seen
    cdef CK_OBJECT_HANDLE handle
    ferro_drafts_mark(slot, &seen)
    handle = ferro_draft_of_slot(slot.id, &seen)
    while handle != 0:
        try:
            bring_in(slot, handle)
        except HsmError as error:
            report(error)
        ferro_draft_settle(handle)  # one that the core does not take is not found
        handle = ferro_draft_of_slot(slot.id, &seen)


# Learn.


cdef CK_RV learn(Call *call, CK_FLAGS function, object mechanism, object base, list templates) noexcept:
    """After the core has made something, which stays made whatever comes of this: see how to do without it.

    `templates` are those that it was made of, their secrets wiped.
    """
    try:
        count(call, function, mechanism, base, templates)
    except BaseException as error:
        translate(error)
    return CKR_OK


cdef object count(Call *call, CK_FLAGS function, object mechanism, object base, list templates):
    """Ask the core for a recipe when something was made for the second time in the same way."""
    cdef ferro_packed packed
    cdef const ferro_kernel *kernel = ferro_slot_kernel(call.slot)
    if kernel == NULL or not call.slot.is_inline or not makes_drafts(kernel) or not without_parameter(mechanism):
        return
    if (function == CKF_ENCAPSULATE or function == CKF_DECAPSULATE) and not encapsulates(kernel):
        return
    if not pack_read(function, templates, &packed):
        return
    number = None if mechanism is None else mechanism.type
    way = hash((call.slot.id, function, number, base, PyBytes_FromStringAndSize(<char *>packed.bytes, packed.length)))
    times = SEEN.get(way, 0)
    if times == REFUSED:
        return
    if len(SEEN) >= SEEN_LIMIT:
        SEEN.clear()
    SEEN[way] = times + 1
    if times != 0 and not learn_recipe(call, function, mechanism, base, templates, kernel, &packed):
        SEEN[way] = REFUSED


cdef bint learn_recipe(
    Call *call, CK_FLAGS function, object mechanism, object base, list templates, const ferro_kernel *kernel,
    ferro_packed *packed
) except -1:
    """Return whether the core has a recipe for this way."""
    cdef Moment before
    cdef ferro_recipe *recipe
    cdef unsigned long long number
    note(call.slot, &before)
    try:
        known = run(
            call.slot, call.session,
            core().recipe(core_session(call.session), function, mechanism, base, templates),
        )
    except HsmError:
        return False
    if known is None or not recorded_slot(call.slot) or (base is not None and not remember_base(call, function, &before, known)):
        return False
    recipe = ferro_recipe_make(packed)
    if recipe == NULL:
        return False
    recipe.slot, recipe.function, recipe.kernel = call.slot, function, kernel
    recipe.mechanism = 0 if mechanism is None else mechanism.type
    recipe.epoch, recipe.generation = before.epoch, before.generation
    if base is not None:
        recipe.base, recipe.on_token = call.key, known.on_token
        keep_name(recipe.base_id, sizeof(recipe.base_id), known.base_id)
    recipe.halves = len(known.private)
    for half, is_private in enumerate(known.private):
        recipe.is_private[half] = is_private
    for type, value in known.request.items():
        if not ferro_recipe_ask(recipe, type, PyBytes_AS_STRING(value), len(value)):
            ferro_recipe_release(recipe)
            return False
    RECIPES[recipe.number] = known
    ferro_recipe_keep(recipe, before.stamp)
    number = ferro_recipe_ended()
    while number != 0:
        RECIPES.pop(number, None)
        number = ferro_recipe_ended()
    return True


cdef bint remember_base(Call *call, CK_FLAGS function, Moment *before, object known) except -1:
    """Keep the decision that the base key may be used."""
    cdef const ferro_kernel *kernel = ferro_slot_kernel(call.slot)
    cdef ferro_decision decision
    memset(&decision, 0, sizeof(decision))
    if known.on_token:
        look_behind(call.slot.id, True)
        if not before.settled:
            return False
    decision.slot, decision.handle, decision.kernel = call.slot, call.key, kernel
    decision.mechanism, decision.function = known.mechanism.type, function
    decision.is_private, decision.on_token = known.base_private, known.on_token
    decision.epoch, decision.generation = before.epoch, before.generation
    decision.key = <ferro_kernel_key *>PyCapsule_GetPointer(known.key, "ferrohsm.kernel.key")
    kernel.key_retain(decision.key)
    known.key = None
    ferro_decisions_keep(&decision, before.stamp)
    return True


cdef object forget_recipes():
    """C_Finalize, and the child of a fork: there are no drafts any more."""
    while ferro_recipe_ended() != 0:
        pass
    RECIPES.clear()
    SEEN.clear()
