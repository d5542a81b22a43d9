#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ftpgate_fuzz::reply(data));
