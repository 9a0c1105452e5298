#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| samepath_tests::fuzz::membership(input));
