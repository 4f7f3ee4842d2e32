"""The C state (`state/*.h`) and the loader's contract (`loader/boot.h`), as far as the ABI uses them."""

from pkcs11_abi.ck cimport *
from pkcs11_abi.functions cimport CK_FUNCTION_LIST_3_2

cdef extern from "wipe.h" nogil:
    void ferro_wipe(void *memory, size_t length)
    void ferro_wipe_registers()
    void ferro_wipe_stack()
    unsigned char *ferro_copy(const void *source, size_t length)
    void ferro_wipe_free(void *memory, size_t length)
    void ferro_zero(void *memory, size_t length)

cdef extern from "peek.h" nogil:
    int ferro_peek(CK_ULONG address, CK_ULONG *value)

cdef extern from "ferrohsm_finder.h" nogil:
    const char *FERRO_FINDER_CAPSULE

    ctypedef struct ferro_finder:
        pass

cdef extern from "ferrohsm_kernel.h" nogil:
    const char *FERRO_KERNEL_CAPSULE
    ctypedef struct ferro_kernel_key:
        pass
    ctypedef struct ferro_kernel_op:
        pass
    ctypedef struct ferro_kernel_attribute:
        CK_ATTRIBUTE_TYPE type
        const void *value
        size_t length

    ctypedef struct ferro_kernel_material:
        const ferro_kernel_attribute *attributes
        size_t count

    ctypedef struct ferro_kernel_generated:
        ferro_kernel_material secret
        ferro_kernel_material open

    ctypedef struct ferro_kernel:
        CK_RV (*serves)(CK_FLAGS, CK_MECHANISM_TYPE) noexcept nogil
        void (*key_retain)(ferro_kernel_key *) noexcept nogil
        void (*key_release)(ferro_kernel_key *) noexcept nogil
        CK_RV (*begin)(CK_FLAGS, const CK_MECHANISM *, ferro_kernel_key *, ferro_kernel_op **) noexcept nogil
        int (*multi_part)(const ferro_kernel_op *) noexcept nogil
        CK_RV (*once_length)(const ferro_kernel_op *, size_t, size_t *) noexcept nogil
        CK_RV (*update_length)(const ferro_kernel_op *, size_t, size_t *) noexcept nogil
        CK_RV (*finish_length)(const ferro_kernel_op *, size_t *) noexcept nogil
        CK_RV (*once)(ferro_kernel_op *, const void *, size_t, void *, size_t *) noexcept nogil
        CK_RV (*update)(ferro_kernel_op *, const void *, size_t, void *, size_t *) noexcept nogil
        CK_RV (*finish)(ferro_kernel_op *, void *, size_t *) noexcept nogil
        CK_RV (*verify)(ferro_kernel_op *, const void *, size_t, const void *, size_t) noexcept nogil
        CK_RV (*finish_verify)(ferro_kernel_op *, const void *, size_t) noexcept nogil
        CK_RV (*random)(void *, size_t) noexcept nogil
        void (*op_release)(ferro_kernel_op *) noexcept nogil
        unsigned size
        CK_RV (*op_copy)(const ferro_kernel_op *, ferro_kernel_op **) noexcept nogil
        CK_RV (*generate)(const CK_MECHANISM *, const ferro_kernel_material *, ferro_kernel_generated **) noexcept nogil
        void (*generated_release)(ferro_kernel_generated *) noexcept nogil
        CK_RV (*derive_key)(
            const CK_MECHANISM *, ferro_kernel_key *, size_t, ferro_kernel_generated **
        ) noexcept nogil
        CK_RV (*keep)(const ferro_kernel_material *, ferro_kernel_generated **) noexcept nogil
        CK_RV (*encapsulate_key)(
            const CK_MECHANISM *, ferro_kernel_key *, void *, size_t *, ferro_kernel_generated **
        ) noexcept nogil
        CK_RV (*decapsulate_key)(
            const CK_MECHANISM *, ferro_kernel_key *, const void *, size_t, ferro_kernel_generated **
        ) noexcept nogil

    # The slots that this ABI needs for drafts (recipes.h).
    bint makes_drafts "FERRO_KERNEL_MAKES"(const ferro_kernel *kernel)
    bint encapsulates "FERRO_KERNEL_ENCAPSULATES"(const ferro_kernel *kernel)

