#include "recipes.h"
#include "lanes.h"
#include "lock.h"

#include <stdlib.h>
#include <string.h>

enum { PLACES = 64, COPIES = 16, ENDED = 256 };

static ferro_mutex mutex = FERRO_MUTEX_INIT;
static ferro_recipe *places[PLACES];
static unsigned char used[PLACES]; /* since the hand went by */
static unsigned hand;
static unsigned long long counter;

/* What a lane uses stands there as a copy, with references of its own: the threads would meet at each other's lock and
 * count otherwise. Whoever takes a recipe away moves the version and then goes through the lanes; a copy is put in only
 * while the version is the one of when the original was found. */
typedef struct {
    _Alignas(FERRO_CACHE_LINES) ferro_mutex mutex;
    ferro_recipe *copies[COPIES];
    unsigned hand;
} lane;

static lane lanes[FERRO_LANES];
static _Atomic unsigned long long version;
static atomic_int based; /* a copy with a base key was put in */

void ferro_recipes_prepare(void)
{
    int i;

    for (i = 0; i < FERRO_LANES; i++)
        ferro_mutex_renew(&lanes[i].mutex);
}

/* Numbers whose recipes are gone. When it is full the rest is left to ferro_recipe_ended's caller, who then keeps a
 * little too much until C_Finalize. */
static ferro_mutex ended_mutex = FERRO_MUTEX_INIT;
static unsigned long long ended[ENDED];
static unsigned ended_count;

/* ---- templates ---- */

static int is_secret(CK_ATTRIBUTE_TYPE type)
{
    return type == CKA_VALUE || type == CKA_SEED || (type >= CKA_PRIVATE_EXPONENT && type <= CKA_COEFFICIENT);
}

/* Arrays hold pointers, and a check value has to fit the value. */
static int is_unfit(CK_ATTRIBUTE_TYPE type)
{
    return (type & CKF_ARRAY_ATTRIBUTE) != 0 || type == CKA_ENCAPSULATE_TEMPLATE || type == CKA_DECAPSULATE_TEMPLATE
           || type == CKA_CHECK_VALUE || type == CKA_PUBLIC_KEY_INFO;
}

/* A label has to be UTF-8, which every string of 7-bit characters is. */
static int is_ascii(const unsigned char *text, size_t length)
{
    unsigned char all = 0;
    size_t i;

    for (i = 0; i < length; i++)
        all |= text[i];
    return all < 0x80;
}

static int put(ferro_packed *packed, const void *value, size_t length)
{
    if (FERRO_TEMPLATE_BYTES - packed->length < length)
        return 0;
    memcpy(packed->bytes + packed->length, value, length);
    packed->length += length;
    return 1;
}

static int put_attribute(ferro_packed *packed, CK_ATTRIBUTE attribute, int open)
{
    int may_differ = open && (attribute.type == CKA_LABEL || attribute.type == CKA_ID || attribute.type == CKA_VALUE);

    if (attribute.ulValueLen > FERRO_TEMPLATE_BYTES || (attribute.pValue == NULL && attribute.ulValueLen != 0)
        || is_unfit(attribute.type) || (is_secret(attribute.type) && !may_differ)
        || !put(packed, &attribute.type, sizeof attribute.type)
        || !put(packed, &attribute.ulValueLen, sizeof attribute.ulValueLen))
        return 0;
    if (may_differ)
        return attribute.type != CKA_LABEL || is_ascii(attribute.pValue, attribute.ulValueLen);
    return attribute.ulValueLen == 0 || put(packed, attribute.pValue, attribute.ulValueLen);
}

int ferro_template_pack(ferro_packed *packed, const CK_ATTRIBUTE *template, CK_ULONG count, int open)
{
    CK_ULONG i;

    if (count > FERRO_TEMPLATE_COUNT || !put(packed, &count, sizeof count))
        return 0;
    for (i = 0; i < count; i++)
        if (!put_attribute(packed, template[i], open))
            return 0;
    return 1;
}

/* ---- recipes ---- */

/* What a recipe has to be the same in. */
typedef struct {
    ferro_slot *slot;
    CK_FLAGS function;
    CK_MECHANISM_TYPE mechanism;
    CK_OBJECT_HANDLE base;
    const unsigned char *packed;
    size_t length;
} way;

static int is_for(const ferro_recipe *one, const way *wanted)
{
    return one != NULL && one->function == wanted->function && one->mechanism == wanted->mechanism
           && one->base == wanted->base && one->slot == wanted->slot && one->packed_length == wanted->length
           && memcmp(one->packed, wanted->packed, wanted->length) == 0;
}

static way way_of(const ferro_recipe *one)
{
    return (way){one->slot, one->function, one->mechanism, one->base, one->packed, one->packed_length};
}

