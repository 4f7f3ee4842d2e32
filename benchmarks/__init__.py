"""The benchmark suite: any PKCS#11 modules and the raw engine, timed in turns through the C ABI."""
