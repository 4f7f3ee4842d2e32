/* The Python environment that libpkcs11 is installed in, found from its own path. */
#ifndef FERROHSM_ENVIRONMENT_H
#define FERROHSM_ENVIRONMENT_H

#include "platform.h"

/* Write the site-packages folder: libpkcs11 is <site>/pkcs11_abi/libpkcs11.so. */
void ferro_environment_site(const char *module_path, char *site);

/* Find and open the environment's libpython and write the path of its Python program, which tells Python where its
 * library and its site-packages are. NULL, with the reason in `message`, if there is no shared libpython. */
void *ferro_environment_library(const char *module_path, char *executable, char *message, size_t size);

/* Write the program that belongs to a libpython which is open already (one of its addresses is given); empty if there
 * is none. */
void ferro_environment_executable(const char *module_path, const void *address, char *executable);

#endif