static int is_good(const ferro_recipe *one)
{
    return ferro_slot_epoch(one->slot) == one->epoch && ferro_slot_kernel(one->slot) == one->kernel;
}

/* With the lock: the place of a good recipe, or -1. */
static int find(ferro_recipe *const *in, int count, const way *wanted)
{
    int i;

    for (i = 0; i < count; i++)
        if (is_for(in[i], wanted) && is_good(in[i]))
            return i;
    return -1;
}

static ferro_recipe *copy_of(ferro_recipe *original)
{
    ferro_recipe *copy = malloc(sizeof *copy + original->packed_length);
    size_t i;

    if (copy == NULL)
        return NULL;
    memset(copy, 0, sizeof *copy);
    copy->references = 1;
    copy->original = original;
    copy->number = original->number;
    copy->slot = original->slot;
    copy->function = original->function;
    copy->mechanism = original->mechanism;
    copy->base = original->base;
    copy->epoch = original->epoch;
    copy->generation = original->generation;
    copy->on_token = original->on_token;
    copy->halves = original->halves;
    memcpy(copy->is_private, original->is_private, sizeof copy->is_private);
    copy->kernel = original->kernel;
    copy->length = original->length;
    memcpy(copy->base_id, original->base_id, sizeof copy->base_id);
    copy->material.attributes = copy->attributes;
    for (i = 0; i < original->material.count; i++)
        ferro_recipe_ask(copy, original->attributes[i].type, original->attributes[i].value, original->attributes[i].length);
    copy->packed_length = original->packed_length;
    memcpy(copy->packed, original->packed, original->packed_length);
    return copy;
}

/* The place for a copy in a lane: a free one, one whose recipe has ended, or the next. */
static int place_in(lane *own)
{
    int i;

    for (i = 0; i < COPIES; i++)
        if (own->copies[i] == NULL || !is_good(own->copies[i]))
            return i;
    return (int)(own->hand++ % COPIES);
}

/* Keep a copy in the caller's lane, unless something was taken away since the version was `seen`. Takes the reference to
 * the original, returns one. */
static ferro_recipe *keep_copy(lane *own, ferro_recipe *original, unsigned long long seen)
{
    ferro_recipe *copy = copy_of(original), *old = NULL;

    if (copy == NULL)
        return original;
    if (copy->base != 0)
        atomic_store(&based, 1);
    ferro_lock(&own->mutex);
    if (atomic_load(&version) == seen) {
        int at = place_in(own);
        old = own->copies[at];
        own->copies[at] = copy;
        copy->references += 1;
    }
    ferro_unlock(&own->mutex);
    if (old != NULL)
        ferro_recipe_release(old);
    return copy;
}

ferro_recipe *ferro_recipe_find(ferro_slot *slot, CK_FLAGS function, CK_MECHANISM_TYPE mechanism,
                                CK_OBJECT_HANDLE base, const ferro_packed *packed)
{
    const way wanted = {slot, function, mechanism, base, packed->bytes, packed->length};
    lane *own = &lanes[ferro_lane()];
    ferro_recipe *found = NULL;
    unsigned long long seen;
    int at;

    ferro_lock(&own->mutex);
    if ((at = find(own->copies, COPIES, &wanted)) >= 0) {
        found = own->copies[at];
        found->references += 1;
    }
    ferro_unlock(&own->mutex);
    if (found != NULL)
        return found;
    ferro_lock(&mutex);
    seen = atomic_load(&version);
    if ((at = find(places, PLACES, &wanted)) >= 0) {
        used[at] = 1;
        found = places[at];
        found->references += 1;
    }
    ferro_unlock(&mutex);
    return found == NULL ? NULL : keep_copy(own, found, seen);
}

ferro_recipe *ferro_recipe_make(const ferro_packed *packed)
{
    ferro_recipe *made = calloc(1, sizeof *made + packed->length);

    if (made == NULL)
        return NULL;
    made->references = 1;
    made->packed_length = packed->length;
    memcpy(made->packed, packed->bytes, packed->length);
    made->material.attributes = made->attributes;
    ferro_lock(&mutex);
    made->number = ++counter;
    ferro_unlock(&mutex);
    return made;
}

int ferro_recipe_ask(ferro_recipe *recipe, CK_ATTRIBUTE_TYPE type, const void *value, size_t length)
{
    size_t at = recipe->material.count, taken = 0, i;

    for (i = 0; i < at; i++)
        taken += recipe->attributes[i].length;
    if (at == sizeof recipe->attributes / sizeof *recipe->attributes || sizeof recipe->values - taken < length)
        return 0;
    memcpy(recipe->values + taken, value, length);
    recipe->attributes[at].type = type;
    recipe->attributes[at].value = recipe->values + taken;
    recipe->attributes[at].length = length;
    recipe->material.count += 1;
    return 1;
}

