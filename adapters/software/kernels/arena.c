#include "arena.h"

#include <stdatomic.h>
#include <string.h>

#include "platform.h"

#if defined(FERRO_ARENA_PLAIN)
#include <stdlib.h>
#endif

void ferro_wipe(void *data, size_t size)
{
#if defined(_MSC_VER)
    SecureZeroMemory(data, size);
#else
    memset(data, 0, size);
    __asm__ __volatile__("" : : "r"(data) : "memory");
#endif
}

#if defined(FERRO_ARENA_PLAIN)

/*
 * For sanitizers, which know malloc's blocks and not ours: the same interface on the heap, with
 * the size kept before the block so that it can be wiped.
 */
enum { BEFORE = 16 };

int ferro_arena_start(void)
{
    return 0;
}

void *ferro_alloc(size_t size)
{
    unsigned char *block;

    if (size == 0 || size > SIZE_MAX - BEFORE || (block = calloc(1, size + BEFORE)) == NULL)
        return NULL;
    memcpy(block, &size, sizeof(size));
    return block + BEFORE;
}

void *ferro_secret_alloc(size_t size)
{
    return ferro_alloc(size);
}

void ferro_free(void *block)
{
    unsigned char *start = block;
    size_t size;

    if (block == NULL)
        return;
    start -= BEFORE;
    memcpy(&size, start, sizeof(size));
    ferro_wipe(start, size + BEFORE);
    free(start);
}

void *ferro_realloc(void *block, size_t size)
{
    void *moved;
    size_t old = 0;

    if (block != NULL)
        memcpy(&old, (unsigned char *)block - BEFORE, sizeof(old));
    if (size == 0) {
        ferro_free(block);
        return NULL;
    }
    if ((moved = ferro_alloc(size)) == NULL)
        return NULL;
    if (block != NULL) {
        memcpy(moved, block, old < size ? old : size);
        ferro_free(block);
    }
    return moved;
}

void ferro_arena_read_status(ferro_arena_status *status)
{
    memset(status, 0, sizeof(*status));
}

void ferro_arena_require_lock(int required)
{
    (void)required;
}

void ferro_arena_lock(void)
{
}

void ferro_arena_unlock(void)
{
}

void ferro_arena_fork_child(void)
{
}

#else

enum {
    SPAN = 64 * 1024,              /* one size class a span; its last page is a guard */
    REGION = 64 * 1024 * 1024,     /* address space taken at once, for one zone */
    REGIONS = 128,
    SPANS = REGION / SPAN,
    CLASSES = 21,
    LARGEST = 16384,               /* bigger blocks get a mapping of their own */
    STEP = 32,
    LANES = 8,
    PIECE = 4096,                  /* of a span; belongs to one lane */
    LARGEST_LANED = 1024,          /* bigger blocks are all in the first lane */
    KEPT_BYTES = 16384,            /* bound of a thread's free blocks, for each class */
    KEPT_BLOCKS = 32,
    KEPT_SECRET_BYTES = 4096,      /* the same in the secret zone, whose blocks are kept for the smaller classes */
    KEPT_SECRET_BLOCKS = 16,
    LARGEST_KEPT_SECRET = 1024,
    LARGE_HEADER = 64
};

enum { ENGINE, SECRET, ZONES };

static const uint16_t class_size[CLASSES] = {
    32,  64,   96,   128,  160,  192,  256,  320,  384,   512,   640,
    768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384,
};

typedef struct free_block {
    struct free_block *next;
} free_block;

/*
 * A size class of a zone in one lane: blocks that came back, then the rest of its newest piece. Threads are dealt out
 * over the lanes. What two threads write stands in different pages then: a processor that reads one block ahead of its
 * program fetches the beginning of the next one too, and takes it away from the other processor that works there.
 */
typedef struct {
    free_block *free;
    unsigned char *fresh;
    unsigned char *fresh_end;
} shelf;

/* The rest of the newest span of a size class, not yet given to a lane. */
typedef struct {
    unsigned char *at;
    unsigned char *end;
} rest;

typedef struct {
    unsigned char *base;
    uint8_t zone;
    size_t spans_used;
    uint8_t class_of[SPANS];
    uint8_t lane_of[REGION / PIECE];
} region;

