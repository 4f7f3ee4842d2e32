#include "sessions.h"
#include "handles.h"
#include "lock.h"
#include "snapshots.h"
#include "wipe.h"

#define SHARDS 64

typedef struct {
    _Alignas(FERRO_CACHE_LINES) ferro_mutex mutex;
    ferro_session **buckets;
    size_t size; /* a power of two */
    size_t count;
    unsigned long long quick; /* calls that needed no Python, but those that sessions of the table count */
} shard;

/* What a session's state is made of. BUSY: a call has it alone. The others only stand beside BUSY, but for CLOSED, and send
 * the call that leaves the long way: CANCELLED, CLOSED, or LOOK, when there may be memos to look through. */
enum { BUSY = 1, LOOK = 2, CANCELLED = 4, CLOSED = 8 };

/* The session of a shard that was asked about last, for C_GetSessionInfo to read without the lock: a seqlock, odd while it
 * is written, with the shard's lock. Handle 0: none. It is put out before its session leaves the table. */
typedef struct {
    _Alignas(FERRO_CACHE_LINES) _Atomic unsigned long long sequence;
    _Atomic CK_SESSION_HANDLE handle;
    _Atomic(ferro_slot *) slot;
    _Atomic CK_FLAGS flags;
} fact;

static shard shards[SHARDS];
static fact facts[SHARDS];
static _Atomic CK_SESSION_HANDLE counter; /* handles are never used again in a process */

void ferro_sessions_prepare(void)
{
    int i;

    for (i = 0; i < SHARDS; i++)
        ferro_mutex_renew(&shards[i].mutex);
}

static shard *shard_of(CK_SESSION_HANDLE handle) { return &shards[handle % SHARDS]; }

static size_t bucket_of(const shard *part, CK_SESSION_HANDLE handle) { return (handle / SHARDS) & (part->size - 1); }

/* With the shard's lock. */
static void put_fact(fact *known, CK_SESSION_HANDLE handle, ferro_slot *slot, CK_FLAGS flags)
{
    unsigned long long sequence = atomic_load_explicit(&known->sequence, memory_order_relaxed);

    atomic_store_explicit(&known->sequence, sequence + 1, memory_order_relaxed);
    /* Who reads one of these sees the odd number then. */
    atomic_store_explicit(&known->handle, handle, memory_order_release);
    atomic_store_explicit(&known->slot, slot, memory_order_release);
    atomic_store_explicit(&known->flags, flags, memory_order_release);
    atomic_store_explicit(&known->sequence, sequence + 2, memory_order_release);
}

/* Returns 0 when this session is not the one that is known. */
static int read_fact(fact *known, CK_SESSION_HANDLE handle, ferro_slot **slot, CK_FLAGS *flags)
{
    unsigned long long sequence = atomic_load_explicit(&known->sequence, memory_order_acquire);

    if (handle == 0 || atomic_load_explicit(&known->handle, memory_order_acquire) != handle)
        return 0;
    *slot = atomic_load_explicit(&known->slot, memory_order_acquire);
    *flags = atomic_load_explicit(&known->flags, memory_order_acquire);
    return (sequence & 1) == 0 && atomic_load_explicit(&known->sequence, memory_order_relaxed) == sequence;
}

static int grow(shard *part)
{
    size_t size = part->size ? part->size * 2 : 8, old;
    ferro_session **buckets = calloc(size, sizeof *buckets);
    ferro_session *session, *next;
    shard bigger;

    if (buckets == NULL)
        return part->size != 0; /* a longer chain is no failure */
    bigger.size = size;
    for (old = 0; old < part->size; old++)
        for (session = part->buckets[old]; session != NULL; session = next) {
            size_t at = bucket_of(&bigger, session->handle);
            next = session->next;
            session->next = buckets[at];
            buckets[at] = session;
        }
    free(part->buckets);
    part->buckets = buckets;
    part->size = size;
    return 1;
}

static ferro_session **find(shard *part, CK_SESSION_HANDLE handle)
{
    ferro_session **link;

    if (part->size == 0)
        return NULL;
    for (link = &part->buckets[bucket_of(part, handle)]; *link != NULL; link = &(*link)->next)
        if ((*link)->handle == handle)
            return link;
    return NULL;
}

/* 0 when all have been given out. */
static CK_SESSION_HANDLE next_handle(void)
{
    CK_SESSION_HANDLE last = atomic_load_explicit(&counter, memory_order_relaxed);

    do {
        if (last == CK_UNAVAILABLE_INFORMATION - 1)
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&counter, &last, last + 1, memory_order_relaxed, memory_order_relaxed));
    return last + 1;
}

