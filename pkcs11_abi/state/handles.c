#include "handles.h"
#include "decisions.h"
#include "lanes.h"
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
    int claimed;        /* by whoever is about to destroy the draft */
    struct ferro_handle *previous_draft, *next_draft;
} entry;

/* The table is in parts with a lock each. The part of an object is told by its identity, that of a handle by its number;
 * the handles of a part's objects are the part's too. Drafts get identities that lead to the part of their maker's lane. */
enum { PARTS = FERRO_HANDLE_PARTS };

static const CK_OBJECT_HANDLE MOST = CK_UNAVAILABLE_INFORMATION / PARTS - 1; /* handles of a part */

typedef struct {
    _Alignas(FERRO_CACHE_LINES) ferro_mutex mutex;
    entry **by_handle, **by_object;
    size_t size, count; /* `size` is a power of two */
    CK_OBJECT_HANDLE handles;          /* given out so far */
    unsigned long long identities;     /* given to drafts so far */
    entry *drafts, *last_draft;        /* all entries that have one, in the order of their handles */
} part;

static part parts[PARTS];

void ferro_handles_prepare(void)
{
    int i;

    for (i = 0; i < PARTS; i++)
        ferro_mutex_renew(&parts[i].mutex);
}

static unsigned number_of(const part *one) { return (unsigned)(one - parts); }

static part *part_of(CK_OBJECT_HANDLE handle) { return &parts[handle % PARTS]; }

static part *part_of_object(long long oid) { return &parts[(unsigned long long)oid % PARTS]; }

/* Drafts get their identities from the lowest number on; the core's own count down from -1 and never come so far. */
static long long draft_identity(part *of)
{
    return LLONG_MIN + (long long)(++of->identities * PARTS + number_of(of));
}

static size_t handle_bucket(CK_OBJECT_HANDLE handle, size_t buckets) { return (size_t)(handle / PARTS) & (buckets - 1); }

static size_t object_bucket(CK_SLOT_ID slot, long long oid, size_t buckets)
{
    unsigned long long mixed = (unsigned long long)oid * 0x9E3779B97F4A7C15ULL ^ (unsigned long long)slot;

    return (size_t)(mixed ^ mixed >> 29) & (buckets - 1);
}

static int grow(part *of)
{
    size_t wanted = of->size ? of->size * 2 : 64, i;
    entry **handles = calloc(wanted, sizeof *handles), **objects = calloc(wanted, sizeof *objects), *one, *next;

    if (handles == NULL || objects == NULL) {
        free(handles);
        free(objects);
        return of->size != 0; /* longer chains are no failure */
    }
    for (i = 0; i < of->size; i++)
        for (one = of->by_handle[i]; one != NULL; one = next) {
            size_t at = handle_bucket(one->target.handle, wanted);
            size_t place = object_bucket(one->target.slot, one->target.oid, wanted);
            next = one->next_by_handle;
            one->next_by_handle = handles[at];
            handles[at] = one;
            one->next_by_object = objects[place];
            objects[place] = one;
        }
    free(of->by_handle);
    free(of->by_object);
    of->by_handle = handles;
    of->by_object = objects;
    of->size = wanted;
    return 1;
}

static entry *find_handle(const part *of, CK_OBJECT_HANDLE handle)
{
    entry *one = of->size ? of->by_handle[handle_bucket(handle, of->size)] : NULL;

    while (one != NULL && one->target.handle != handle)
        one = one->next_by_handle;
    return one;
}

static entry *find_object(const part *of, CK_SLOT_ID slot, long long oid)
{
    entry *one = of->size ? of->by_object[object_bucket(slot, oid, of->size)] : NULL;

    while (one != NULL && (one->target.oid != oid || one->target.slot != slot))
        one = one->next_by_object;
    return one;
}

/* Take an entry's draft away from it; the caller releases it, without the lock. */
static ferro_draft *take_draft(part *of, entry *one)
{
    ferro_draft *draft = one->draft;

    if (draft == NULL)
        return NULL;
    if (one->previous_draft != NULL)
        one->previous_draft->next_draft = one->next_draft;
    else
        of->drafts = one->next_draft;
    if (one->next_draft != NULL)
        one->next_draft->previous_draft = one->previous_draft;
    else
        of->last_draft = one->previous_draft;
    one->previous_draft = one->next_draft = NULL;
    one->draft = NULL;
    one->target.is_draft = 0;
    return draft;
}