/* A thread's own free blocks, wiped as all free ones are, so that most calls take no lock. */
typedef struct pocket {
    free_block *free[ZONES][CLASSES];
    uint8_t count[ZONES][CLASSES];
    uint8_t lane;
    atomic_size_t in_use; /* what its thread took of the secret zone, less what it gave back; written by it alone */
    struct pocket *previous, *next;
} pocket;

typedef struct {
    size_t size;    /* of the block, header left out */
    size_t mapping; /* of the whole mapping, guards included */
    uint64_t zone;
} large_header;

static ferro_mutex lock = FERRO_MUTEX_INIT;
static shelf shelves[ZONES][CLASSES][LANES];
static rest rests[ZONES][CLASSES];
static region *regions[REGIONS];
static atomic_size_t region_count;
static region *filling[ZONES];
static uint8_t class_by_step[LARGEST / STEP + 1];
static uint8_t kept[ZONES][CLASSES]; /* blocks in a pocket at most; 0: they go straight to the shelf */
static pocket *pockets;
static unsigned pockets_made;
static size_t mapped, locked;
static atomic_size_t in_use;
static int lock_refused, started;
static atomic_int lock_required;
static ferro_thread_hook pockets_end;

/* POCKET_GONE: the thread is ending, and destructors that come later still free memory. */
static pocket pocket_gone;
#define POCKET_GONE (&pocket_gone)
static _Thread_local pocket *mine;

static uint8_t class_for(size_t size)
{
    return class_by_step[(size + STEP - 1) / STEP];
}

static region *region_add(uint8_t zone)
{
    size_t page = ferro_page_size(), at = atomic_load(&region_count), whole = REGION + 2 * (size_t)SPAN;
    size_t record = (sizeof(region) + page - 1) / page * page;
    unsigned char *space;
    region *r;

    if (at == REGIONS)
        return NULL;
    r = ferro_map_reserve(record, 0);
    if (r == NULL || ferro_map_commit(r, record) != 0)
        return NULL;
    if ((space = ferro_map_reserve(whole, zone == SECRET)) == NULL) {
        ferro_map_release(r, record);
        return NULL;
    }
    /* Aligned to a span, with at least part of a span without access on both sides. */
    r->base = space + SPAN - (uintptr_t)space % SPAN;
    r->zone = zone;
    regions[at] = r;
    filling[zone] = r;
    atomic_store(&region_count, at + 1);
    return r;
}

static region *region_of(const void *block)
{
    size_t i, count = atomic_load_explicit(&region_count, memory_order_acquire);

    for (i = 0; i < count; i++)
        if ((size_t)((const unsigned char *)block - regions[i]->base) < (size_t)REGION)
            return regions[i];
    return NULL;
}

static int span_add(uint8_t zone, uint8_t class)
{
    region *r = filling[zone];
    size_t usable = SPAN - ferro_page_size();
    unsigned char *span;

    if ((r == NULL || r->spans_used == SPANS) && (r = region_add(zone)) == NULL)
        return -1;
    span = r->base + r->spans_used * SPAN;
    if (atomic_load(&lock_required) && lock_refused)
        return -1;
    if (ferro_map_commit(span, usable) != 0)
        return -1;
    if (!lock_refused) {
        if (ferro_map_lock(span, usable) == 0)
            locked += usable;
        else
            lock_refused = 1;
    }
    if (atomic_load(&lock_required) && lock_refused)
        return -1;
    mapped += usable;
    r->class_of[r->spans_used++] = class;
    rests[zone][class].at = span;
    rests[zone][class].end = span + usable;
    return 0;
}

/* Give a lane the next piece of what is left of the newest span, or, of a class without lanes, all of that. */
static void piece_add(uint8_t zone, uint8_t class, uint8_t lane)
{
    rest *left = &rests[zone][class];
    shelf *s = &shelves[zone][class][lane];
    size_t size = (size_t)(left->end - left->at);
    region *r = region_of(left->at);

    if (class_size[class] <= LARGEST_LANED && size > PIECE)
        size = PIECE;
    r->lane_of[(size_t)(left->at - r->base) / PIECE] = lane;
    s->fresh = left->at;
    s->fresh_end = left->at + size / class_size[class] * class_size[class];
    left->at += size;
}

