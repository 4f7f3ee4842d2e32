#include "handles.h"
#include "decisions.h"
#include "lock.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct ferro_handle {
    ferro_target target;
    ferro_session *owner;
    struct ferro_handle *next_by_handle;
    struct ferro_handle *next_by_object;
    struct ferro_handle *previous_owned, *next_owned;
    ferro_draft *draft; /* NULL: the core knows the object */
    int half;           /* of the draft */
    struct ferro_handle *previous_draft, *next_draft;
} entry;

static ferro_mutex mutex = FERRO_MUTEX_INIT;
static entry **by_handle, **by_object;
static size_t size, count; /* `size` is a power of two */
static CK_OBJECT_HANDLE counter;
static entry *drafts, *last_draft; /* all entries that have one, in the order of their handles */
/* Drafts get their identities here; the core's own count down from -1 and never come so far. */
static long long draft_identity = LLONG_MIN;

static size_t handle_bucket(CK_OBJECT_HANDLE handle, size_t buckets) { return (size_t)handle & (buckets - 1); }

static size_t object_bucket(CK_SLOT_ID slot, long long oid, size_t buckets)
{
    unsigned long long mixed = (unsigned long long)oid * 0x9E3779B97F4A7C15ULL ^ (unsigned long long)slot;

    return (size_t)(mixed ^ mixed >> 29) & (buckets - 1);
}

static int grow(void)
{
    size_t wanted = size ? size * 2 : 64, i;
    entry **handles = calloc(wanted, sizeof *handles), **objects = calloc(wanted, sizeof *objects), *one, *next;

    if (handles == NULL || objects == NULL) {
        free(handles);
        free(objects);
        return size != 0; /* longer chains are no failure */
    }
    for (i = 0; i < size; i++)
        for (one = by_handle[i]; one != NULL; one = next) {
            size_t at = handle_bucket(one->target.handle, wanted);
            size_t place = object_bucket(one->target.slot, one->target.oid, wanted);
            next = one->next_by_handle;
            one->next_by_handle = handles[at];
            handles[at] = one;
            one->next_by_object = objects[place];
            objects[place] = one;
        }
    free(by_handle);
    free(by_object);
    by_handle = handles;
    by_object = objects;
    size = wanted;
    return 1;
}

static entry *find_handle(CK_OBJECT_HANDLE handle)
{
    entry *one = size ? by_handle[handle_bucket(handle, size)] : NULL;

    while (one != NULL && one->target.handle != handle)
        one = one->next_by_handle;
    return one;
}

static entry *find_object(CK_SLOT_ID slot, long long oid)
{
    entry *one = size ? by_object[object_bucket(slot, oid, size)] : NULL;

    while (one != NULL && (one->target.oid != oid || one->target.slot != slot))
        one = one->next_by_object;
    return one;
}

/* Take an entry's draft away from it; the caller releases it, without the lock. */
static ferro_draft *take_draft(entry *one)
{
    ferro_draft *draft = one->draft;

    if (draft == NULL)
        return NULL;
    if (one->previous_draft != NULL)
        one->previous_draft->next_draft = one->next_draft;
    else
        drafts = one->next_draft;
    if (one->next_draft != NULL)
        one->next_draft->previous_draft = one->previous_draft;
    else
        last_draft = one->previous_draft;
    one->previous_draft = one->next_draft = NULL;
    one->draft = NULL;
    one->target.is_draft = 0;
    return draft;
}

static void give_draft(entry *one, ferro_draft *draft, int half)
{
    atomic_fetch_add(&draft->references, 1);
    one->draft = draft;
    one->half = half;
    one->target.is_draft = 1;
    one->previous_draft = last_draft;
    if (last_draft != NULL)
        last_draft->next_draft = one;
    else
        drafts = one;
    last_draft = one;
}

/* The entry's own part, without the lock. */
static void bury(ferro_draft *draft)
{
    if (draft != NULL)
        ferro_draft_release(draft);
}

/* With the lock. Returns the draft that it had, for `bury`. */
static ferro_draft *kill_entry(entry *dead)
{
    ferro_draft *draft = take_draft(dead);
    entry **link = &by_handle[handle_bucket(dead->target.handle, size)];

    while (*link != dead)
        link = &(*link)->next_by_handle;
    *link = dead->next_by_handle;
    link = &by_object[object_bucket(dead->target.slot, dead->target.oid, size)];
    while (*link != dead)
        link = &(*link)->next_by_object;
    *link = dead->next_by_object;
    if (dead->owner != NULL) {
        if (dead->previous_owned != NULL)
            dead->previous_owned->next_owned = dead->next_owned;
        else
            dead->owner->owned = dead->next_owned;
        if (dead->next_owned != NULL)
            dead->next_owned->previous_owned = dead->previous_owned;
    }
    count -= 1;
    free(dead);
    return draft;
}

