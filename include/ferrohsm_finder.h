/*
 * ferrohsm_finder.h: what a store hands over so that objects are found by their name without the
 * interpreter.
 *
 * A finder is a PyCapsule named FERRO_FINDER_CAPSULE whose pointer is a `ferro_finder *` that lives as
 * long as the capsule does. `find` may be called from any thread, without the interpreter lock, and never
 * needs it. It knows the usual case only: for everything else it has no answer, and the store itself is
 * asked, which knows what to say. So a finder never reports damage: it only does not answer.
 *
 * Attribute values are laid out as in the core (ferrohsm_kernel.h).
 */
#ifndef FERROHSM_FINDER_H
#define FERROHSM_FINDER_H 1

#include <stddef.h>
#include <stdint.h>

#include "ferrohsm_kernel.h"

#define FERRO_FINDER_CAPSULE "ferrohsm.finder"

/* The most objects that a finder answers with. */
#define FERRO_FINDER_MOST 8

typedef struct ferro_finder ferro_finder;

struct ferro_finder {
    uint32_t size; /* sizeof(ferro_finder) as compiled */

    /*
     * The objects that have all attributes of `wanted`, ascending by identity: `*found` of them, at most
     * FERRO_FINDER_MOST. With `as_user`, private objects are among them, and without it none is.
     * `generation` is the number of the store's last commit, looked up before; the caller sees to it that
     * it is still the same afterwards, and drops the answer when it is not.
     * Returns 1, or 0 when there is no answer.
     */
    int (*find)(ferro_finder *finder, const ferro_kernel_attribute *wanted, size_t count, int as_user,
                uint64_t generation, long long *objects, size_t *found);
};

#endif
