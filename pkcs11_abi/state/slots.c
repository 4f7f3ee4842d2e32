#include "slots.h"
#include "decisions.h"
#include "lock.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 1000 }; /* between two looks at the store's files */

static ferro_mutex mutex = FERRO_MUTEX_INIT;
static ferro_condition changed = FERRO_CONDITION_INIT; /* somebody left a slot, or interrupt */
static ferro_slot *first;
static CK_ULONG listed;
static int interrupted;
static atomic_int removals; /* slots whose token was removed */

static ferro_slot *find(CK_SLOT_ID id)
{
    ferro_slot *slot = first;

    while (slot != NULL && slot->id != id)
        slot = slot->next;
    return slot;
}

/* On cache lines of its own. */
static ferro_slot *make(void)
{
    char *room = calloc(1, sizeof(ferro_slot) + FERRO_CACHE_LINES);

    return room == NULL ? NULL : (ferro_slot *)(void *)(room + FERRO_CACHE_LINES - (size_t)room % FERRO_CACHE_LINES);
}

static ferro_slot *obtain(CK_SLOT_ID id)
{
    ferro_slot *slot = find(id);

    if (slot == NULL && (slot = make()) != NULL) {
        slot->id = id;
        slot->searches = 1; /* after none was the first draft made */
        slot->login = FERRO_NOBODY;
        slot->epoch = 1;
        slot->next = first;
        first = slot;
    }
    return slot;
}

/* With the lock. */
static void move(ferro_slot *slot) { atomic_fetch_add_explicit(&slot->stamp, 1, memory_order_acq_rel); }

static void next_epoch(ferro_slot *slot)
{
    atomic_fetch_add_explicit(&slot->epoch, 1, memory_order_acq_rel);
    move(slot);
}

/* With the lock, which guards all that is copied. */
static void copy_out(ferro_slot_copy *copy, const ferro_slot *slot)
{
    memcpy(copy, slot, offsetof(ferro_slot, births));
}

void ferro_slot_moved(ferro_slot *slot)
{
    ferro_lock(&mutex);
    move(slot);
    ferro_unlock(&mutex);
}

void ferro_slot_born(ferro_slot *slot) { atomic_fetch_add_explicit(&slot->births, 1, memory_order_acq_rel); }

/* A search reads the births, counts itself in and looks into the table then, under the locks with which a draft was put
 * there. Either it sees the draft, or the one who made the draft sees the search's number here. */
void ferro_slot_draft_born(ferro_slot *slot)
{
    unsigned long long search = atomic_load(&slot->searches);

    if (atomic_load(&slot->drafted) == search)
        return;
    ferro_slot_born(slot);
    atomic_store(&slot->drafted, search);
}

void ferro_slot_look_for_drafts(ferro_slot *slot) { atomic_fetch_add(&slot->searches, 1); }

void ferro_slot_look(ferro_slot *slot)
{
    atomic_store_explicit(&slot->looked, ferro_coarse_time(), memory_order_release);
}

int ferro_slot_looked(ferro_slot *slot)
{
    unsigned long long looked = atomic_load_explicit(&slot->looked, memory_order_acquire);

    return looked != 0 && ferro_coarse_time() < looked + LOOK_MS;
}

void ferro_slot_was_bare(ferro_slot *slot, unsigned long long births) { atomic_store(&slot->bare, births + 1); }

void ferro_slot_finds_with(ferro_slot *slot, ferro_finder *finder)
{
    atomic_store_explicit(&slot->finder, finder, memory_order_release);
}

void ferro_slot_behind(ferro_slot *slot, const ferro_kernel *kernel, const void *words)
{
    ferro_lock(&mutex);
    if (atomic_load(&slot->kernel) != kernel || (const void *)atomic_load(&slot->words) != words) {
        atomic_store(&slot->kernel, kernel);
        atomic_store(&slot->words, (const _Atomic unsigned long long *)words);
        move(slot);
    }
    ferro_unlock(&mutex);
}

CK_RV ferro_slots_update(const ferro_slot_view *views, CK_ULONG count, int tell)
{
    CK_RV rv = CKR_OK;
    ferro_slot *slot;
    CK_ULONG i;

    ferro_lock(&mutex);
    for (slot = first; slot != NULL; slot = slot->next)
        slot->order = -1;
    for (i = 0; i < count; i++) {
        const ferro_slot_view *view = &views[i];
        if ((slot = obtain(view->id)) == NULL) {
            rv = CKR_HOST_MEMORY;
            break;
        }
        if (tell && (!slot->listed || slot->present != view->present || slot->initialized != view->initialized))
            slot->event = 1;
        slot->order = (int)i;
        slot->listed = 1;
        slot->flags = view->flags;
        slot->is_inline = view->is_inline;
        slot->present = view->present;
        slot->initialized = view->initialized;
        slot->write_protected = view->write_protected;
        slot->max_sessions = view->max_sessions;
        memcpy(slot->description, view->description, sizeof slot->description);
        memcpy(slot->manufacturer, view->manufacturer, sizeof slot->manufacturer);
    }
    if (rv == CKR_OK) {
        listed = count;
        for (slot = first; slot != NULL; slot = slot->next)
            if (slot->order < 0 && slot->listed) {
                slot->listed = slot->present = slot->initialized = 0;
                move(slot);
                slot->event = tell;
            }
    }
    ferro_unlock(&mutex);
    return rv;
}

