/* How session objects come into being that the core has decided about before: the same templates, the same mechanism,
 * the same login. The material is made by the slot's kernel and kept in the kernel's memory as a draft; the object is
 * in the handle table and nowhere else. The core hears of it when somebody wants more than its handle (handles.h).
 *
 * A recipe ends with the login (its epoch), with what is behind its slot, and for derived keys with whatever moves the
 * base key's attributes.
 */
#ifndef FERROHSM_STATE_RECIPES_H
#define FERROHSM_STATE_RECIPES_H

#include <stddef.h>

#include "ferrohsm_kernel.h"
#include "pkcs11.h"
#include "slots.h"

enum {
    FERRO_TEMPLATE_BYTES = 1024, /* packed templates that are remembered */
    FERRO_TEMPLATE_COUNT = 32,   /* attributes in one of them */
};

/* The way of an object beside CKF_GENERATE, CKF_GENERATE_KEY_PAIR and CKF_DERIVE: C_CreateObject. */
#define FERRO_CREATE ((CK_FLAGS)0)

typedef struct ferro_recipe {
    _Atomic unsigned references;
    struct ferro_recipe *original; /* of a lane's copy, which has a reference to it; else NULL */
    unsigned long long number; /* by which Python knows its side of it */
    ferro_slot *slot;
    CK_FLAGS function;
    CK_MECHANISM_TYPE mechanism;
    CK_OBJECT_HANDLE base;         /* CKF_DERIVE */
    unsigned long long epoch;      /* the login's */
    unsigned long long generation; /* CKF_DERIVE from a token object: the store's */
    int on_token;                  /* the base key is a token object */
    int halves;                    /* 2 for a pair */
    int is_private[2];             /* the public key of a pair is the first */
    const ferro_kernel *kernel;
    size_t length;                 /* CKF_DERIVE: bytes wanted */
    char base_id[40];              /* CKF_DERIVE: CKA_UNIQUE_ID of the base key */
    /* What `generate` is asked for. */
    ferro_kernel_attribute attributes[2];
    unsigned char values[64];
    ferro_kernel_material material;
    /* The templates it is for, packed. */
    size_t packed_length;
    unsigned char packed[];
} ferro_recipe;

/* Packed templates: what has to be the same again. */
typedef struct ferro_packed {
    size_t length;
    unsigned char bytes[FERRO_TEMPLATE_BYTES];
} ferro_packed;

/* Add a template. Where `open`, label, id and value may be others the next time, as long as they are as long. Returns
 * 0 when it cannot be remembered: too long, templates inside, secrets where there should be none. */
int ferro_template_pack(ferro_packed *packed, const CK_ATTRIBUTE *template, CK_ULONG count, int open);

/* A recipe that is still good, with a reference of the caller's, or NULL. */
ferro_recipe *ferro_recipe_find(ferro_slot *slot, CK_FLAGS function, CK_MECHANISM_TYPE mechanism,
                                CK_OBJECT_HANDLE base, const ferro_packed *packed);

/* A new recipe with one reference and `packed` in it, or NULL. */
ferro_recipe *ferro_recipe_make(const ferro_packed *packed);
/* Add to what `generate` is asked for. Returns 0 when there is no room. */
int ferro_recipe_ask(ferro_recipe *recipe, CK_ATTRIBUTE_TYPE type, const void *value, size_t length);
/* Keep it, unless the slot's login or kernel is another by now or, for a derived key, the stamp has moved since it was
 * `stamp` (decisions.h). Takes the reference. */
void ferro_recipe_keep(ferro_recipe *recipe, unsigned long long stamp);
void ferro_recipe_release(ferro_recipe *recipe);

/* The number of a recipe that nobody has any more, 0 when there is none: what Python has of it can go. */
unsigned long long ferro_recipe_ended(void);

/* Once, before any other call. */
void ferro_recipes_prepare(void);

void ferro_recipes_forget_base(CK_OBJECT_HANDLE base);
void ferro_recipes_forget_slot(const ferro_slot *slot); /* NULL: all */
void ferro_recipes_fork_child(void);

#endif
