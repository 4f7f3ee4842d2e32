/* Reading memory that may not be there. */
#ifndef FERRO_PEEK_H
#define FERRO_PEEK_H

#include "pkcs11.h"

/* Copy the CK_ULONG at an address that may name no memory of this process: 1 when it could be read, else 0. No fault. */
int ferro_peek(CK_ULONG address, CK_ULONG *value);

#endif
