//! Which structures a loaded library uses, seen from what its `rkllm_createDefaultParam` writes.
//!
//! No symbol separates 1.2.1 from 1.3, and calling init with the wrong structure crashes, so the
//! version string alone is not believed. The function needs no NPU. It returns its structure through
//! a hidden pointer: into a buffer of ours, filled with one value and then with another. A byte that
//! is the same after both calls was written.

use std::fmt;

/// `rkllm_createDefaultParam` as a register-level function: on x86-64 the hidden pointer is the first
/// argument and comes back as the result.
#[cfg(target_arch = "x86_64")]
pub(crate) type DefaultParamFn = unsafe extern "C" fn(*mut u8) -> *mut u8;

/// `rkllm_createDefaultParam` as a register-level function: on aarch64 the hidden pointer is in x8,
/// which no Rust signature names; `call_with_x8` puts it there.
#[cfg(target_arch = "aarch64")]
pub(crate) type DefaultParamFn = unsafe extern "C" fn();

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the vendor's library exists for aarch64; x86-64 is supported for development");

/// Room for the structure: the largest known has 208 bytes, so one that grew does not overflow.
const BUFFER_BYTES: usize = 1024;

/// Where the default parameters are put. Aligned as the structure would be.
#[repr(C, align(16))]
pub(crate) struct Buffer(pub(crate) [u8; BUFFER_BYTES]);

impl Buffer {
    pub(crate) const fn filled(with: u8) -> Self {
        Self([with; BUFFER_BYTES])
    }
}

/// Has the library write its default parameters into `buffer`.
///
/// # Safety
/// `function` is the library's `rkllm_createDefaultParam`, which returns a structure of at most
/// 1024 bytes by value.
pub(crate) unsafe fn write_defaults(function: DefaultParamFn, buffer: &mut Buffer) {
    let to = buffer.0.as_mut_ptr();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise; `to` is writable for the whole buffer and aligned.
    unsafe {
        function(to);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, and the shim does nothing but set x8 and jump.
    unsafe {
        call_with_x8(to, function);
    }
}

/// Calls `function` with x8 = `buffer`. x0 holds garbage to it, which it does not read: it takes no
/// argument. It returns to our caller.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn call_with_x8(buffer: *mut u8, function: DefaultParamFn) {
    // The jump goes through x16, which branch protection accepts as a call.
    core::arch::naked_asm!("hint #34", "mov x8, x0", "mov x16, x1", "br x16")
}

/// The structures a library uses, as far as its default parameters tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// 1.1.
    C,
    /// 1.2.0 and 1.2.1b1, which do not differ here.
    D,
    /// 1.2.1 to 1.2.3.
    E,
    /// 1.3.
    F,
    /// None of the known ones.
    Unknown,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::C => "those of 1.1",
            Self::D => "those of 1.2.0",
            Self::E => "those of 1.2.1 to 1.2.3",
            Self::F => "those of 1.3",
            Self::Unknown => "unknown ones",
        })
    }
}

/// Calls the function twice and looks at what it wrote.
///
/// # Safety
/// As [`write_defaults`].
pub(crate) unsafe fn fingerprint(function: DefaultParamFn) -> Layout {
    let mut first = Buffer::filled(0x5A);
    let mut second = Buffer::filled(0xC3);
    // SAFETY: the caller's promise.
    unsafe { write_defaults(function, &mut first) };
    // SAFETY: the caller's promise.
    unsafe { write_defaults(function, &mut second) };
    Written { first: &first.0, second: &second.0 }.layout()
}

/// The default parameters as two differently filled buffers.
struct Written<'a> {
    first: &'a [u8; BUFFER_BYTES],
    second: &'a [u8; BUFFER_BYTES],
}