/* The place for a recipe: its own of before, a free one, or the one that was not used for the longest time. */
static unsigned place_for(const ferro_recipe *recipe)
{
    const way same = way_of(recipe);
    unsigned i, open = PLACES;

    for (i = 0; i < PLACES; i++) {
        if (is_for(places[i], &same))
            return i;
        if (places[i] == NULL && open == PLACES)
            open = i;
    }
    while (open == PLACES) {
        unsigned at = hand++ % PLACES;
        if (!used[at])
            open = at;
        used[at] = 0;
    }
    return open;
}

/* Take the copies that `goes` names out of the lanes. */
static void forget_copies(int (*goes)(const ferro_recipe *one, const void *what), const void *what)
{
    ferro_recipe *out[COPIES];
    int i, at, count;

    for (i = 0; i < FERRO_LANES; i++) {
        count = 0;
        ferro_lock(&lanes[i].mutex);
        for (at = 0; at < COPIES; at++)
            if (lanes[i].copies[at] != NULL && goes(lanes[i].copies[at], what)) {
                out[count++] = lanes[i].copies[at];
                lanes[i].copies[at] = NULL;
            }
        ferro_unlock(&lanes[i].mutex);
        while (count-- > 0)
            ferro_recipe_release(out[count]);
    }
}

static int goes_this_way(const ferro_recipe *one, const void *what) { return is_for(one, what); }

void ferro_recipe_keep(ferro_recipe *recipe, unsigned long long stamp)
{
    const way same = way_of(recipe);
    ferro_recipe *old = recipe;

    recipe->references += 1; /* for `same` */
    ferro_lock(&mutex);
    /* The login is over before its recipes are forgotten, so that none slips in behind. */
    if (is_good(recipe) && (recipe->base == 0 || ferro_slot_stamp(recipe->slot) == stamp)) {
        unsigned at = place_for(recipe);
        old = places[at];
        places[at] = recipe;
        used[at] = 1;
        atomic_fetch_add(&version, 1);
    }
    ferro_unlock(&mutex);
    if (old != recipe)
        forget_copies(goes_this_way, &same); /* of the one before */
    if (old != NULL)
        ferro_recipe_release(old);
    ferro_recipe_release(recipe);
}

/* Python's side of it can go with the original. */
static void note_ended(const ferro_recipe *recipe)
{
    ferro_lock(&ended_mutex);
    if (ended_count < ENDED)
        ended[ended_count++] = recipe->number;
    ferro_unlock(&ended_mutex);
}

void ferro_recipe_release(ferro_recipe *recipe)
{
    ferro_recipe *original = recipe->original;

    if (atomic_fetch_sub(&recipe->references, 1) != 1)
        return;
    if (original == NULL)
        note_ended(recipe);
    free(recipe);
    if (original != NULL)
        ferro_recipe_release(original);
}

unsigned long long ferro_recipe_ended(void)
{
    unsigned long long number = 0;

    ferro_lock(&ended_mutex);
    if (ended_count != 0)
        number = ended[--ended_count];
    ferro_unlock(&ended_mutex);
    return number;
}

/* Those with this base key, or else those of a slot, or else all. */
typedef struct {
    CK_OBJECT_HANDLE base;
    const ferro_slot *slot;
} ended_reason;

static int rests_on(const ferro_recipe *one, const void *what)
{
    const ended_reason *reason = what;

    return (reason->base == 0 || one->base == reason->base) && (reason->slot == NULL || one->slot == reason->slot);
}

static void forget(CK_OBJECT_HANDLE base, const ferro_slot *slot)
{
    const ended_reason reason = {base, slot};
    ferro_recipe *out[PLACES];
    int i, count = 0;

    ferro_lock(&mutex);
    atomic_fetch_add(&version, 1);
    for (i = 0; i < PLACES; i++)
        if (places[i] != NULL && rests_on(places[i], &reason)) {
            out[count++] = places[i];
            places[i] = NULL;
        }
    ferro_unlock(&mutex);
    if (base == 0 || atomic_load(&based))
        forget_copies(rests_on, &reason);
    while (count-- > 0)
        ferro_recipe_release(out[count]);
}

void ferro_recipes_forget_base(CK_OBJECT_HANDLE base) { forget(base, NULL); }

void ferro_recipes_forget_slot(const ferro_slot *slot) { forget(0, slot); }

void ferro_recipes_fork_child(void)
{
    int i;

    ferro_mutex_renew(&mutex);
    ferro_mutex_renew(&ended_mutex);
    ferro_recipes_prepare();
    memset(places, 0, sizeof places);
    for (i = 0; i < FERRO_LANES; i++)
        memset(lanes[i].copies, 0, sizeof lanes[i].copies);
    ended_count = 0;
}
