/* What a row's `variant` says to its family. */
#ifndef FERRO_KERNELS_VARIANTS_H
#define FERRO_KERNELS_VARIANTS_H 1

#include "kernel.h"

enum { FERRO_HMAC, FERRO_HMAC_GENERAL, FERRO_CMAC, FERRO_CMAC_GENERAL };
enum { FERRO_AES_ECB, FERRO_AES_CBC, FERRO_AES_CBC_PAD, FERRO_AES_CTR, FERRO_AES_GCM };
enum { FERRO_RSA_PKCS, FERRO_RSA_X_509, FERRO_RSA_PSS, FERRO_RSA_OAEP };
/* Of a message, of its hash, of a hash that the caller gives. */
enum { FERRO_PURE, FERRO_HASHED, FERRO_GIVEN };

#endif
