#include "handles.h"
#include "lock.h"

#include <stdlib.h>
#include <string.h>

typedef struct ferro_handle {
    ferro_target target;
    ferro_session *owner;
    struct ferro_handle *next_by_handle;
    struct ferro_handle *next_by_object;
    struct ferro_handle *previous_owned, *next_owned;
} entry;

static ferro_mutex mutex = FERRO_MUTEX_INIT;
static entry **by_handle, **by_object;
static size_t size, count; /* `size` is a power of two */
static CK_OBJECT_HANDLE counter;

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

static void kill_entry(entry *dead)
{
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
    entry *one;

    ferro_lock(&mutex);
    if ((one = find_handle(handle)) != NULL)
        kill_entry(one);
    ferro_unlock(&mutex);
    ferro_sessions_forget_handle(slot, handle);
}

void ferro_handles_kill_owned(ferro_session *owner)
{
    CK_OBJECT_HANDLE handle;

    do {
        handle = 0;
        ferro_lock(&mutex);
        if (owner->owned != NULL) {
            handle = owner->owned->target.handle;
            kill_entry(owner->owned);
        }
        ferro_unlock(&mutex);
        if (handle != 0)
            ferro_sessions_forget_handle(owner->slot, handle);
    } while (handle != 0);
}

/* With the lock; every slot when `all`. */
static void kill_where(CK_SLOT_ID slot, int all)
{
    size_t i;

    for (i = 0; i < size; i++) {
        entry *one = by_handle[i], *next;
        for (; one != NULL; one = next) {
            next = one->next_by_handle;
            if (all || one->target.slot == slot)
                kill_entry(one);
        }
    }
}

void ferro_handles_kill_slot(CK_SLOT_ID slot)
{
    ferro_lock(&mutex);
    kill_where(slot, 0);
    ferro_unlock(&mutex);
}

void ferro_handles_kill_all(void)
{
    ferro_lock(&mutex);
    kill_where(0, 1);
    free(by_handle);
    free(by_object);
    by_handle = by_object = NULL;
    size = 0;
    ferro_unlock(&mutex);
}

void ferro_handles_fork_child(void)
{
    ferro_mutex_renew(&mutex);
    by_handle = by_object = NULL;
    size = count = 0;
}