cdef extern from "ring.h" nogil:
    const int FERRO_USE_EACH
    const int FERRO_USE_COUNTED
    const int FERRO_USE_SAMPLED
    const int FERRO_USE_WHOLE
    const int FERRO_USE_FIRST
    const int FERRO_USE_LAST
    const int FERRO_NOTED
    const int FERRO_NOTED_UNATTENDED
    const int FERRO_NOT_NOTED

    ctypedef struct ferro_entry:
        pass

    ctypedef struct ferro_ring:
        void *owner

    ctypedef struct ferro_subject:
        ferro_ring *ring
        char chain[32]
        char object[40]

    ctypedef struct ferro_use:
        CK_SESSION_HANDLE session
        CK_SLOT_ID slot
        CK_MECHANISM_TYPE mechanism
        CK_RV result
        unsigned event
        int user
        int part

    ferro_ring *ferro_ring_make(
        void *memory, size_t size, int mode, unsigned long long sample, int sync
    )
    void ferro_ring_free(ferro_ring *ring)
    int ferro_ring_push(ferro_ring *ring, const ferro_entry *entry, void *number)
    int ferro_ring_note_made(
        ferro_ring *ring, const ferro_subject *subject, const ferro_use *use, ferro_entry *entry
    )
    int ferro_ring_note(
        ferro_ring *ring, const ferro_subject *subject, unsigned long *seen, const ferro_use *use, ferro_entry *entry
    )
    int ferro_ring_note_ended(
        ferro_ring *ring, const ferro_subject *subject, const ferro_use *use, unsigned long long count,
        ferro_entry *entry
    )
    unsigned long long ferro_ring_close(ferro_ring *ring, unsigned long long number)
    int ferro_ring_broken(const ferro_ring *ring)
    void ferro_ring_set_broken(ferro_ring *ring, int broken)
    int ferro_ring_wait(ferro_ring *ring, unsigned milliseconds)
    int ferro_ring_attend(ferro_ring *ring, int begin)
    void ferro_ring_stop(ferro_ring *ring)

cdef extern from "slots.h" nogil:
    const int FERRO_NOBODY
    const int FERRO_SO
    const int FERRO_USER

    ctypedef struct ferro_slot:
        CK_SLOT_ID id
        unsigned asked
        CK_FLAGS flags
        CK_UTF8CHAR description[64]
        CK_UTF8CHAR manufacturer[32]
        int is_inline
        int present
        int initialized
        int login
        unsigned long long epoch
        CK_ULONG sessions
        CK_ULONG rw_sessions
        unsigned tokens

    ctypedef ferro_slot ferro_slot_copy

    ctypedef struct ferro_slot_view:
        CK_SLOT_ID id
        CK_FLAGS flags
        CK_UTF8CHAR description[64]
        CK_UTF8CHAR manufacturer[32]
        int is_inline
        int present
        int initialized
        int write_protected
        CK_ULONG max_sessions

    unsigned long long ferro_slot_stamp(ferro_slot *slot)
    int ferro_slot_login(ferro_slot *slot)
    void ferro_slot_born(ferro_slot *slot)
    const ferro_kernel *ferro_slot_kernel(ferro_slot *slot)
    int ferro_slot_settled(ferro_slot *slot, unsigned long long *number)
    void ferro_slot_look(ferro_slot *slot)
    int ferro_slot_looked(ferro_slot *slot)
    void ferro_slot_was_bare(ferro_slot *slot, unsigned long long births)
    void ferro_slot_finds_with(ferro_slot *slot, ferro_finder *finder)
    void ferro_slot_behind(ferro_slot *slot, const ferro_kernel *kernel, const void *words)
    CK_RV ferro_slots_update(const ferro_slot_view *views, CK_ULONG count, int tell)
    CK_RV ferro_slots_list(int with_token, CK_SLOT_ID *ids, CK_ULONG *count)
    void ferro_slot_removed(ferro_slot *slot)
    ferro_slot *ferro_slots_take_removed()
    CK_RV ferro_slots_event(CK_SLOT_ID *id)
    unsigned long long ferro_slot_epoch(ferro_slot *slot)
    ferro_slot *ferro_slot_find(CK_SLOT_ID id, ferro_slot_copy *copy)
    void ferro_slot_read(ferro_slot *slot, ferro_slot_copy *copy)
    int ferro_slot_try_enter(ferro_slot *slot)
    void ferro_slot_await_free(ferro_slot *slot)
    void ferro_slot_leave(ferro_slot *slot)
    CK_RV ferro_slot_begin_login(ferro_slot *slot, int user)
    void ferro_slot_end_login(ferro_slot *slot, int user, int success)
    void ferro_slot_logged_out(ferro_slot *slot)
    int ferro_slot_take_pending_logout(ferro_slot *slot)
    CK_RV ferro_slot_begin_init(ferro_slot *slot)
    void ferro_slot_end_init(ferro_slot *slot)
    int ferro_slots_wait(unsigned milliseconds)
    void ferro_slots_interrupt()
    void ferro_slots_resume()
    void ferro_slots_reset(int forked)
    void ferro_slot_recorded(ferro_slot *slot, const ferro_subject *subject)
    int ferro_slot_subject(ferro_slot *slot, ferro_subject *subject)

