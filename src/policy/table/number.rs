//! Numbers for things, and tables by numbers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by two numbers in one. The operator's file has made them, so nobody can make them collide on purpose.
pub(super) type Numbered<T> = HashMap<u64, T, BuildHasherDefault<Mixer>>;

/// How many things there are before this one. A rules file is far too small for more than fit.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Two numbers in one.
pub(super) const fn pair(high: u32, low: u32) -> u64 {
    (high as u64) << 32 | low as u64
}

/// The two numbers of a pair.
pub(super) const fn parts(pair: u64) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}

/// One of 64 bits for a number.
pub(super) const fn bit(number: u32) -> u64 {
    1 << (mixed(number as u64) >> 58)
}

const fn mixed(number: u64) -> u64 {
    let product = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    product ^ (product >> 32)
}

/// Spreads numbers over a table.
#[derive(Default)]
pub(super) struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = mixed(self.0 ^ number);
    }
}