impl Written<'_> {
    fn layout(&self) -> Layout {
        // Since 1.2.0 the number of kept tokens stands where 1.1 has the nucleus mass.
        if self.f32(20).is_some_and(|top_p| top_p > 0.0 && top_p <= 1.0) {
            return Layout::C;
        }
        let is_12_or_later = self.i32(20) == Some(-1)
            && self.f32(24).is_some_and(|top_p| (top_p - 0.9).abs() < 0.05);
        if !is_12_or_later {
            return Layout::Unknown;
        }
        if self.is_f() {
            return Layout::F;
        }
        let has_image_tags = (64..88).all(|at| self.byte(at).is_some());
        if !has_image_tags || !self.cpus_at(93) {
            return Layout::Unknown;
        }
        // The number of batches, which 1.2.1 introduced.
        if self.byte(100) == Some(1) { Layout::E } else { Layout::D }
    }

    /// In 1.3 the image tags are gone and the extension stands at 60.
    fn is_f(&self) -> bool {
        let ends_within = match self.last() {
            Some(last) => last < 88 || last == 183,
            None => false,
        };
        self.i32(60) == Some(0)
            && self.byte(64).is_some_and(|embed_flash| embed_flash <= 1)
            && self.cpus_at(65)
            && ends_within
    }

    fn cpus_at(&self, at: usize) -> bool {
        self.byte(at).is_some_and(|cpus| (1..=8).contains(&cpus))
    }

    /// The byte at `at`, if it was written.
    fn byte(&self, at: usize) -> Option<u8> {
        (self.first[at] == self.second[at]).then(|| self.first[at])
    }

    fn four(&self, at: usize) -> Option<[u8; 4]> {
        Some([self.byte(at)?, self.byte(at + 1)?, self.byte(at + 2)?, self.byte(at + 3)?])
    }

    fn i32(&self, at: usize) -> Option<i32> {
        self.four(at).map(i32::from_le_bytes)
    }

    fn f32(&self, at: usize) -> Option<f32> {
        self.four(at).map(f32::from_le_bytes)
    }

    fn last(&self) -> Option<usize> {
        (0..BUFFER_BYTES).rev().find(|&at| self.byte(at).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes an imitation's defaults into a buffer, field by field as the vendor does.
    struct Writer<'a>(&'a mut [u8; BUFFER_BYTES]);

    impl Writer<'_> {
        fn put(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
            self
        }

        fn i32(&mut self, at: usize, value: i32) -> &mut Self {
            self.put(at, &value.to_le_bytes())
        }

        fn f32(&mut self, at: usize, value: f32) -> &mut Self {
            self.put(at, &value.to_le_bytes())
        }

        fn pointer(&mut self, at: usize) -> &mut Self {
            self.put(at, &0x7f12_3456_7800_u64.to_le_bytes())
        }

        /// The scalars from `max_context_len` to `mirostat_eta`; `n_keep` is missing in 1.1.
        fn scalars(&mut self, has_n_keep: bool) -> &mut Self {
            self.put(0, &[0; 8]).i32(8, 512).i32(12, -1).i32(16, 40);
            let mut at = 20;
            if has_n_keep {
                self.i32(at, -1);
                at += 4;
            }
            for value in [0.9, 0.8, 1.1, 0.0, 0.0] {
                self.f32(at, value);
                at += 4;
            }
            self.i32(at, 0).f32(at + 4, 5.0).f32(at + 8, 0.1);
            self
        }

        fn extend(&mut self, at: usize, has_batch: bool) -> &mut Self {
            self.i32(at, 0).put(at + 4, &[1, 4]).i32(at + 8, 0xF0);
            if has_batch {
                self.put(at + 12, &[1, 0]);
            }
            self
        }
    }

    fn c(out: &mut [u8; BUFFER_BYTES]) {
        let mut out = Writer(out);
        out.scalars(false).put(52, &[1, 0]).pointer(56).pointer(64).pointer(72).i32(80, 0);
    }

    fn d(out: &mut [u8; BUFFER_BYTES]) {
        let mut out = Writer(out);
        out.scalars(true).put(56, &[1, 0]).pointer(64).pointer(72).pointer(80).extend(88, false);
    }

    fn e(out: &mut [u8; BUFFER_BYTES]) {
        let mut out = Writer(out);
        out.scalars(true).put(56, &[1, 0]).pointer(64).pointer(72).pointer(80).extend(88, true);
    }

    fn f(out: &mut [u8; BUFFER_BYTES]) {
        Writer(out).scalars(true).put(56, &[1, 0, 0]).extend(60, true);
    }

    fn cleared(size: usize, fill: fn(&mut [u8; BUFFER_BYTES])) -> impl Fn(&mut [u8; BUFFER_BYTES]) {
        move |out| {
            out[..size].fill(0);
            fill(out);
        }
    }

    fn seen(fill: impl Fn(&mut [u8; BUFFER_BYTES])) -> Layout {
        let (mut first, mut second) = ([0x5A; BUFFER_BYTES], [0xC3; BUFFER_BYTES]);
        fill(&mut first);
        fill(&mut second);
        Written { first: &first, second: &second }.layout()
    }

    #[test]
    fn each_group_is_recognised() {
        assert_eq!(seen(c), Layout::C);
        assert_eq!(seen(d), Layout::D);
        assert_eq!(seen(e), Layout::E);
        assert_eq!(seen(f), Layout::F);
    }

    #[test]
    fn each_group_is_recognised_where_it_clears_the_structure_first() {
        assert_eq!(seen(cleared(200, c)), Layout::C);
        assert_eq!(seen(cleared(208, d)), Layout::D);
        assert_eq!(seen(cleared(208, e)), Layout::E);
        assert_eq!(seen(cleared(184, f)), Layout::F);
    }

    #[test]
    fn what_is_none_of_them_is_unknown() {
        assert_eq!(seen(|_| {}), Layout::Unknown);
        assert_eq!(seen(|out| out[..208].fill(0)), Layout::Unknown);
        // Like 1.3, but with more behind it.
        let grown = |out: &mut [u8; BUFFER_BYTES]| {
            f(out);
            Writer(out).i32(200, 7);
        };
        assert_eq!(seen(grown), Layout::Unknown);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_function_is_called_with_a_buffer_of_ours() {
        unsafe extern "C" fn imitation(to: *mut u8) -> *mut u8 {
            // SAFETY: `write_defaults` passes a buffer of this size that nobody else holds.
            f(unsafe { &mut *to.cast::<[u8; BUFFER_BYTES]>() });
            to
        }
        // SAFETY: `imitation` writes within the buffer, as the promise asks.
        assert_eq!(unsafe { fingerprint(imitation) }, Layout::F);
    }

    /// On aarch64 a Rust function that returns a large structure takes the hidden pointer in x8,
    /// just as the vendor's does.
    #[test]
    #[cfg(target_arch = "aarch64")]
    fn the_function_is_called_with_a_buffer_of_ours() {
        #[repr(C, align(8))]
        struct Param([u8; 184]);
        extern "C" fn imitation() -> Param {
            let mut whole = [0; BUFFER_BYTES];
            f(&mut whole);
            let mut param = Param([0; 184]);
            param.0.copy_from_slice(&whole[..184]);
            param
        }
        type Imitation = extern "C" fn() -> Param;
        // SAFETY: both are function pointers; the shim calls it with the registers it expects.
        let function = unsafe { std::mem::transmute::<Imitation, DefaultParamFn>(imitation) };
        // SAFETY: `imitation` writes within the buffer, as the promise asks.
        assert_eq!(unsafe { fingerprint(function) }, Layout::F);
    }
}