cdef extern from "arrivals.h" nogil:
    const int FERRO_ARRIVED
    const int FERRO_INTERRUPTED

    ctypedef struct ferro_arrival:
        int state

    void ferro_arrival_begin(ferro_arrival *arrival)
    void ferro_arrival_end(ferro_arrival *arrival)
    void ferro_arrival_raise(ferro_arrival *arrival)
    int ferro_arrival_await(ferro_arrival *arrival, unsigned milliseconds)
    void ferro_arrivals_interrupt()
    void ferro_arrivals_resume()
    void ferro_arrivals_fork_child()

cdef extern from "decisions.h" nogil:
    const CK_RV FERRO_ASK

    ctypedef struct ferro_decision:
        ferro_slot *slot
        CK_OBJECT_HANDLE handle
        CK_MECHANISM_TYPE mechanism
        CK_FLAGS function
        const ferro_kernel *kernel
        ferro_kernel_key *key
        int parameter
        int is_private
        int on_token
        unsigned long long epoch
        unsigned long long generation
        ferro_subject subject

    ctypedef struct ferro_memo:
        ferro_decision decision
        unsigned long long stamp
        ferro_kernel_op *op
        unsigned long seen

    int ferro_decisions_find(
        ferro_slot *slot, CK_OBJECT_HANDLE handle, CK_MECHANISM_TYPE mechanism, CK_FLAGS function,
        ferro_decision *found, unsigned long long *stamp
    )
    void ferro_decision_release(ferro_decision *decision)
    void ferro_decisions_keep(ferro_decision *decision, unsigned long long stamp)
    void ferro_decisions_forget_all()
    void ferro_decisions_prepare()
    void ferro_decisions_fork_child()

cdef extern from "snapshots.h" nogil:
    ctypedef struct ferro_snapshot:
        size_t used

    ctypedef struct ferro_snapshot_moment:
        unsigned long long stamp
        unsigned long long epoch
        unsigned long long generation

    void ferro_snapshot_add(
        ferro_snapshot *snapshot, CK_ATTRIBUTE_TYPE type, CK_RV answer, const void *value, size_t length
    )
    int ferro_snapshot_find(
        const ferro_snapshot *snapshot, CK_ATTRIBUTE_TYPE type, CK_RV *answer, const void **value, size_t *length
    )
    int ferro_snapshots_read(ferro_slot *slot, CK_OBJECT_HANDLE handle, ferro_snapshot *copy)
    void ferro_snapshots_keep(
        ferro_slot *slot, CK_OBJECT_HANDLE handle, const ferro_snapshot *shown, const ferro_snapshot_moment *before,
        int on_token
    )
    void ferro_snapshots_forget_slot(const ferro_slot *slot)
    void ferro_snapshots_prepare()
    void ferro_snapshots_fork_child()

