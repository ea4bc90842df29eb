//! How tables of ids from the network spread their keys: quick, and by numbers that nobody outside of this process knows, so
//! that keys cannot be chosen to collide.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Makes a [`Spread`] for each key.
#[derive(Debug, Clone)]
pub(crate) struct Keyed {
    start: u64,
    factor: u64,
}

impl Default for Keyed {
    fn default() -> Self {
        let drawn = RandomState::new();
        Self {
            start: drawn.hash_one(0),
            // Odd, so that no bit is lost.
            factor: drawn.hash_one(1) | 1,
        }
    }
}

impl BuildHasher for Keyed {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread {
            state: self.start,
            factor: self.factor,
        }
    }
}

/// Folds eight bytes at a time.
pub(crate) struct Spread {
    state: u64,
    factor: u64,
}

/// Digits of the golden ratio.
const LAST: u64 = 0x9e37_79b9_7f4a_7c15;

fn fold(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product >> 64) as u64 ^ product as u64
}

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        fold(self.state, LAST)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.factor);
    }

    fn write_u128(&mut self, number: u128) {
        self.write_u64(number as u64);
        self.write_u64((number >> 64) as u64);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_that_differ_little_are_spread_and_each_table_spreads_them_otherwise() {
        let (one, other) = (Keyed::default(), Keyed::default());
        let counted = (0..4096_u128).map(|n| one.hash_one(n));
        let shifted = (0..4096_u128).map(|n| one.hash_one(n << 80));
        let texts = (0..4096).map(|n| one.hash_one(format!("req-{n}")));
        for hashes in [
            counted.collect::<Vec<_>>(),
            shifted.collect(),
            texts.collect(),
        ] {
            assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 4096);
            let places: HashSet<u64> = hashes.iter().map(|hash| hash % 4096).collect();
            // By chance it would be 63 of 100.
            assert!(places.len() > 2300, "{}", places.len());
            let tags: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            assert_eq!(tags.len(), 128);
        }
        assert_ne!(one.hash_one(7_u128), other.hash_one(7_u128));
    }
}
