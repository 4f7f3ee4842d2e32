#include "finds.h"
#include "handles.h"

#include <stdlib.h>

enum { ATTRIBUTES = 16 };

/* The epoch of the login under way, 0 when nobody is logged in. */
static unsigned long long login_of(ferro_slot *slot, int *as_user)
{
    ferro_slot_copy copy;

    ferro_slot_read(slot, &copy);
    *as_user = copy.login == FERRO_USER;
    return copy.login == FERRO_NOBODY ? 0 : copy.epoch;
}

static int has_not_moved(ferro_slot *slot, const ferro_find_moment *before)
{
    ferro_find_moment now;

    ferro_find_note(slot, &now);
    return now.settled && now.generation == before->generation && now.stamp == before->stamp
           && now.births == before->births;
}

/* The handle of an object; 0 when the core has to be asked whether the one that was given out is good still. */
static CK_OBJECT_HANDLE handle_of(ferro_slot *slot, long long oid, unsigned long long epoch)
{
    ferro_target target;

    if (!ferro_handle_of(slot->id, oid, &target))
        return ferro_handle_make(slot->id, oid, epoch, NULL);
    return target.epoch == 0 || target.epoch == epoch ? target.handle : 0;
}

static size_t attributes_of(const ferro_wanted *wanted, ferro_kernel_attribute *to)
{
    size_t at = 0, count = 0;

    while (count < ATTRIBUTES
           && ferro_wanted_next(wanted, &at, &to[count].type, &to[count].value, &to[count].length))
        count++;
    return at == wanted->used ? count : 0;
}

ferro_found *ferro_finds_search(ferro_slot *slot, const ferro_wanted *wanted)
{
    ferro_finder *finder = atomic_load_explicit(&slot->finder, memory_order_acquire);
    ferro_kernel_attribute attributes[ATTRIBUTES];
    CK_OBJECT_HANDLE handles[FERRO_FINDER_MOST];
    long long objects[FERRO_FINDER_MOST];
    unsigned long long epoch;
    ferro_find_moment before;
    ferro_found *result;
    size_t count, i;
    int as_user;

    /* Attributes are given as the core has them, which is as this platform has them only where numbers are as wide. */
    if (finder == NULL || sizeof(CK_ULONG) != 8 || !ferro_slot_looked(slot))
        return NULL;
    ferro_find_note(slot, &before);
    epoch = login_of(slot, &as_user);
    if (!before.settled || atomic_load(&slot->bare) != before.births + 1)
        return NULL;
    if ((count = attributes_of(wanted, attributes)) == 0
        || !finder->find(finder, attributes, count, as_user, before.generation, objects, &count))
        return NULL;
    if (!has_not_moved(slot, &before))
        return NULL;
    for (i = 0; i < count; i++)
        if ((handles[i] = handle_of(slot, objects[i], epoch)) == 0)
            return NULL;
    if ((result = ferro_found_make(handles, count, before.stamp)) == NULL)
        return NULL;
    /* A logout may have come between, and killed the handles of what was found; then it may have hidden it as well. */
    if (!has_not_moved(slot, &before)) {
        free(result);
        return NULL;
    }
    ferro_finds_keep(slot, wanted, result, &before);
    return result;
}