CK_RV ferro_session_open(CK_SLOT_ID slot, CK_FLAGS flags, CK_SESSION_HANDLE *handle)
{
    ferro_session *session = calloc(1, sizeof *session);
    int read_write = (flags & CKF_RW_SESSION) != 0;
    shard *part;
    CK_RV rv;

    if (session == NULL)
        return CKR_HOST_MEMORY;
    if ((rv = ferro_slot_count_in(slot, read_write, &session->slot)) != CKR_OK) {
        free(session);
        return rv;
    }
    session->token = atomic_load(&session->slot->tokens);
    session->flags = flags & (CKF_RW_SESSION | CKF_SERIAL_SESSION | CKF_ASYNC_SESSION);
    session->refs = 1;
    session->handle = next_handle();
    if (session->handle == 0) {
        rv = CKR_SESSION_COUNT;
    } else {
        part = shard_of(session->handle);
        ferro_lock(&part->mutex);
        if (part->count < part->size || grow(part)) {
            size_t at = bucket_of(part, session->handle);
            session->next = part->buckets[at];
            part->buckets[at] = session;
            part->count += 1;
            *handle = session->handle;
        } else {
            rv = CKR_HOST_MEMORY;
        }
        ferro_unlock(&part->mutex);
    }
    if (rv != CKR_OK) {
        ferro_slot_count_out(session->slot, read_write);
        free(session);
    }
    return rv;
}

CK_RV ferro_session_take(CK_SESSION_HANDLE handle, int alone, CK_FLAGS running, ferro_session **taken)
{
    shard *part = shard_of(handle);
    CK_RV rv = CKR_SESSION_HANDLE_INVALID;
    ferro_session **link;

    ferro_lock(&part->mutex);
    if ((link = find(part, handle)) != NULL) {
        if (alone && (atomic_load_explicit(&(*link)->state, memory_order_acquire) & BUSY) != 0) {
            rv = CKR_OPERATION_ACTIVE;
        } else {
            if (alone) {
                (*link)->running = running;
                (*link)->cancelled = 0;
                atomic_store_explicit(&(*link)->state, BUSY, memory_order_relaxed);
            } else {
                (*link)->refs += 1;
            }
            *taken = *link;
            rv = CKR_OK;
        }
    }
    ferro_unlock(&part->mutex);
    return rv;
}

CK_RV ferro_session_fate(ferro_session *session, int alone)
{
    shard *part = shard_of(session->handle);
    CK_RV rv = CKR_OK;

    ferro_lock(&part->mutex);
    if (session->closed)
        rv = session->closed == FERRO_REMOVED ? CKR_DEVICE_REMOVED : CKR_SESSION_CLOSED;
    else if (alone && (session->cancelled & session->running) != 0)
        rv = CKR_FUNCTION_CANCELED;
    ferro_unlock(&part->mutex);
    return rv;
}

/* Whether an operation that has begun has lost its right: private, and the login is another; or the object is gone. */
static int lost(const ferro_session *session, const ferro_decision *decision)
{
    ferro_slot_copy slot;
    ferro_target target;

    if (decision->handle == 0)
        return 0;
    if (decision->is_private) {
        ferro_slot_read(session->slot, &slot);
        if (slot.epoch != decision->epoch)
            return 1;
    }
    return !ferro_handle_find(decision->handle, &target);
}

/* Whether a memo's decision stands, whatever moved the stamp. */
static int stands(ferro_memo *memo)
{
    ferro_decision *one = &memo->decision, found;
    unsigned long long stamp;
    int same;

    if (!ferro_decisions_find(one->slot, one->handle, one->mechanism, one->function, &found, &stamp))
        return 0;
    same = found.key == one->key;
    if (same)
        memo->stamp = stamp;
    ferro_decision_release(&found);
    return same;
}

/* Look through the memos of a session that no call has alone but the caller's, if the slot's stamp has moved. What has
 * to go is put into `stale`, for the time after the lock. */
static int look_through(ferro_session *session, ferro_memo stale[FERRO_OPERATIONS])
{
    unsigned long long stamp = ferro_slot_stamp(session->slot);
    int i, count = 0;

    if (session->seen == stamp)
        return 0;
    session->seen = stamp;
    for (i = 0; i < FERRO_OPERATIONS; i++) {
        ferro_memo *memo = session->memos[i];
        if (memo == NULL || memo->decision.kernel == NULL || memo->stamp == stamp)
            continue;
        if (session->operations[i].kind == FERRO_KERNEL) {
            if (!lost(session, &memo->decision))
                continue;
            ferro_operation_clear(&session->operations[i]);
        } else if (stands(memo)) {
            continue;
        }
        stale[count++] = *memo;
        memset(memo, 0, sizeof *memo);
    }
    return count;
}

