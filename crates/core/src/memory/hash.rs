//! How the tables of a broker in memory spread their keys: names and counted ids, all drawn in this process, so that nobody
//! has to be kept from choosing keys that collide.

use std::hash::{BuildHasher, Hasher};

/// Makes a [`Spread`] for each key.
#[derive(Default, Clone, Copy)]
pub(crate) struct Quick;

impl BuildHasher for Quick {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread(START)
    }
}

/// Takes eight bytes at a time.
pub(crate) struct Spread(u64);

/// Digits of the golden ratio and of pi, since they follow no rule that keys could follow, too.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const START: u64 = 0x243f_6a88_85a3_08d3;

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        // Tables take their places from the lower bits and their tags from the upper ones.
        (self.0 ^ (self.0 >> 32))
            .wrapping_mul(FACTOR)
            .rotate_left(32)
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
        // Both halves of the product, so that the upper bits of a word count for the lower ones as well.
        let product = u128::from(self.0 ^ word) * u128::from(FACTOR);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_ids_that_differ_little_are_spread_over_all_places() {
        let names = (0..4096).map(|n| Quick.hash_one(format!("reply_{n}")));
        let ids = (0..4096_u64).map(|n| Quick.hash_one(n));
        for hashes in [names.collect::<Vec<_>>(), ids.collect()] {
            assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), 4096);
            let places: HashSet<u64> = hashes.iter().map(|hash| hash % 4096).collect();
            // By chance it would be 63 of 100.
            assert!(places.len() > 2300, "{}", places.len());
            let tags: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            assert_eq!(tags.len(), 128);
        }
    }
}