CK_RV ferro_slots_list(int with_token, CK_SLOT_ID *ids, CK_ULONG *count)
{
    CK_RV rv = CKR_OK;
    CK_ULONG i, n = 0;
    ferro_slot *slot;

    ferro_lock(&mutex);
    for (slot = first; slot != NULL; slot = slot->next)
        n += slot->listed && (!with_token || slot->present);
    if (ids != NULL && *count < n) {
        rv = CKR_BUFFER_TOO_SMALL;
    } else if (ids != NULL) {
        CK_ULONG at = 0;
        for (i = 0; i < listed; i++)
            for (slot = first; slot != NULL; slot = slot->next)
                if (slot->listed && slot->order == (int)i && (!with_token || slot->present))
                    ids[at++] = slot->id;
    }
    *count = n;
    ferro_unlock(&mutex);
    return rv;
}

void ferro_slot_removed(ferro_slot *slot)
{
    ferro_lock(&mutex);
    atomic_fetch_add(&slot->tokens, 1);
    slot->login = FERRO_NOBODY;
    slot->logout_pending = 0;
    next_epoch(slot);
    if (slot->sessions != 0 && !slot->removed) {
        slot->removed = 1;
        atomic_fetch_add(&removals, 1);
    }
    ferro_unlock(&mutex);
}

ferro_slot *ferro_slots_take_removed(void)
{
    ferro_slot *slot = NULL;

    if (atomic_load_explicit(&removals, memory_order_acquire) == 0)
        return NULL;
    ferro_lock(&mutex);
    for (slot = first; slot != NULL && !slot->removed; slot = slot->next)
        ;
    if (slot != NULL) {
        slot->removed = 0;
        atomic_fetch_sub(&removals, 1);
    }
    ferro_unlock(&mutex);
    return slot;
}

CK_RV ferro_slots_event(CK_SLOT_ID *id)
{
    CK_RV rv = CKR_NO_EVENT;
    ferro_slot *slot;

    ferro_lock(&mutex);
    for (slot = first; slot != NULL && rv != CKR_OK; slot = slot->next)
        if (slot->event) {
            slot->event = 0;
            *id = slot->id;
            rv = CKR_OK;
        }
    ferro_unlock(&mutex);
    return rv;
}

ferro_slot *ferro_slot_find(CK_SLOT_ID id, ferro_slot_copy *copy)
{
    ferro_slot *slot;

    ferro_lock(&mutex);
    slot = find(id);
    if (slot != NULL && !slot->listed)
        slot = NULL;
    if (slot != NULL && copy != NULL)
        copy_out(copy, slot);
    ferro_unlock(&mutex);
    return slot;
}

void ferro_slot_read(ferro_slot *slot, ferro_slot_copy *copy)
{
    ferro_lock(&mutex);
    copy_out(copy, slot);
    ferro_unlock(&mutex);
}

CK_RV ferro_slot_count_in(CK_SLOT_ID id, int read_write, ferro_slot **found)
{
    CK_RV rv = CKR_OK;
    ferro_slot *slot;

    ferro_lock(&mutex);
    slot = find(id);
    if (slot == NULL || !slot->listed)
        rv = CKR_SLOT_ID_INVALID;
    else if (!slot->present)
        rv = CKR_TOKEN_NOT_PRESENT;
    else if (!slot->initialized || slot->initializing)
        rv = CKR_TOKEN_NOT_RECOGNIZED;
    else if (read_write && slot->write_protected)
        rv = CKR_TOKEN_WRITE_PROTECTED;
    else if (slot->max_sessions != CK_EFFECTIVELY_INFINITE && slot->sessions >= slot->max_sessions)
        rv = CKR_SESSION_COUNT;
    else if (!read_write && (slot->login == FERRO_SO || slot->so_pending))
        rv = CKR_SESSION_READ_WRITE_SO_EXISTS;
    else {
        slot->sessions += 1;
        slot->rw_sessions += read_write != 0;
        *found = slot;
    }
    ferro_unlock(&mutex);
    return rv;
}

int ferro_slot_count_out(ferro_slot *slot, int read_write)
{
    int last = 0;

    ferro_lock(&mutex);
    slot->sessions -= 1;
    slot->rw_sessions -= read_write != 0;
    if (slot->sessions == 0 && slot->login != FERRO_NOBODY) {
        slot->login = FERRO_NOBODY;
        next_epoch(slot);
        slot->logout_pending = 1;
        last = 1;
    }
    ferro_unlock(&mutex);
    return last;
}