static void give_back(ferro_memo *stale, int count)
{
    while (count-- > 0)
        ferro_memo_clear(&stale[count]);
}

/* With the shard's lock, by the call that has the session alone: it ends that. */
static int leave_alone(ferro_session *session, ferro_memo stale[FERRO_OPERATIONS])
{
    int count = look_through(session, stale);

    atomic_store_explicit(&session->state, session->closed ? CLOSED : 0, memory_order_release);
    return count;
}

int ferro_session_leave(ferro_session *session, int alone)
{
    shard *part = shard_of(session->handle);
    ferro_memo stale[FERRO_OPERATIONS];
    int last, count = 0;

    ferro_lock(&part->mutex);
    if (alone)
        count = leave_alone(session, stale);
    else
        session->refs -= 1;
    last = session->refs == 0 && (atomic_load_explicit(&session->state, memory_order_acquire) & BUSY) == 0;
    ferro_unlock(&part->mutex);
    give_back(stale, count);
    return last;
}

/* Leave a session that the call has alone, if nothing has happened to it and its memos are as good as they were. After
 * that it may be gone at once. */
static int leave_quickly(ferro_session *session, int quick)
{
    unsigned long long counted = atomic_load_explicit(&session->quick, memory_order_relaxed);
    unsigned busy = BUSY;

    if (session->seen != ferro_slot_stamp(session->slot))
        return 0;
    if (quick)
        atomic_store_explicit(&session->quick, counted + 1, memory_order_relaxed);
    if (atomic_compare_exchange_strong_explicit(&session->state, &busy, 0, memory_order_release, memory_order_relaxed))
        return 1;
    atomic_store_explicit(&session->quick, counted, memory_order_relaxed);
    return 0;
}

int ferro_session_leave_well(ferro_session *session, int alone, int quick)
{
    shard *part = shard_of(session->handle);
    ferro_memo stale[FERRO_OPERATIONS];
    int well, count = 0;

    if (alone && leave_quickly(session, quick))
        return 1;
    ferro_lock(&part->mutex);
    well = !session->closed && !(alone && (session->cancelled & session->running) != 0);
    if (well) {
        if (alone)
            count = leave_alone(session, stale);
        else
            session->refs -= 1; /* never the last: the table has one */
        part->quick += quick != 0;
    }
    ferro_unlock(&part->mutex);
    give_back(stale, count);
    return well;
}

static unsigned long long quick_of(const ferro_session *session)
{
    return atomic_load_explicit(&session->quick, memory_order_relaxed);
}

unsigned long long ferro_sessions_quick(void)
{
    unsigned long long sum = 0;
    const ferro_session *session;
    size_t at;
    int i;

    for (i = 0; i < SHARDS; i++) {
        ferro_lock(&shards[i].mutex);
        sum += shards[i].quick;
        for (at = 0; shards[i].count != 0 && at < shards[i].size; at++)
            for (session = shards[i].buckets[at]; session != NULL; session = session->next)
                sum += quick_of(session);
        ferro_unlock(&shards[i].mutex);
    }
    return sum;
}

ferro_memo *ferro_session_memo(ferro_session *session, int operation, CK_OBJECT_HANDLE handle,
                               CK_MECHANISM_TYPE mechanism)
{
    ferro_memo *memo = session->memos[operation];
    unsigned long long stamp;
    ferro_decision found;

    if (memo != NULL && memo->decision.handle == handle && memo->decision.mechanism == mechanism
        && ferro_decision_good(&memo->decision, memo->stamp))
        return memo;
    if (!ferro_decisions_find(session->slot, handle, mechanism, ferro_operation_flag(operation), &found, &stamp))
        return NULL;
    if (memo == NULL && (memo = session->memos[operation] = calloc(1, sizeof *memo)) == NULL) {
        ferro_decision_release(&found);
        return NULL;
    }
    if (memo->decision.key != found.key || memo->decision.mechanism != mechanism || found.key == NULL)
        ferro_memo_clear(memo); /* the contexts go back to their key, where those of the other key are found */
    else
        ferro_decision_release(&memo->decision); /* the same key: the contexts stay */
    memo->decision = found;
    memo->stamp = stamp;
    return memo;
}