static void give_draft(part *of, entry *one, ferro_draft *draft, int half)
{
    atomic_fetch_add(&draft->references, 1);
    one->draft = draft;
    one->half = half;
    one->target.is_draft = 1;
    one->previous_draft = of->last_draft;
    if (of->last_draft != NULL)
        of->last_draft->next_draft = one;
    else
        of->drafts = one;
    of->last_draft = one;
}

/* The entry's own part, without the lock. */
static void bury(ferro_draft *draft)
{
    if (draft != NULL)
        ferro_draft_release(draft);
}

/* With the lock. Returns the draft that it had, for `bury`. */
static ferro_draft *kill_entry(part *of, entry *dead)
{
    ferro_draft *draft = take_draft(of, dead);
    entry **link = &of->by_handle[handle_bucket(dead->target.handle, of->size)];

    while (*link != dead)
        link = &(*link)->next_by_handle;
    *link = dead->next_by_handle;
    link = &of->by_object[object_bucket(dead->target.slot, dead->target.oid, of->size)];
    while (*link != dead)
        link = &(*link)->next_by_object;
    *link = dead->next_by_object;
    if (dead->owner != NULL) {
        if (dead->previous_owned != NULL)
            dead->previous_owned->next_owned = dead->next_owned;
        else
            dead->owner->owned[number_of(of)] = dead->next_owned;
        if (dead->next_owned != NULL)
            dead->next_owned->previous_owned = dead->previous_owned;
    }
    of->count -= 1;
    free(dead);
    return draft;
}

/* Let the handle die with `owner`, unless it has one. */
static void give_to(const part *of, entry *one, ferro_session *owner)
{
    unsigned at = number_of(of);

    if (owner == NULL || one->owner != NULL)
        return;
    one->owner = owner;
    one->next_owned = owner->owned[at];
    if (owner->owned[at] != NULL)
        owner->owned[at]->previous_owned = one;
    owner->owned[at] = one;
    if ((atomic_load_explicit(&owner->owning, memory_order_relaxed) & 1u << at) == 0)
        atomic_fetch_or(&owner->owning, 1u << at);
}

static entry *make_entry(part *of, CK_SLOT_ID slot, long long oid, unsigned long long epoch)
{
    entry *made;
    size_t at;

    if ((of->count >= of->size && !grow(of)) || of->handles == MOST)
        return NULL;
    if ((made = calloc(1, sizeof *made)) == NULL)
        return NULL;
    made->target.handle = ++of->handles * PARTS + number_of(of);
    made->target.slot = slot;
    made->target.oid = oid;
    made->target.epoch = epoch;
    at = handle_bucket(made->target.handle, of->size);
    made->next_by_handle = of->by_handle[at];
    of->by_handle[at] = made;
    at = object_bucket(slot, oid, of->size);
    made->next_by_object = of->by_object[at];
    of->by_object[at] = made;
    of->count += 1;
    return made;
}

CK_OBJECT_HANDLE ferro_handle_make(CK_SLOT_ID slot, long long oid, unsigned long long epoch, ferro_session *owner)
{
    part *of = part_of_object(oid);
    CK_OBJECT_HANDLE handle = 0;
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_object(of, slot, oid)) == NULL)
        one = make_entry(of, slot, oid, epoch);
    if (one != NULL) {
        give_to(of, one, owner);
        handle = one->target.handle;
    }
    ferro_unlock(&of->mutex);
    return handle;
}

int ferro_handle_find(CK_OBJECT_HANDLE handle, ferro_target *target)
{
    part *of = part_of(handle);
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL)
        *target = one->target;
    ferro_unlock(&of->mutex);
    return one != NULL;
}

int ferro_handle_of(CK_SLOT_ID slot, long long oid, ferro_target *target)
{
    part *of = part_of_object(oid);
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_object(of, slot, oid)) != NULL)
        *target = one->target;
    ferro_unlock(&of->mutex);
    return one != NULL;
}

void ferro_handle_confirm(CK_OBJECT_HANDLE handle)
{
    part *of = part_of(handle);
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL)
        one->target.epoch = 0;
    ferro_unlock(&of->mutex);
}

void ferro_handle_kill(ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    part *of = part_of(handle);
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL)
        draft = kill_entry(of, one);
    ferro_unlock(&of->mutex);
    bury(draft);
    ferro_sessions_forget_handle(slot, handle);
}

