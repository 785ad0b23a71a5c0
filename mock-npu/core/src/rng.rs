//! A hash and a stream of random numbers: the only sources of chance in the mock.
//!
//! Both are fixed functions of their seeds, so that the same prompt and parameters give the same
//! answer on every machine and in every build.

/// Mixes a word into a hash (the finaliser of splitmix64 over a running sum).
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let mut x = hash.wrapping_add(word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Hash of bytes.
pub(crate) fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(mix(seed, bytes.len() as u64), |hash, &byte| mix(hash, u64::from(byte)))
}

/// A hash as a number in [0, 1).
pub(crate) fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// A stream of numbers from one seed.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    seed: u64,
    drawn: u64,
}

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Stream { seed, drawn: 0 }
    }

    /// The next number in [0, 1).
    pub(crate) fn next_unit(&mut self) -> f64 {
        self.drawn += 1;
        unit(mix(self.seed, self.drawn))
    }
}