cdef extern from "finds.h" nogil:
    const int FERRO_FOUND_MOST

    ctypedef struct ferro_wanted:
        size_t used

    ctypedef struct ferro_found:
        unsigned long long stamp
        CK_ULONG count
        CK_ULONG at
        CK_OBJECT_HANDLE *handles

    ctypedef struct ferro_find_moment:
        unsigned long long stamp
        unsigned long long births

    int ferro_wanted_add(ferro_wanted *wanted, CK_ATTRIBUTE_TYPE type, const void *value, size_t length)
    int ferro_wanted_next(
        const ferro_wanted *wanted, size_t *at, CK_ATTRIBUTE_TYPE *type, const void **value, size_t *length
    )
    ferro_found *ferro_found_make(const CK_OBJECT_HANDLE *handles, CK_ULONG count, unsigned long long stamp)
    CK_ULONG ferro_found_take(ferro_found *found, CK_OBJECT_HANDLE *out, CK_ULONG room)
    void ferro_find_note(ferro_slot *slot, ferro_find_moment *moment)
    ferro_found *ferro_finds_read(ferro_slot *slot, const ferro_wanted *wanted)
    ferro_found *ferro_finds_search(ferro_slot *slot, const ferro_wanted *wanted)
    void ferro_finds_keep(
        ferro_slot *slot, const ferro_wanted *wanted, const ferro_found *found, const ferro_find_moment *before
    )
    void ferro_finds_forget_slot(const ferro_slot *slot)
    void ferro_finds_prepare()
    void ferro_finds_fork_child()

cdef extern from "sessions.h" nogil:
    const int FERRO_FIND
    const int FERRO_ENCRYPT
    const int FERRO_DECRYPT
    const int FERRO_DIGEST
    const int FERRO_SIGN
    const int FERRO_SIGN_RECOVER
    const int FERRO_VERIFY
    const int FERRO_VERIFY_RECOVER
    const int FERRO_MESSAGE_ENCRYPT
    const int FERRO_MESSAGE_DECRYPT
    const int FERRO_MESSAGE_SIGN
    const int FERRO_MESSAGE_VERIFY
    const int FERRO_OPERATIONS
    const int FERRO_IDLE
    const int FERRO_PYTHON
    const int FERRO_KERNEL
    const int FERRO_FOUND
    const int FERRO_FRESH
    const int FERRO_PARTS
    const int FERRO_HELD_ONCE
    const int FERRO_HELD_FINISH

    ctypedef struct ferro_operation:
        int kind
        int phase
        void *object
        unsigned char *held
        size_t held_length
        unsigned long long held_epoch
        unsigned char *input
        size_t input_length
        unsigned char *signature
        size_t signature_length

    ctypedef struct ferro_session:
        CK_SESSION_HANDLE handle
        ferro_slot *slot
        CK_FLAGS flags
        unsigned token
        void *core
        ferro_operation operations[8]

    void ferro_sessions_prepare()
    CK_RV ferro_session_open(CK_SLOT_ID slot, CK_FLAGS flags, CK_SESSION_HANDLE *handle)
    CK_RV ferro_session_take(CK_SESSION_HANDLE handle, int alone, CK_FLAGS running, ferro_session **session)
    CK_RV ferro_session_fate(ferro_session *session, int alone)
    int ferro_session_leave(ferro_session *session, int alone)
    int ferro_session_leave_well(ferro_session *session, int alone, int quick)
    unsigned long long ferro_sessions_quick()
    ferro_memo *ferro_session_memo(
        ferro_session *session, int operation, CK_OBJECT_HANDLE handle, CK_MECHANISM_TYPE mechanism
    )
    void ferro_sessions_forget_handle(ferro_slot *slot, CK_OBJECT_HANDLE handle)
    unsigned long long ferro_sessions_forget_slot(ferro_slot *slot)
    CK_RV ferro_session_detach(CK_SESSION_HANDLE handle, ferro_session **session, int *last)
    ferro_session *ferro_session_detach_any(ferro_slot *slot, int *last)
    ferro_session *ferro_session_detach_removed(ferro_slot *slot)
    int ferro_session_cancel(ferro_session *session, CK_FLAGS flags)
    CK_RV ferro_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
    CK_STATE ferro_session_state(const ferro_session *session)
    void ferro_session_free(ferro_session *session)
    void ferro_operation_clear(ferro_operation *operation)
    void ferro_operation_end(ferro_operation *operation)
    CK_FLAGS ferro_operation_flag(int operation)
    void ferro_sessions_fork_child()

