/* What a search found, kept for the next one with the same template: handles, no object. A bounded number of searches,
 * each of a small template and of few objects.
 *
 * It is good while nothing moved that it rests on: what a decision rests on (decisions.h), and the objects that this
 * process has made since, which no decision cares about. It is forgotten with the decisions.
 */
#ifndef FERROHSM_STATE_FINDS_H
#define FERROHSM_STATE_FINDS_H

#include <stddef.h>

#include "pkcs11.h"
#include "slots.h"

enum { FERRO_WANTED_BYTES = 384, FERRO_FOUND_MOST = 32 };

/* A template: for each attribute its type, the length and the value, padded to eight bytes. */
typedef struct ferro_wanted {
    size_t used; /* bytes */
    unsigned long long bytes[FERRO_WANTED_BYTES / 8];
} ferro_wanted;

/* A search under way: the handles that were found and are not handed out yet. `stamp` is the slot's as it was before:
 * when it has moved, what is left has to be looked at again. */
typedef struct ferro_found {
    unsigned long long stamp;
    CK_ULONG count, at;
    CK_OBJECT_HANDLE handles[];
} ferro_found;

/* What stood before the core was asked. */
typedef struct ferro_find_moment {
    unsigned long long stamp, births, generation;
    int settled;
} ferro_find_moment;

/* Add an attribute; the value is copied. Returns 0 when it is too large. */
int ferro_wanted_add(ferro_wanted *wanted, CK_ATTRIBUTE_TYPE type, const void *value, size_t length);

/* The attribute at `*at`, which moves to the next one; 0 behind the last. */
int ferro_wanted_next(const ferro_wanted *wanted, size_t *at, CK_ATTRIBUTE_TYPE *type, const void **value,
                      size_t *length);

/* A search of these objects; the caller frees it. NULL when there is no memory. */
ferro_found *ferro_found_make(const CK_OBJECT_HANDLE *handles, CK_ULONG count, unsigned long long stamp);

/* Hand out up to `room` objects; returns how many. */
CK_ULONG ferro_found_take(ferro_found *found, CK_OBJECT_HANDLE *out, CK_ULONG room);

void ferro_find_note(ferro_slot *slot, ferro_find_moment *moment);

/* Begin a search that is known. NULL: the core has to be asked. */
ferro_found *ferro_finds_read(ferro_slot *slot, const ferro_wanted *wanted);

/* Begin a search for a name that is not known, by the slot's finder, and keep what it finds. NULL: the core has to be
 * asked. */
ferro_found *ferro_finds_search(ferro_slot *slot, const ferro_wanted *wanted);

/* Keep what was found after `before`. */
void ferro_finds_keep(ferro_slot *slot, const ferro_wanted *wanted, const ferro_found *found,
                      const ferro_find_moment *before);

void ferro_finds_forget_slot(const ferro_slot *slot); /* NULL: all */

void ferro_finds_prepare(void);
void ferro_finds_fork_child(void);

#endif