/* With the shard's lock: whether no call has the session alone. One that has looks the memos through when it leaves. */
static int is_free(ferro_session *session)
{
    unsigned state = atomic_load_explicit(&session->state, memory_order_acquire);

    while ((state & BUSY) != 0)
        if (atomic_compare_exchange_weak_explicit(&session->state, &state, state | LOOK, memory_order_acq_rel,
                                                  memory_order_acquire))
            return 0;
    return 1;
}

/* One session of the slot whose memos have something stale, looked through. Returns how much, -1 when there is none. */
static int look_through_one(shard *part, const ferro_slot *slot, ferro_memo stale[FERRO_OPERATIONS])
{
    ferro_session *session;
    size_t at;
    int count;

    for (at = 0; part->count != 0 && at < part->size; at++)
        for (session = part->buckets[at]; session != NULL; session = session->next)
            if (session->slot == slot && is_free(session) && (count = look_through(session, stale)) != 0)
                return count;
    return -1;
}

void ferro_sessions_look_through(ferro_slot *slot)
{
    ferro_memo stale[FERRO_OPERATIONS];
    int i, count;

    for (i = 0; i < SHARDS; i++)
        do {
            ferro_lock(&shards[i].mutex);
            count = look_through_one(&shards[i], slot, stale);
            ferro_unlock(&shards[i].mutex);
            give_back(stale, count);
        } while (count >= 0);
}

void ferro_sessions_forget_handle(ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    int kept;

    ferro_slot_moved(slot);
    kept = ferro_decisions_forget(handle);
    ferro_recipes_forget_base(handle);
    ferro_snapshots_forget(handle);
    ferro_slot_moved(slot);
    if (kept)
        ferro_sessions_look_through(slot);
}

unsigned long long ferro_sessions_forget_slot(ferro_slot *slot)
{
    unsigned long long ended;

    ferro_slot_moved(slot);
    ferro_decisions_forget_slot(slot);
    ferro_recipes_forget_slot(slot);
    ended = ferro_drafts_forget_private(slot);
    ferro_snapshots_forget_slot(slot);
    ferro_finds_forget_slot(slot);
    ferro_slot_moved(slot);
    ferro_sessions_look_through(slot);
    return ended;
}

/* With the shard's lock. */
static ferro_session *unlink_session(shard *part, ferro_session **link, int closed)
{
    ferro_session *session = *link;

    *link = session->next;
    session->next = NULL;
    session->closed = closed;
    atomic_fetch_or_explicit(&session->state, CLOSED, memory_order_acq_rel);
    part->quick += quick_of(session);
    if (atomic_load_explicit(&facts[part - shards].handle, memory_order_relaxed) == session->handle)
        put_fact(&facts[part - shards], 0, NULL, 0);
    part->count -= 1;
    return session;
}

CK_RV ferro_session_detach(CK_SESSION_HANDLE handle, ferro_session **detached, int *last)
{
    shard *part = shard_of(handle);
    ferro_session **link, *session = NULL;

    ferro_lock(&part->mutex);
    if ((link = find(part, handle)) != NULL)
        session = unlink_session(part, link, 1);
    ferro_unlock(&part->mutex);
    if (session == NULL)
        return CKR_SESSION_HANDLE_INVALID;
    *last = ferro_slot_count_out(session->slot, (session->flags & CKF_RW_SESSION) != 0);
    *detached = session;
    return CKR_OK;
}

/* With the shard's lock: whether a session is one of those that are looked for. */
static int meant(const ferro_session *session, ferro_slot *slot, int closed)
{
    if (closed == FERRO_REMOVED)
        return session->slot == slot && session->token != atomic_load(&slot->tokens);
    return slot == NULL || session->slot == slot;
}

static ferro_session *detach_one(ferro_slot *slot, int *last, int closed)
{
    ferro_session *session = NULL;
    int i;

    for (i = 0; i < SHARDS && session == NULL; i++) {
        shard *part = &shards[i];
        size_t at;
        ferro_lock(&part->mutex);
        for (at = 0; part->count != 0 && at < part->size && session == NULL; at++) {
            ferro_session **link = &part->buckets[at];
            while (*link != NULL && !meant(*link, slot, closed))
                link = &(*link)->next;
            if (*link != NULL)
                session = unlink_session(part, link, closed);
        }
        ferro_unlock(&part->mutex);
    }
    if (session != NULL && ferro_slot_count_out(session->slot, (session->flags & CKF_RW_SESSION) != 0))
        *last = 1;
    return session;
}

ferro_session *ferro_session_detach_any(ferro_slot *slot, int *last) { return detach_one(slot, last, 1); }

ferro_session *ferro_session_detach_removed(ferro_slot *slot)
{
    int last; /* what a new session's login is about is not these sessions' to end */

    return detach_one(slot, &last, FERRO_REMOVED);
}