static void *shelf_block(shelf *s, uint8_t class)
{
    free_block *block = s->free;

    if (block != NULL) {
        s->free = block->next;
        block->next = NULL;
    } else if (s->fresh != s->fresh_end) {
        block = (free_block *)(void *)s->fresh;
        s->fresh += class_size[class];
    }
    return block;
}

/* With the lock held: one block for a lane, or NULL. What other lanes do not need goes before more memory is mapped. */
static void *shelf_take(uint8_t zone, uint8_t class, uint8_t lane)
{
    void *block;
    uint8_t other;

    if (class_size[class] > LARGEST_LANED)
        lane = 0;
    if ((block = shelf_block(&shelves[zone][class][lane], class)) != NULL)
        return block;
    if (rests[zone][class].at == rests[zone][class].end) {
        for (other = 0; other < LANES; other++)
            if ((block = shelf_block(&shelves[zone][class][other], class)) != NULL)
                return block;
        if (span_add(zone, class) != 0)
            return NULL;
    }
    piece_add(zone, class, lane);
    return shelf_block(&shelves[zone][class][lane], class);
}

/* Back to the lane that its piece belongs to. */
static void shelf_put(uint8_t zone, uint8_t class, void *block)
{
    const region *r = region_of(block);
    free_block *b = block;
    shelf *s = &shelves[zone][class][0];

    if (class_size[class] <= LARGEST_LANED)
        s += r->lane_of[(size_t)((unsigned char *)block - r->base) / PIECE];
    b->next = s->free;
    s->free = b;
}

static unsigned kept_of(uint8_t zone, uint8_t class)
{
    unsigned bytes = zone == SECRET ? KEPT_SECRET_BYTES : KEPT_BYTES;
    unsigned most = zone == SECRET ? KEPT_SECRET_BLOCKS : KEPT_BLOCKS, n = bytes / class_size[class];

    if (zone == SECRET && class_size[class] > LARGEST_KEPT_SECRET)
        return 0;
    return n > most ? most : n < 2 ? 2 : n;
}

/* In a child that has not noticed its fork yet, the links in the secret zone are wiped: the chain is shorter than counted. */
static void pocket_spill(pocket *p, uint8_t zone, uint8_t class, unsigned leave)
{
    ferro_mutex_lock(&lock);
    while (p->count[zone][class] > leave) {
        free_block *b = p->free[zone][class];
        if (b == NULL) {
            p->count[zone][class] = 0;
            break;
        }
        p->free[zone][class] = b->next;
        p->count[zone][class]--;
        shelf_put(zone, class, b);
    }
    ferro_mutex_unlock(&lock);
}

static void pocket_end(void *value)
{
    pocket *p = value;
    uint8_t zone, class;

    if (p == NULL || p == POCKET_GONE)
        return;
    mine = POCKET_GONE;
    for (zone = 0; zone < ZONES; zone++)
        for (class = 0; class < CLASSES; class++)
            pocket_spill(p, zone, class, 0);
    ferro_mutex_lock(&lock);
    if (p->previous != NULL)
        p->previous->next = p->next;
    else
        pockets = p->next;
    if (p->next != NULL)
        p->next->previous = p->previous;
    atomic_fetch_add_explicit(&in_use, atomic_load_explicit(&p->in_use, memory_order_relaxed), memory_order_relaxed);
    ferro_mutex_unlock(&lock);
    ferro_free(p);
}

static pocket *pocket_make(void)
{
    pocket *p;
    uint8_t lane;

    ferro_mutex_lock(&lock);
    lane = (uint8_t)(pockets_made++ % LANES);
    if ((p = shelf_take(ENGINE, class_for(sizeof(*p)), lane)) != NULL) {
        memset(p, 0, sizeof(*p));
        p->lane = lane;
        p->next = pockets;
        if (pockets != NULL)
            pockets->previous = p;
        pockets = p;
    }
    ferro_mutex_unlock(&lock);
    if (p == NULL)
        return NULL;
    mine = p;
    ferro_thread_hook_set(&pockets_end, p);
    return p;
}