/* One of the handles that `owner` has in a part; 0 when there is none. */
static CK_OBJECT_HANDLE kill_one_owned(part *of, ferro_session *owner)
{
    CK_OBJECT_HANDLE handle = 0;
    ferro_draft *draft = NULL;
    entry *one;
    int known = 0;

    ferro_lock(&of->mutex);
    if ((one = owner->owned[number_of(of)]) != NULL) {
        handle = one->target.handle;
        known = one->draft == NULL;
        draft = kill_entry(of, one);
    }
    ferro_unlock(&of->mutex);
    bury(draft);
    if (known) /* nothing was ever decided about a draft */
        ferro_sessions_forget_handle(owner->slot, handle);
    return handle;
}

void ferro_handles_kill_owned(ferro_session *owner)
{
    unsigned owning = atomic_load(&owner->owning);
    int i;

    for (i = 0; i < PARTS; i++)
        while ((owning & 1u << i) != 0 && kill_one_owned(&parts[i], owner) != 0)
            ;
}

/* Kill the handles of a slot, or of all. A draft is buried without the lock, so the search begins anew after each. */
static void kill_where(part *of, CK_SLOT_ID slot, int all)
{
    ferro_draft *draft;
    size_t i;

    do {
        draft = NULL;
        ferro_lock(&of->mutex);
        for (i = 0; i < of->size && draft == NULL; i++) {
            entry *one = of->by_handle[i], *next;
            for (; one != NULL && draft == NULL; one = next) {
                next = one->next_by_handle;
                if (all || one->target.slot == slot)
                    draft = kill_entry(of, one);
            }
        }
        ferro_unlock(&of->mutex);
        bury(draft);
    } while (draft != NULL);
}

/* Kill the drafts of a slot that `goes` names, a handful each time the lock is taken; return how many. */
static unsigned long long kill_drafts(part *of, CK_SLOT_ID slot, int all, int (*goes)(const entry *one))
{
    enum { HANDFUL = 64 };
    ferro_draft *dead[HANDFUL];
    unsigned long long killed = 0;
    entry *one, *next;
    int found, i;

    do {
        found = 0;
        ferro_lock(&of->mutex);
        for (one = of->drafts; one != NULL && found < HANDFUL; one = next) {
            next = one->next_draft;
            if ((all || one->target.slot == slot) && goes(one))
                dead[found++] = kill_entry(of, one);
        }
        ferro_unlock(&of->mutex);
        for (i = 0; i < found; i++)
            bury(dead[i]);
        killed += (unsigned)found;
    } while (found == HANDFUL);
    return killed;
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
    int i;

    for (i = 0; i < PARTS; i++) {
        kill_drafts(&parts[i], slot, 0, any);
        kill_where(&parts[i], slot, 0);
    }
}

void ferro_handles_kill_all(void)
{
    int i;

    for (i = 0; i < PARTS; i++) {
        part *of = &parts[i];
        kill_drafts(of, 0, 1, any);
        kill_where(of, 0, 1);
        ferro_lock(&of->mutex);
        free(of->by_handle);
        free(of->by_object);
        of->by_handle = of->by_object = NULL;
        of->size = 0;
        ferro_unlock(&of->mutex);
    }
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
static CK_RV hand_out(part *of, ferro_draft *draft, ferro_session *owner, CK_OBJECT_HANDLE *handles[2])
{
    ferro_recipe *recipe = draft->recipe;
    int half;

    for (half = 0; half < recipe->halves; half++) {
        int logged_in = atomic_load_explicit(&recipe->slot->login, memory_order_acquire) != FERRO_NOBODY;
        entry *one = make_entry(of, recipe->slot->id, draft_identity(of), logged_in ? recipe->epoch : 0);
        if (one == NULL)
            return CKR_HOST_MEMORY; /* the first half goes with its session */
        give_to(of, one, owner);
        give_draft(of, one, draft, half);
        *handles[half] = one->target.handle;
    }
    /* Whoever ends the login moves the epoch first and looks for drafts then: one of us sees the other. */
    return recipe->epoch == ferro_slot_epoch(recipe->slot) ? CKR_OK : FERRO_ASK;
}

/* The part of the caller's lane, or of another one when that has given out all its handles; locked. */
static part *lock_for_drafts(void)
{
    unsigned lane = ferro_lane(), i;

    for (i = 0;; i++) {
        part *of = &parts[(lane + i) % PARTS];
        ferro_lock(&of->mutex);
        if (of->handles < MOST - 1 || i == PARTS - 1)
            return of;
        ferro_unlock(&of->mutex);
    }
}

CK_RV ferro_draft_hand_out(ferro_recipe *recipe, ferro_kernel_generated *made, ferro_session *owner,
                           CK_OBJECT_HANDLE *handles[2])
{
    CK_OBJECT_HANDLE given[2] = {0, 0}, *places[2] = {&given[0], &given[1]};
    ferro_draft *draft = calloc(1, sizeof *draft);
    part *of;
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
    of = lock_for_drafts();
    rv = hand_out(of, draft, owner, places);
    ferro_unlock(&of->mutex);
    ferro_slot_draft_born(recipe->slot);
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
    part *of = part_of(handle);
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL && (draft = one->draft) != NULL) {
        atomic_fetch_add(&draft->references, 1);
        *half = one->half;
        *oid = one->target.oid;
        *owner = one->owner->handle;
    }
    ferro_unlock(&of->mutex);
    return draft;
}

