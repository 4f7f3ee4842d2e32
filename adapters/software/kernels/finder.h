/* Finding objects in a token's file by their name: see ferrohsm_finder.h and ferrohsm/store/index.py. */
#ifndef FERRO_KERNELS_FINDER_H
#define FERRO_KERNELS_FINDER_H 1

#include "ferrohsm_finder.h"
#include "sqlite.h"

enum { FERRO_FINDER_KEY = 32, FERRO_FINDER_NAME = 16 };

/* `serial` is the token's name in what its MACs bind, 16 bytes. NULL without memory. */
ferro_finder *ferro_finder_make(const uint8_t *serial);
/* Close it, and give it back. */
void ferro_finder_free(ferro_finder *finder);

/*
 * Open the file for the token of this incarnation. Keys are 32 bytes each: of the public index, of the
 * chain and of public objects. `pragmas` are executed first. Returns CKR_OK, or why it was not opened.
 */
CK_RV ferro_finder_open(ferro_finder *finder, const ferro_sqlite *sqlite, const char *uri, const char *pragmas,
                        const uint8_t *incarnation, const uint8_t *const keys[3]);
/* Close the file. The keys of a login stay. */
void ferro_finder_close(ferro_finder *finder);
int ferro_finder_is_open(ferro_finder *finder);

/* The keys of the user's login: of the private index, and of what is sealed. */
CK_RV ferro_finder_log_in(ferro_finder *finder, const uint8_t *incarnation, const uint8_t *index, const uint8_t *seal);
void ferro_finder_log_out(ferro_finder *finder);

/* In the child of a fork: what the parent had open is not touched any more, and the finder never answers. */
void ferro_finder_abandon(ferro_finder *finder);

#endif
