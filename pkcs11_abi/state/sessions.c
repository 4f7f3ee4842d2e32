#include "sessions.h"
#include "lock.h"
#include "wipe.h"

#define SHARDS 64

typedef struct {
    ferro_mutex mutex;
    ferro_session **buckets;
    size_t size; /* a power of two */
    size_t count;
} shard;

static shard shards[SHARDS];
static ferro_mutex counter_mutex = FERRO_MUTEX_INIT;
static CK_SESSION_HANDLE counter; /* handles are never used again in a process */

void ferro_sessions_prepare(void)
{
    int i;

    for (i = 0; i < SHARDS; i++)
        ferro_mutex_renew(&shards[i].mutex);
}

static shard *shard_of(CK_SESSION_HANDLE handle) { return &shards[handle % SHARDS]; }

static size_t bucket_of(const shard *part, CK_SESSION_HANDLE handle) { return (handle / SHARDS) & (part->size - 1); }

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
    session->flags = flags & (CKF_RW_SESSION | CKF_SERIAL_SESSION);
    session->refs = 1;
    ferro_lock(&counter_mutex);
    session->handle = counter == CK_UNAVAILABLE_INFORMATION - 1 ? 0 : ++counter;
    ferro_unlock(&counter_mutex);
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
        if (alone && (*link)->busy) {
            rv = CKR_OPERATION_ACTIVE;
        } else {
            if (alone) {
                (*link)->busy = 1;
                (*link)->running = running;
                (*link)->cancelled = 0;
            }
            (*link)->refs += 1;
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
        rv = CKR_SESSION_CLOSED;
    else if (alone && (session->cancelled & session->running) != 0)
        rv = CKR_FUNCTION_CANCELED;
    ferro_unlock(&part->mutex);
    return rv;
}

int ferro_session_leave(ferro_session *session, int alone)
{
    shard *part = shard_of(session->handle);
    int last;

    ferro_lock(&part->mutex);
    if (alone)
        session->busy = 0;
    last = --session->refs == 0;
    ferro_unlock(&part->mutex);
    return last;
}

/* With the shard's lock. */
static ferro_session *unlink_session(shard *part, ferro_session **link)
{
    ferro_session *session = *link;

    *link = session->next;
    session->next = NULL;
    session->closed = 1;
    part->count -= 1;
    return session;
}

CK_RV ferro_session_detach(CK_SESSION_HANDLE handle, ferro_session **detached, int *last)
{
    shard *part = shard_of(handle);
    ferro_session **link, *session = NULL;

    ferro_lock(&part->mutex);
    if ((link = find(part, handle)) != NULL)
        session = unlink_session(part, link);
    ferro_unlock(&part->mutex);
    if (session == NULL)
        return CKR_SESSION_HANDLE_INVALID;
    *last = ferro_slot_count_out(session->slot, (session->flags & CKF_RW_SESSION) != 0);
    *detached = session;
    return CKR_OK;
}

ferro_session *ferro_session_detach_any(ferro_slot *slot, int *last)
{
    ferro_session *session = NULL;
    int i;

    for (i = 0; i < SHARDS && session == NULL; i++) {
        shard *part = &shards[i];
        size_t at;
        ferro_lock(&part->mutex);
        for (at = 0; part->count != 0 && at < part->size && session == NULL; at++) {
            ferro_session **link = &part->buckets[at];
            while (*link != NULL && slot != NULL && (*link)->slot != slot)
                link = &(*link)->next;
            if (*link != NULL)
                session = unlink_session(part, link);
        }
        ferro_unlock(&part->mutex);
    }
    if (session != NULL && ferro_slot_count_out(session->slot, (session->flags & CKF_RW_SESSION) != 0))
        *last = 1;
    return session;
}

int ferro_session_cancel(ferro_session *session, CK_FLAGS flags)
{
    shard *part = shard_of(session->handle);
    int running;

    ferro_lock(&part->mutex);
    running = session->busy && (session->running & flags) != 0;
    if (running)
        session->cancelled |= flags;
    ferro_unlock(&part->mutex);
    return running;
}

CK_STATE ferro_session_state(const ferro_session *session)
{
    int read_write = (session->flags & CKF_RW_SESSION) != 0;
    ferro_slot_copy slot;

    ferro_slot_read(session->slot, &slot);
    if (slot.login == FERRO_SO)
        return CKS_RW_SO_FUNCTIONS;
    if (slot.login == FERRO_USER)
        return read_write ? CKS_RW_USER_FUNCTIONS : CKS_RO_USER_FUNCTIONS;
    return read_write ? CKS_RW_PUBLIC_SESSION : CKS_RO_PUBLIC_SESSION;
}

CK_RV ferro_session_info(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    shard *part = shard_of(handle);
    ferro_session **link, copy;

    ferro_lock(&part->mutex);
    if ((link = find(part, handle)) != NULL) {
        copy.slot = (*link)->slot;
        copy.flags = (*link)->flags;
    }
    ferro_unlock(&part->mutex);
    if (link == NULL)
        return CKR_SESSION_HANDLE_INVALID;
    if (info == NULL)
        return CKR_ARGUMENTS_BAD;
    info->slotID = copy.slot->id;
    info->state = ferro_session_state(&copy);
    info->flags = copy.flags;
    info->ulDeviceError = 0;
    return CKR_OK;
}

void ferro_operation_clear(ferro_operation *operation)
{
    ferro_wipe_free(operation->held, operation->held_length);
    free(operation->input);
    free(operation->signature);
    memset(operation, 0, sizeof *operation);
}

void ferro_session_free(ferro_session *session)
{
    int i;

    for (i = 0; i < FERRO_OPERATIONS; i++)
        ferro_operation_clear(&session->operations[i]);
    free(session);
}

CK_FLAGS ferro_operation_flag(int operation)
{
    static const CK_FLAGS flags[FERRO_OPERATIONS] = {
        CKF_FIND_OBJECTS, CKF_ENCRYPT,      CKF_DECRYPT, CKF_DIGEST,
        CKF_SIGN,         CKF_SIGN_RECOVER, CKF_VERIFY,  CKF_VERIFY_RECOVER,
    };
    return flags[operation];
}

void ferro_sessions_fork_child(void)
{
    int i;

    ferro_mutex_renew(&counter_mutex);
    for (i = 0; i < SHARDS; i++) {
        ferro_mutex_renew(&shards[i].mutex);
        shards[i].buckets = NULL;
        shards[i].size = shards[i].count = 0;
    }
}
