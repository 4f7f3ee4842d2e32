/* The installation is replaced under a running program: what is loaded works on, and nothing of the new build is mixed
 * into it. The second argument is the file with the build's identity, the third "replaced" or "removed". */
#include "host.h"

static CK_OBJECT_HANDLE aes_key(CK_SESSION_HANDLE session)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG length = 16;
    CK_OBJECT_HANDLE key;
    CK_ATTRIBUTE template[] = {
        {CKA_VALUE_LEN, &length, sizeof length}, {CKA_PRIVATE, &no, sizeof no},   {CKA_TOKEN, &no, sizeof no},
        {CKA_EXTRACTABLE, &yes, sizeof yes},     {CKA_WRAP, &yes, sizeof yes},
    };
    OK(p11->C_GenerateKey(session, &mechanism, template, sizeof template / sizeof template[0], &key));
    return key;
}

static CK_RV wrap(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    CK_MECHANISM mechanism = {CKM_AES_KEY_WRAP, NULL, 0};
    CK_BYTE wrapped[64];
    CK_ULONG length = sizeof wrapped;
    return p11->C_WrapKey(session, &mechanism, key, key, wrapped, &length);
}

static void write_file(const char *path, const char *text, size_t length)
{
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fwrite(text, 1, length, file) == length && fclose(file) == 0);
}

int main(int argc, char **argv)
{
    static const char other[] = "BUILD_ID = \"another\"\n";
    char build[1024];
    CHECK(argc > 3);
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    CK_SESSION_HANDLE session = open_session(token_slot());
    CK_OBJECT_HANDLE mac = mac_key(session), key = aes_key(session);
    sign(session, mac);

    FILE *file = fopen(argv[2], "r");
    CHECK(file != NULL);
    size_t length = fread(build, 1, sizeof build, file);
    fclose(file);
    CHECK(unlink(argv[2]) == 0);
    if (strcmp(argv[3], "replaced") == 0)
        write_file(argv[2], other, sizeof other - 1);

    /* Wrapping needs a module that was not needed before. */
    EXPECT(CKR_GENERAL_ERROR, wrap(session, key));
    EXPECT(CKR_GENERAL_ERROR, wrap(session, key));
    sign(session, mac);

    /* The same build installed anew is no upgrade. */
    write_file(argv[2], build, length);
    OK(wrap(session, key));
    sign(session, mac);
    OK(p11->C_Finalize(NULL));
    return 0;
}
