//! Arbitrary bytes as a broker's: no panic, and the same verdict however they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| oslo_messaging_amqp::internals::feed(bytes));