/* Let the handle die with `owner`, unless it has one. */
static void give_to(entry *one, ferro_session *owner)
{
    if (owner == NULL || one->owner != NULL)
        return;
    one->owner = owner;
    one->next_owned = owner->owned;
    if (owner->owned != NULL)
        owner->owned->previous_owned = one;
    owner->owned = one;
}

static entry *make_entry(CK_SLOT_ID slot, long long oid, unsigned long long epoch)
{
    entry *made;
    size_t at;

    if ((count >= size && !grow()) || counter == CK_UNAVAILABLE_INFORMATION - 1)
        return NULL;
    if ((made = calloc(1, sizeof *made)) == NULL)
        return NULL;
    made->target.handle = ++counter;
    made->target.slot = slot;
    made->target.oid = oid;
    made->target.epoch = epoch;
    at = handle_bucket(made->target.handle, size);
    made->next_by_handle = by_handle[at];
    by_handle[at] = made;
    at = object_bucket(slot, oid, size);
    made->next_by_object = by_object[at];
    by_object[at] = made;
    count += 1;
    return made;
}

CK_OBJECT_HANDLE ferro_handle_make(CK_SLOT_ID slot, long long oid, unsigned long long epoch, ferro_session *owner)
{
    CK_OBJECT_HANDLE handle = 0;
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_object(slot, oid)) == NULL)
        one = make_entry(slot, oid, epoch);
    if (one != NULL) {
        give_to(one, owner);
        handle = one->target.handle;
    }
    ferro_unlock(&mutex);
    return handle;
}

int ferro_handle_find(CK_OBJECT_HANDLE handle, ferro_target *target)
{
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_handle(handle)) != NULL)
        *target = one->target;
    ferro_unlock(&mutex);
    return one != NULL;
}

int ferro_handle_of(CK_SLOT_ID slot, long long oid, ferro_target *target)
{
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_object(slot, oid)) != NULL)
        *target = one->target;
    ferro_unlock(&mutex);
    return one != NULL;
}

void ferro_handle_confirm(CK_OBJECT_HANDLE handle)
{
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_handle(handle)) != NULL)
        one->target.epoch = 0;
    ferro_unlock(&mutex);
}

void ferro_handle_kill(ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_handle(handle)) != NULL)
        draft = kill_entry(one);
    ferro_unlock(&mutex);
    bury(draft);
    ferro_sessions_forget_handle(slot, handle);
}

void ferro_handles_kill_owned(ferro_session *owner)
{
    CK_OBJECT_HANDLE handle;
    ferro_draft *draft;
    int known;

    do {
        handle = 0;
        draft = NULL;
        known = 0;
        ferro_lock(&mutex);
        if (owner->owned != NULL) {
            handle = owner->owned->target.handle;
            known = owner->owned->draft == NULL;
            draft = kill_entry(owner->owned);
        }
        ferro_unlock(&mutex);
        bury(draft);
        if (known) /* nothing was ever decided about a draft */
            ferro_sessions_forget_handle(owner->slot, handle);
    } while (handle != 0);
}

/* Kill the handles of a slot, or of all. A draft is buried without the lock, so the search begins anew after each. */
static void kill_where(CK_SLOT_ID slot, int all)
{
    ferro_draft *draft;
    size_t i;

    do {
        draft = NULL;
        ferro_lock(&mutex);
        for (i = 0; i < size && draft == NULL; i++) {
            entry *one = by_handle[i], *next;
            for (; one != NULL && draft == NULL; one = next) {
                next = one->next_by_handle;
                if (all || one->target.slot == slot)
                    draft = kill_entry(one);
            }
        }
        ferro_unlock(&mutex);
        bury(draft);
    } while (draft != NULL);
}

/* Kill the drafts of a slot that `goes` names, a handful each time the lock is taken. */
static void kill_drafts(CK_SLOT_ID slot, int all, int (*goes)(const entry *one))
{
    enum { HANDFUL = 64 };
    ferro_draft *dead[HANDFUL];
    entry *one, *next;
    int found, i;

    do {
        found = 0;
        ferro_lock(&mutex);
        for (one = drafts; one != NULL && found < HANDFUL; one = next) {
            next = one->next_draft;
            if ((all || one->target.slot == slot) && goes(one))
                dead[found++] = kill_entry(one);
        }
        ferro_unlock(&mutex);
        for (i = 0; i < found; i++)
            bury(dead[i]);
    } while (found == HANDFUL);
}

static int any(const entry *one)
{
    (void)one;
    return 1;
}

static int is_of_an_old_login(const entry *one)
{
    const ferro_recipe *recipe = one->draft->recipe;

    return recipe->is_private[one->half] && recipe->epoch != ferro_slot_epoch(recipe->slot);
}