int ferro_slot_try_enter(ferro_slot *slot)
{
    int entered;

    ferro_lock(&mutex);
    entered = !slot->exclusive;
    slot->exclusive = 1;
    ferro_unlock(&mutex);
    return entered;
}

void ferro_slot_await_free(ferro_slot *slot)
{
    ferro_lock(&mutex);
    if (slot->exclusive)
        ferro_wait(&changed, &mutex, 1000);
    ferro_unlock(&mutex);
}

void ferro_slot_leave(ferro_slot *slot)
{
    ferro_lock(&mutex);
    slot->exclusive = 0;
    ferro_wake_all(&changed);
    ferro_unlock(&mutex);
}

CK_RV ferro_slot_begin_login(ferro_slot *slot, int user)
{
    CK_RV rv = CKR_OK;

    ferro_lock(&mutex);
    if (slot->login == user)
        rv = CKR_USER_ALREADY_LOGGED_IN;
    else if (slot->login != FERRO_NOBODY)
        rv = CKR_USER_ANOTHER_ALREADY_LOGGED_IN;
    else if (user == FERRO_SO && slot->sessions != slot->rw_sessions)
        rv = CKR_SESSION_READ_ONLY_EXISTS;
    else
        slot->so_pending = user == FERRO_SO;
    ferro_unlock(&mutex);
    return rv;
}

void ferro_slot_end_login(ferro_slot *slot, int user, int success)
{
    ferro_lock(&mutex);
    slot->so_pending = 0;
    if (success && slot->sessions == 0) {
        slot->logout_pending = 1; /* the last session was closed while the PIN was checked */
    } else if (success) {
        slot->login = user;
        next_epoch(slot);
    }
    ferro_unlock(&mutex);
}

void ferro_slot_logged_out(ferro_slot *slot)
{
    ferro_lock(&mutex);
    slot->login = FERRO_NOBODY;
    slot->logout_pending = 0;
    next_epoch(slot);
    ferro_unlock(&mutex);
}

int ferro_slot_take_pending_logout(ferro_slot *slot)
{
    int pending;

    ferro_lock(&mutex);
    pending = slot->logout_pending;
    slot->logout_pending = 0;
    ferro_unlock(&mutex);
    return pending;
}

CK_RV ferro_slot_begin_init(ferro_slot *slot)
{
    CK_RV rv = CKR_OK;

    ferro_lock(&mutex);
    if (slot->sessions != 0)
        rv = CKR_SESSION_EXISTS;
    else
        slot->initializing = 1;
    ferro_unlock(&mutex);
    return rv;
}

void ferro_slot_end_init(ferro_slot *slot)
{
    ferro_lock(&mutex);
    slot->initializing = 0;
    next_epoch(slot);
    ferro_unlock(&mutex);
}

int ferro_slots_wait(unsigned milliseconds)
{
    int result;

    ferro_lock(&mutex);
    if (!interrupted)
        ferro_wait(&changed, &mutex, milliseconds);
    result = interrupted;
    ferro_unlock(&mutex);
    return result;
}

void ferro_slots_interrupt(void)
{
    ferro_lock(&mutex);
    interrupted = 1;
    ferro_wake_all(&changed);
    ferro_unlock(&mutex);
}

void ferro_slots_resume(void)
{
    ferro_lock(&mutex);
    interrupted = 0;
    ferro_unlock(&mutex);
}

void ferro_slot_recorded(ferro_slot *slot, const ferro_subject *subject)
{
    ferro_lock(&mutex);
    memcpy(slot->chain, subject->chain, sizeof slot->chain);
    atomic_store(&slot->ring, subject->ring);
    ferro_unlock(&mutex);
}

int ferro_slot_subject(ferro_slot *slot, ferro_subject *subject)
{
    memset(subject, 0, sizeof *subject);
    subject->ring = atomic_load_explicit(&slot->ring, memory_order_acquire);
    if (subject->ring == NULL)
        return 0;
    memcpy(subject->chain, slot->chain, sizeof subject->chain);
    return 1;
}

void ferro_slots_reset(int forked)
{
    ferro_slot *slot;

    if (forked) {
        ferro_mutex_renew(&mutex);
        ferro_condition_renew(&changed);
        interrupted = 0;
    }
    ferro_lock(&mutex);
    listed = 0;
    atomic_store(&removals, 0);
    for (slot = first; slot != NULL; slot = slot->next) {
        slot->listed = slot->present = slot->initialized = slot->event = slot->removed = 0;
        slot->exclusive = slot->initializing = slot->so_pending = slot->logout_pending = 0;
        slot->login = FERRO_NOBODY;
        next_epoch(slot);
        slot->sessions = slot->rw_sessions = 0;
        atomic_store(&slot->kernel, NULL);
        atomic_store(&slot->words, NULL);
        atomic_store(&slot->finder, NULL);
        atomic_store(&slot->looked, 0);
        atomic_store(&slot->bare, 0);
        atomic_store(&slot->ring, NULL);
    }
    ferro_unlock(&mutex);
}
