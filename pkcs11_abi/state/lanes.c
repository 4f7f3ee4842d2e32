#include "lanes.h"

#include <stdatomic.h>

static atomic_uint threads;
static _Thread_local unsigned lane; /* from 1 */

unsigned ferro_lane(void)
{
    if (lane == 0)
        lane = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % FERRO_LANES + 1;
    return lane - 1;
}