cdef extern from "recipes.h" nogil:
    const CK_FLAGS FERRO_CREATE
    const int FERRO_TEMPLATE_COUNT
    enum: FERRO_TEMPLATE_BYTES

    ctypedef struct ferro_recipe:
        unsigned long long number
        ferro_slot *slot
        CK_FLAGS function
        CK_MECHANISM_TYPE mechanism
        CK_OBJECT_HANDLE base
        unsigned long long epoch
        unsigned long long generation
        int on_token
        int halves
        int is_private[2]
        const ferro_kernel *kernel
        size_t length
        char base_id[40]
        ferro_kernel_material material

    ctypedef struct ferro_packed:
        size_t length
        unsigned char bytes[1024]

    int ferro_template_pack(ferro_packed *packed, const CK_ATTRIBUTE *template, CK_ULONG count, int open)
    ferro_recipe *ferro_recipe_find(
        ferro_slot *slot, CK_FLAGS function, CK_MECHANISM_TYPE mechanism, CK_OBJECT_HANDLE base,
        const ferro_packed *packed
    )
    ferro_recipe *ferro_recipe_make(const ferro_packed *packed)
    int ferro_recipe_ask(ferro_recipe *recipe, CK_ATTRIBUTE_TYPE type, const void *value, size_t length)
    void ferro_recipe_keep(ferro_recipe *recipe, unsigned long long stamp)
    void ferro_recipe_release(ferro_recipe *recipe)
    unsigned long long ferro_recipe_ended()
    void ferro_recipes_prepare()
    void ferro_recipes_forget_slot(const ferro_slot *slot)
    void ferro_recipes_fork_child()

cdef extern from "handles.h" nogil:
    ctypedef struct ferro_target:
        CK_OBJECT_HANDLE handle
        CK_SLOT_ID slot
        long long oid
        unsigned long long epoch
        int is_draft

    ctypedef struct ferro_draft:
        ferro_recipe *recipe
        ferro_kernel_generated *made

    CK_RV ferro_draft_hand_out(
        ferro_recipe *recipe, ferro_kernel_generated *made, ferro_session *owner, CK_OBJECT_HANDLE **handles
    )
    ferro_draft *ferro_draft_find(CK_OBJECT_HANDLE handle, int *half, long long *oid, CK_SESSION_HANDLE *owner)
    ctypedef struct ferro_drafts_seen:
        pass

    void ferro_handles_prepare()
    void ferro_drafts_mark(ferro_slot *slot, ferro_drafts_seen *seen)
    CK_OBJECT_HANDLE ferro_draft_of_slot(CK_SLOT_ID slot, ferro_drafts_seen *seen)
    int ferro_draft_settle(CK_OBJECT_HANDLE handle)
    int ferro_draft_claim(ferro_slot *slot, CK_OBJECT_HANDLE handle)
    void ferro_draft_unclaim(CK_OBJECT_HANDLE handle)
    unsigned long long ferro_drafts_owned(const ferro_session *owner)
    int ferro_draft_destroy(ferro_slot *slot, CK_OBJECT_HANDLE handle)
    void ferro_draft_release(ferro_draft *draft)

    CK_OBJECT_HANDLE ferro_handle_make(CK_SLOT_ID slot, long long oid, unsigned long long epoch, ferro_session *owner)
    int ferro_handle_find(CK_OBJECT_HANDLE handle, ferro_target *target)
    int ferro_handle_of(CK_SLOT_ID slot, long long oid, ferro_target *target)
    void ferro_handle_confirm(CK_OBJECT_HANDLE handle)
    void ferro_handle_kill(ferro_slot *slot, CK_OBJECT_HANDLE handle)
    void ferro_handles_kill_owned(ferro_session *owner)
    void ferro_handles_kill_slot(CK_SLOT_ID slot)
    void ferro_handles_kill_all()
    void ferro_handles_fork_child()

cdef extern from "attach.h" nogil:
    void ferro_attach()
    void ferro_attach_host(int (*python_usable)() noexcept nogil)
    void ferro_attach_fork_child()
    void *ferro_let_go()
    void ferro_take_back(void *state)

cdef extern from "boot.h" nogil:
    const unsigned FERRO_TABLE_VERSION
    const unsigned FERRO_HOST_VERSION

    ctypedef struct ferro_host:
        unsigned version
        int hosted
        void (*pause)() noexcept nogil
        int (*resume)() noexcept nogil
        int (*python_usable)() noexcept nogil

    ctypedef struct ferro_table:
        unsigned version
        const char *build_id
        const CK_FUNCTION_LIST_3_2 *functions
        void (*interrupt)() noexcept nogil
        void (*fork_child)() noexcept nogil
        void (*attach_host)(const ferro_host *host) noexcept nogil