void ferro_drafts_mark(ferro_slot *slot, ferro_drafts_seen *seen)
{
    int i;

    ferro_slot_look_for_drafts(slot);
    for (i = 0; i < PARTS; i++) {
        ferro_lock(&parts[i].mutex);
        seen->last[i] = parts[i].last_draft == NULL ? 0 : parts[i].last_draft->target.handle;
        ferro_unlock(&parts[i].mutex);
    }
}

CK_OBJECT_HANDLE ferro_draft_of_slot(CK_SLOT_ID slot, ferro_drafts_seen *seen)
{
    CK_OBJECT_HANDLE handle = 0;
    int i;

    for (i = 0; i < PARTS && handle == 0; i++) {
        entry *one;
        if (seen->last[i] == 0)
            continue;
        ferro_lock(&parts[i].mutex);
        for (one = parts[i].drafts; one != NULL && one->target.slot != slot;)
            one = one->next_draft;
        handle = one == NULL || one->target.handle > seen->last[i] ? 0 : one->target.handle;
        ferro_unlock(&parts[i].mutex);
        if (handle == 0)
            seen->last[i] = 0;
    }
    return handle;
}

int ferro_draft_settle(CK_OBJECT_HANDLE handle)
{
    part *of = part_of(handle);
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL)
        draft = take_draft(of, one);
    ferro_unlock(&of->mutex);
    bury(draft);
    return one != NULL;
}

int ferro_draft_claim(ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    part *of = part_of(handle);
    int answer = 0;
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL && one->draft != NULL && one->target.slot == slot->id) {
        answer = one->claimed ? -1 : 1;
        one->claimed = 1;
    }
    ferro_unlock(&of->mutex);
    return answer;
}

void ferro_draft_unclaim(CK_OBJECT_HANDLE handle)
{
    part *of = part_of(handle);
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL)
        one->claimed = 0;
    ferro_unlock(&of->mutex);
}

unsigned long long ferro_drafts_owned(const ferro_session *owner)
{
    unsigned owning = atomic_load(&((ferro_session *)owner)->owning);
    unsigned long long found = 0;
    const entry *one;
    int i;

    for (i = 0; i < PARTS; i++) {
        if ((owning & 1u << i) == 0)
            continue;
        ferro_lock(&parts[i].mutex);
        for (one = owner->owned[i]; one != NULL; one = one->next_owned)
            found += one->draft != NULL;
        ferro_unlock(&parts[i].mutex);
    }
    return found;
}

int ferro_draft_destroy(ferro_slot *slot, CK_OBJECT_HANDLE handle)
{
    part *of = part_of(handle);
    ferro_draft *draft = NULL;
    entry *one;

    ferro_lock(&of->mutex);
    if ((one = find_handle(of, handle)) != NULL && one->draft != NULL && one->target.slot == slot->id)
        draft = kill_entry(of, one);
    ferro_unlock(&of->mutex);
    bury(draft);
    return draft != NULL;
}

unsigned long long ferro_drafts_forget_private(ferro_slot *slot)
{
    unsigned long long killed = 0;
    int i;

    for (i = 0; i < PARTS; i++)
        killed += kill_drafts(&parts[i], slot->id, 0, is_of_an_old_login);
    return killed;
}

void ferro_handles_fork_child(void)
{
    int i;

    ferro_handles_prepare();
    for (i = 0; i < PARTS; i++) {
        parts[i].by_handle = parts[i].by_object = NULL;
        parts[i].drafts = parts[i].last_draft = NULL;
        parts[i].size = parts[i].count = 0;
    }
}