void ferro_handles_kill_slot(CK_SLOT_ID slot)
{
    kill_drafts(slot, 0, any);
    kill_where(slot, 0);
}

void ferro_handles_kill_all(void)
{
    kill_drafts(0, 1, any);
    kill_where(0, 1);
    ferro_lock(&mutex);
    free(by_handle);
    free(by_object);
    by_handle = by_object = NULL;
    size = 0;
    ferro_unlock(&mutex);
}

/* ---- drafts ---- */

void ferro_draft_release(ferro_draft *draft)
{
    if (atomic_fetch_sub(&draft->references, 1) != 1)
        return;
    draft->recipe->kernel->generated_release(draft->made);
    ferro_recipe_release(draft->recipe);
    free(draft);
}

/* With the lock. */
static CK_RV hand_out(ferro_draft *draft, ferro_session *owner, CK_OBJECT_HANDLE *handles[2])
{
    ferro_recipe *recipe = draft->recipe;
    int half;

    for (half = 0; half < recipe->halves; half++) {
        int logged_in = atomic_load_explicit(&recipe->slot->login, memory_order_acquire) != FERRO_NOBODY;
        entry *one = make_entry(recipe->slot->id, ++draft_identity, logged_in ? recipe->epoch : 0);
        if (one == NULL)
            return CKR_HOST_MEMORY; /* the first half goes with its session */
        give_to(one, owner);
        give_draft(one, draft, half);
        *handles[half] = one->target.handle;
    }
    /* Whoever ends the login moves the epoch first and looks for drafts then: one of us sees the other. */
    return recipe->epoch == ferro_slot_epoch(recipe->slot) ? CKR_OK : FERRO_ASK;
}

CK_RV ferro_draft_hand_out(ferro_recipe *recipe, ferro_kernel_generated *made, ferro_session *owner,
                           CK_OBJECT_HANDLE *handles[2])
{
    CK_OBJECT_HANDLE given[2] = {0, 0}, *places[2] = {&given[0], &given[1]};
    ferro_draft *draft = calloc(1, sizeof *draft);
    int half;
    CK_RV rv;

    if (draft == NULL) {
        recipe->kernel->generated_release(made);
        ferro_recipe_release(recipe);
        return CKR_HOST_MEMORY;
    }
    draft->references = 1;
    draft->recipe = recipe;
    draft->made = made;
    ferro_lock(&mutex);
    rv = hand_out(draft, owner, places);
    ferro_unlock(&mutex);
    ferro_slot_born(recipe->slot);
    for (half = 0; half < recipe->halves; half++)
        if (rv == CKR_OK)
            *handles[half] = given[half];
        else if (given[half] != 0)
            ferro_draft_destroy(recipe->slot, given[half]);
    ferro_draft_release(draft);
    return rv;
}

ferro_draft *ferro_draft_find(CK_OBJECT_HANDLE handle, int *half, long long *oid, CK_SESSION_HANDLE *owner)
{
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_handle(handle)) != NULL && (draft = one->draft) != NULL) {
        atomic_fetch_add(&draft->references, 1);
        *half = one->half;
        *oid = one->target.oid;
        *owner = one->owner->handle;
    }
    ferro_unlock(&mutex);
    return draft;
}

CK_OBJECT_HANDLE ferro_handles_last(void)
{
    CK_OBJECT_HANDLE last;

    ferro_lock(&mutex);
    last = counter;
    ferro_unlock(&mutex);
    return last;
}

CK_OBJECT_HANDLE ferro_draft_of_slot(CK_SLOT_ID slot, CK_OBJECT_HANDLE last)
{
    CK_OBJECT_HANDLE handle;
    entry *one;

    ferro_lock(&mutex);
    for (one = drafts; one != NULL && one->target.slot != slot;)
        one = one->next_draft;
    handle = one == NULL || one->target.handle > last ? 0 : one->target.handle;
    ferro_unlock(&mutex);
    return handle;
}

int ferro_draft_settle(CK_OBJECT_HANDLE handle)
{
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_handle(handle)) != NULL)
        draft = take_draft(one);
    ferro_unlock(&mutex);
    bury(draft);
    return one != NULL;
}

int ferro_draft_destroy(ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_handle(handle)) != NULL && one->draft != NULL && one->target.slot == slot->id)
        draft = kill_entry(one);
    ferro_unlock(&mutex);
    bury(draft);
    return draft != NULL;
}

void ferro_drafts_forget_private(ferro_slot *slot) { kill_drafts(slot->id, 0, is_of_an_old_login); }

void ferro_handles_fork_child(void)
{
    ferro_mutex_renew(&mutex);
    by_handle = by_object = NULL;
    drafts = last_draft = NULL;
    size = count = 0;
}