/* The calling thread's pocket, or NULL. */
static pocket *pocket_of_thread(void)
{
    pocket *p = mine;

    if (p == NULL)
        return pocket_make();
    return p == POCKET_GONE ? NULL : p;
}

static void *pocket_fill(pocket *p, uint8_t zone, uint8_t class)
{
    unsigned n = (kept[zone][class] + 1u) / 2;
    void *block;

    ferro_mutex_lock(&lock);
    block = shelf_take(zone, class, p->lane);
    while (block != NULL && n-- > 1) {
        free_block *more = shelf_take(zone, class, p->lane);
        if (more == NULL)
            break;
        more->next = p->free[zone][class];
        p->free[zone][class] = more;
        p->count[zone][class]++;
    }
    ferro_mutex_unlock(&lock);
    return block;
}

static void *pocket_take(pocket *p, uint8_t zone, uint8_t class)
{
    free_block *block;

    if (p == NULL || kept[zone][class] == 0) {
        ferro_mutex_lock(&lock);
        block = shelf_take(zone, class, p == NULL ? 0 : p->lane);
        ferro_mutex_unlock(&lock);
        return block;
    }
    if ((block = p->free[zone][class]) == NULL)
        return pocket_fill(p, zone, class);
    p->free[zone][class] = block->next;
    p->count[zone][class]--;
    block->next = NULL;
    return block;
}

static void pocket_put(pocket *p, uint8_t zone, uint8_t class, void *block)
{
    if (p == NULL || kept[zone][class] == 0) {
        ferro_mutex_lock(&lock);
        shelf_put(zone, class, block);
        ferro_mutex_unlock(&lock);
        return;
    }
    if (p->count[zone][class] >= kept[zone][class])
        pocket_spill(p, zone, class, kept[zone][class] / 2u);
    ((free_block *)block)->next = p->free[zone][class];
    p->free[zone][class] = block;
    p->count[zone][class]++;
}

/* Count blocks of the secret zone; whoever has a pocket counts in it, where nobody else writes. */
static void count_in_use(pocket *p, size_t change)
{
    if (p == NULL)
        atomic_fetch_add_explicit(&in_use, change, memory_order_relaxed);
    else
        atomic_store_explicit(&p->in_use, atomic_load_explicit(&p->in_use, memory_order_relaxed) + change,
                              memory_order_relaxed);
}

static void *large_alloc(size_t size, uint8_t zone)
{
    size_t page = ferro_page_size(), inner;
    unsigned char *space;
    large_header *header;

    if (size > SIZE_MAX / 2)
        return NULL;
    inner = (size + LARGE_HEADER + page - 1) / page * page;
    if ((space = ferro_map_reserve(inner + 2 * page, zone == SECRET)) == NULL)
        return NULL;
    if (ferro_map_commit(space + page, inner) != 0) {
        ferro_map_release(space, inner + 2 * page);
        return NULL;
    }
    /* Best effort unless it is required, each time: it is given back with the mapping. */
    if (ferro_map_lock(space + page, inner) != 0 && atomic_load(&lock_required)) {
        ferro_map_release(space, inner + 2 * page);
        return NULL;
    }
    header = (large_header *)(void *)(space + page);
    header->size = size;
    header->mapping = inner + 2 * page;
    header->zone = zone;
    atomic_fetch_add_explicit(&in_use, size, memory_order_relaxed);
    return space + page + LARGE_HEADER;
}

static large_header *large_of(void *block)
{
    return (large_header *)(void *)((unsigned char *)block - LARGE_HEADER);
}

static void large_free(void *block)
{
    large_header *header = large_of(block);
    size_t mapping = header->mapping;

    /* In the child of a fork the header was wiped with the block: the mapping stays, empty. */
    if (mapping == 0)
        return;
    atomic_fetch_sub_explicit(&in_use, header->size, memory_order_relaxed);
    ferro_wipe(block, header->size);
    ferro_map_release((unsigned char *)header - ferro_page_size(), mapping);
}

