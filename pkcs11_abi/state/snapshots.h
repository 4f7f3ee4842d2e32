/* What C_GetAttributeValue showed of an object, kept for the next reader: no secret, at most 1 KiB an object, a bounded
 * number of objects. A snapshot is good while a decision would be (decisions.h), and is forgotten with the decisions.
 */
#ifndef FERROHSM_STATE_SNAPSHOTS_H
#define FERROHSM_STATE_SNAPSHOTS_H

#include <stddef.h>

#include "pkcs11.h"
#include "slots.h"

enum { FERRO_SNAPSHOT_BYTES = 1024 };

/* Attributes one after the other, each a head and its value, padded to eight bytes. */
typedef struct ferro_snapshot {
    size_t used; /* bytes */
    unsigned long long bytes[FERRO_SNAPSHOT_BYTES / 8];
} ferro_snapshot;

/* Add an attribute: CKR_OK with a value, or why there is none (CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID).
 * One that finds no room is left out. */
void ferro_snapshot_add(ferro_snapshot *snapshot, CK_ATTRIBUTE_TYPE type, CK_RV answer, const void *value,
                        size_t length);

/* Find an attribute. Returns 0 when it is not in the snapshot. */
int ferro_snapshot_find(const ferro_snapshot *snapshot, CK_ATTRIBUTE_TYPE type, CK_RV *answer, const void **value,
                        size_t *length);

/* Copy what is kept of an object. Returns 0 when there is nothing that is still good. */
int ferro_snapshots_read(ferro_slot *slot, CK_OBJECT_HANDLE handle, ferro_snapshot *copy);

/* What stood before it was shown: the slot's stamp and login epoch, and for token objects the store's generation. */
typedef struct ferro_snapshot_moment {
    unsigned long long stamp, epoch, generation;
} ferro_snapshot_moment;

/* Keep what was shown, beside what is kept of the object already. It is good as long as that login. */
void ferro_snapshots_keep(ferro_slot *slot, CK_OBJECT_HANDLE handle, const ferro_snapshot *shown,
                          const ferro_snapshot_moment *before, int on_token);

void ferro_snapshots_forget(CK_OBJECT_HANDLE handle);
void ferro_snapshots_forget_slot(const ferro_slot *slot); /* NULL: all */

void ferro_snapshots_prepare(void);
void ferro_snapshots_fork_child(void);

#endif
