#include "recipes.h"
#include "lock.h"

#include <stdlib.h>
#include <string.h>

enum { PLACES = 64, ENDED = 256 };

static ferro_mutex mutex = FERRO_MUTEX_INIT;
static ferro_recipe *places[PLACES];
static unsigned char used[PLACES]; /* since the hand went by */
static unsigned hand;
static unsigned long long counter;

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

static int is_for(const ferro_recipe *one, const ferro_slot *slot, CK_FLAGS function, CK_MECHANISM_TYPE mechanism,
                  CK_OBJECT_HANDLE base, const unsigned char *packed, size_t length)
{
    return one != NULL && one->function == function && one->mechanism == mechanism && one->base == base
           && one->slot == slot && one->packed_length == length && memcmp(one->packed, packed, length) == 0;
}

static int is_good(const ferro_recipe *one)
{
    return ferro_slot_epoch(one->slot) == one->epoch && ferro_slot_kernel(one->slot) == one->kernel;
}

ferro_recipe *ferro_recipe_find(ferro_slot *slot, CK_FLAGS function, CK_MECHANISM_TYPE mechanism,
                                CK_OBJECT_HANDLE base, const ferro_packed *packed)
{
    ferro_recipe *found = NULL;
    int i;

    ferro_lock(&mutex);
    for (i = 0; i < PLACES && found == NULL; i++)
        if (is_for(places[i], slot, function, mechanism, base, packed->bytes, packed->length) && is_good(places[i])) {
            used[i] = 1;
            found = places[i];
            found->references += 1;
        }
    ferro_unlock(&mutex);
    return found;
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
    unsigned i, open = PLACES;

    for (i = 0; i < PLACES; i++) {
        if (is_for(places[i], recipe->slot, recipe->function, recipe->mechanism, recipe->base, recipe->packed,
                   recipe->packed_length))
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

void ferro_recipe_keep(ferro_recipe *recipe, unsigned long long stamp)
{
    ferro_recipe *old = recipe;

    ferro_lock(&mutex);
    /* The login is over before its recipes are forgotten, so that none slips in behind. */
    if (is_good(recipe) && (recipe->base == 0 || ferro_slot_stamp(recipe->slot) == stamp)) {
        unsigned at = place_for(recipe);
        old = places[at];
        places[at] = recipe;
        used[at] = 1;
    }
    ferro_unlock(&mutex);
    if (old != NULL)
        ferro_recipe_release(old);
}

void ferro_recipe_release(ferro_recipe *recipe)
{
    if (atomic_fetch_sub(&recipe->references, 1) != 1)
        return;
    ferro_lock(&ended_mutex);
    if (ended_count < ENDED)
        ended[ended_count++] = recipe->number;
    ferro_unlock(&ended_mutex);
    free(recipe);
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

/* Forget those with this base key, or else those of a slot, or else all. */
static void forget(CK_OBJECT_HANDLE base, const ferro_slot *slot)
{
    ferro_recipe *out[PLACES];
    int i, count = 0;

    ferro_lock(&mutex);
    for (i = 0; i < PLACES; i++)
        if (places[i] != NULL && (base == 0 || places[i]->base == base) && (slot == NULL || places[i]->slot == slot)) {
            out[count++] = places[i];
            places[i] = NULL;
        }
    ferro_unlock(&mutex);
    while (count-- > 0)
        ferro_recipe_release(out[count]);
}

void ferro_recipes_forget_base(CK_OBJECT_HANDLE base) { forget(base, NULL); }

void ferro_recipes_forget_slot(const ferro_slot *slot) { forget(0, slot); }

void ferro_recipes_fork_child(void)
{
    ferro_mutex_renew(&mutex);
    ferro_mutex_renew(&ended_mutex);
    memset(places, 0, sizeof places);
    ended_count = 0;
}