int ferro_session_cancel(ferro_session *session, CK_FLAGS flags)
{
    shard *part = shard_of(session->handle);
    unsigned state;
    int told = 0;

    ferro_lock(&part->mutex);
    state = atomic_load_explicit(&session->state, memory_order_acquire);
    if ((session->running & flags) != 0) {
        session->cancelled |= flags; /* the next call begins with none */
        while (!told && (state & BUSY) != 0)
            told = atomic_compare_exchange_weak_explicit(&session->state, &state, state | CANCELLED, memory_order_acq_rel,
                                                         memory_order_acquire);
    }
    ferro_unlock(&part->mutex);
    return told;
}

static CK_STATE state_of(const ferro_slot *slot, CK_FLAGS flags)
{
    int read_write = (flags & CKF_RW_SESSION) != 0;
    int login = atomic_load_explicit(&slot->login, memory_order_acquire);

    if (login == FERRO_SO)
        return CKS_RW_SO_FUNCTIONS;
    if (login == FERRO_USER)
        return read_write ? CKS_RW_USER_FUNCTIONS : CKS_RO_USER_FUNCTIONS;
    return read_write ? CKS_RW_PUBLIC_SESSION : CKS_RO_PUBLIC_SESSION;
}

CK_STATE ferro_session_state(const ferro_session *session) { return state_of(session->slot, session->flags); }

/* Look a session up, and let the next one who asks find it without the lock. */
static int look_up_fact(CK_SESSION_HANDLE handle, ferro_slot **slot, CK_FLAGS *flags)
{
    shard *part = shard_of(handle);
    ferro_session **link;

    ferro_lock(&part->mutex);
    if ((link = find(part, handle)) != NULL) {
        *slot = (*link)->slot;
        *flags = (*link)->flags;
        put_fact(&facts[part - shards], handle, *slot, *flags);
    }
    ferro_unlock(&part->mutex);
    return link != NULL;
}

CK_RV ferro_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    ferro_slot *slot;
    CK_FLAGS flags;

    if (!read_fact(&facts[handle % SHARDS], handle, &slot, &flags) && !look_up_fact(handle, &slot, &flags))
        return CKR_SESSION_HANDLE_INVALID;
    if (info == NULL)
        return CKR_ARGUMENTS_BAD;
    info->slotID = slot->id;
    info->state = state_of(slot, flags);
    info->flags = flags;
    info->ulDeviceError = 0;
    return CKR_OK;
}

void ferro_operation_clear(ferro_operation *operation)
{
    if (operation->kind == FERRO_FOUND)
        free(operation->object);
    if (operation->held != NULL || operation->input != NULL || operation->signature != NULL) {
        ferro_wipe_free(operation->held, operation->held_length);
        free(operation->input);
        free(operation->signature);
    }
    memset(operation, 0, sizeof *operation);
}

void ferro_operation_end(ferro_operation *operation)
{
    ferro_memo *memo = operation->object;

    if (operation->kind == FERRO_KERNEL && memo->op != NULL)
        memo->decision.kernel->op_reset(memo->op);
    ferro_operation_clear(operation);
}

void ferro_session_free(ferro_session *session)
{
    int i;

    for (i = 0; i < FERRO_OPERATIONS; i++) {
        if (session->operations[i].kind != FERRO_IDLE)
            ferro_operation_clear(&session->operations[i]);
        if (session->memos[i] == NULL)
            continue;
        ferro_memo_clear(session->memos[i]);
        free(session->memos[i]);
    }
    free(session);
}

CK_FLAGS ferro_operation_flag(int operation)
{
    static const CK_FLAGS flags[FERRO_OPERATIONS] = {
        CKF_FIND_OBJECTS, CKF_ENCRYPT,      CKF_DECRYPT,         CKF_DIGEST,
        CKF_SIGN,         CKF_SIGN_RECOVER, CKF_VERIFY,          CKF_VERIFY_RECOVER,
        CKF_MESSAGE_ENCRYPT,                CKF_MESSAGE_DECRYPT,
        CKF_MESSAGE_SIGN,                   CKF_MESSAGE_VERIFY,
    };
    return flags[operation];
}

void ferro_sessions_fork_child(void)
{
    int i;

    for (i = 0; i < SHARDS; i++) {
        ferro_mutex_renew(&shards[i].mutex);
        shards[i].buckets = NULL;
        shards[i].size = shards[i].count = 0;
        atomic_store(&facts[i].sequence, 0); /* it may have been odd */
        put_fact(&facts[i], 0, NULL, 0);
    }
}