int ferro_arena_start(void)
{
    int rc = 0;

    ferro_mutex_lock(&lock);
    if (!started) {
        unsigned step, class = 0;
        for (step = 0; step <= LARGEST / STEP; step++) {
            while (class_size[class] < step * STEP)
                class++;
            class_by_step[step] = (uint8_t)class;
        }
        for (class = 0; class < CLASSES; class++) {
            kept[ENGINE][class] = (uint8_t)kept_of(ENGINE, (uint8_t)class);
            kept[SECRET][class] = (uint8_t)kept_of(SECRET, (uint8_t)class);
        }
        rc = region_add(ENGINE) == NULL ? -1 : ferro_thread_hook_make(&pockets_end, pocket_end);
        started = rc == 0;
    }
    ferro_mutex_unlock(&lock);
    return rc;
}

void *ferro_alloc(size_t size)
{
    if (size == 0)
        return NULL;
    if (size > LARGEST)
        return large_alloc(size, ENGINE);
    return pocket_take(pocket_of_thread(), ENGINE, class_for(size));
}

void *ferro_secret_alloc(size_t size)
{
    pocket *p;
    uint8_t class;
    void *block;

    if (size == 0)
        return NULL;
    if (size > LARGEST)
        return large_alloc(size, SECRET);
    class = class_for(size);
    p = pocket_of_thread();
    if ((block = pocket_take(p, SECRET, class)) != NULL)
        count_in_use(p, class_size[class]);
    return block;
}

void ferro_free(void *block)
{
    const region *r;
    pocket *p;
    uint8_t class;

    if (block == NULL)
        return;
    if ((r = region_of(block)) == NULL) {
        large_free(block);
        return;
    }
    class = r->class_of[(size_t)((unsigned char *)block - r->base) / SPAN];
    ferro_wipe(block, class_size[class]);
    p = mine == POCKET_GONE ? NULL : mine;
    if (r->zone == SECRET)
        count_in_use(p, (size_t)0 - class_size[class]);
    pocket_put(p, r->zone, class, block);
}

void *ferro_realloc(void *block, size_t size)
{
    const region *r;
    size_t room;
    uint8_t zone;
    void *moved;

    if (block == NULL)
        return ferro_alloc(size);
    if (size == 0) {
        ferro_free(block);
        return NULL;
    }
    if ((r = region_of(block)) != NULL) {
        room = class_size[r->class_of[(size_t)((unsigned char *)block - r->base) / SPAN]];
        zone = r->zone;
    } else {
        room = large_of(block)->size;
        zone = (uint8_t)large_of(block)->zone;
    }
    if (size <= room && size > room / 2)
        return block;
    moved = zone == SECRET ? ferro_secret_alloc(size) : ferro_alloc(size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, room < size ? room : size);
    ferro_free(block);
    return moved;
}

void ferro_arena_read_status(ferro_arena_status *status)
{
    const pocket *p;

    ferro_mutex_lock(&lock);
    status->mapped = mapped;
    status->locked = locked;
    status->in_use = atomic_load_explicit(&in_use, memory_order_relaxed);
    for (p = pockets; p != NULL; p = p->next)
        status->in_use += atomic_load_explicit(&p->in_use, memory_order_relaxed);
    ferro_mutex_unlock(&lock);
}

void ferro_arena_require_lock(int required)
{
    atomic_store(&lock_required, required);
}

void ferro_arena_fork_child(void)
{
    size_t i, span, usable = SPAN - ferro_page_size();

    ferro_mutex_lock(&lock);
    if (mine != NULL && mine != POCKET_GONE) {
        /* The system has wiped these blocks, and the links in them. */
        memset(mine->free[SECRET], 0, sizeof(mine->free[SECRET]));
        memset(mine->count[SECRET], 0, sizeof(mine->count[SECRET]));
    }
    locked = 0;
    lock_refused = 0;
    for (i = 0; i < atomic_load(&region_count) && !lock_refused; i++)
        for (span = 0; span < regions[i]->spans_used && !lock_refused; span++)
            if (ferro_map_lock(regions[i]->base + span * SPAN, usable) == 0)
                locked += usable;
            else
                lock_refused = 1;
    ferro_mutex_unlock(&lock);
}

void ferro_arena_lock(void)
{
    ferro_mutex_lock(&lock);
}

void ferro_arena_unlock(void)
{
    ferro_mutex_unlock(&lock);
}

#endif
