/* Call a function of the module, and write down what the vector registers hold when it returns. */
#define WIDE 64 /* bytes that each of the registers gets */

/* Numbers and addresses are passed alike; a function with fewer arguments does not see the others. */
typedef unsigned long (*function_of_five)(unsigned long, unsigned long, unsigned long, unsigned long, unsigned long);

#define LOW(n) "movdqu %%xmm" #n ", " #n "*64(%0)\n\t"
#define MIDDLE(n) "vmovdqu %%ymm" #n ", " #n "*64(%0)\n\t"
#define HIGH(n) "vmovdqu64 %%zmm" #n ", " #n "*64(%0)\n\t"
#define SIXTEEN(one) \
    one(0) one(1) one(2) one(3) one(4) one(5) one(6) one(7) one(8) one(9) one(10) one(11) one(12) one(13) one(14) one(15)
#define SIXTEEN_MORE(one) \
    one(16) one(17) one(18) one(19) one(20) one(21) one(22) one(23) one(24) one(25) one(26) one(27) one(28) one(29) one(30) \
        one(31)

unsigned long call(function_of_five function, const unsigned long arguments[5], unsigned char registers[32 * WIDE])
{
    unsigned long rv = function(arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]);

    if (__builtin_cpu_supports("avx512f"))
        __asm__ volatile(SIXTEEN(HIGH) SIXTEEN_MORE(HIGH)::"r"(registers) : "memory");
    else if (__builtin_cpu_supports("avx"))
        __asm__ volatile(SIXTEEN(MIDDLE)::"r"(registers) : "memory");
    else
        __asm__ volatile(SIXTEEN(LOW)::"r"(registers) : "memory");
    return rv;
}
