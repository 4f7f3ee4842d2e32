/* The kernels as one table. */
#include <openssl/opensslv.h>

#include "kernel.h"

static const ferro_kernel table = {
    .version = FERRO_KERNEL_VERSION,
    .size = sizeof(ferro_kernel),
    .name = "software (" OPENSSL_VERSION_TEXT ")",
    .serves = ferro_serves,
    .key_load = ferro_key_load,
    .key_retain = ferro_key_retain,
    .key_release = ferro_key_release,
    .begin = ferro_begin,
    .multi_part = ferro_multi_part,
    .once_length = ferro_once_length,
    .update_length = ferro_update_length,
    .finish_length = ferro_finish_length,
    .once = ferro_once,
    .update = ferro_update,
    .finish = ferro_finish,
    .verify = ferro_verify,
    .finish_verify = ferro_finish_verify,
    .op_reset = ferro_op_reset,
    .op_release = ferro_op_release,
    .derive = ferro_derive,
    .generate = ferro_generate,
    .generated_release = ferro_generated_release,
    .random = ferro_random,
    .seed = ferro_seed,
    .stop = ferro_stop,
    .fork_child = ferro_fork_child,
    .op_copy = ferro_op_copy,
    .derive_key = ferro_derive_key,
    .keep = ferro_keep,
    .encapsulate_key = ferro_encapsulate_key,
    .decapsulate_key = ferro_decapsulate_key,
};

const ferro_kernel *ferro_software_kernel(void)
{
    ferro_objects_watch_forks();
    return &table;
}
