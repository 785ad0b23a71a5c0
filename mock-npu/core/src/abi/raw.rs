//! Foreign structs, read field by field at the offsets of a group's layout.

use std::ffi::{CStr, c_char, c_void};

use super::layout::StructLayout;

/// A struct that the caller of the library owns.
///
/// The duty that makes all reads sound is stated once, at [`View::new`].
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    base: *const u8,
    layout: &'a StructLayout,
    /// Where this struct begins inside the outer one.
    start: usize,
}

impl<'a> View<'a> {
    /// # Safety
    /// `base` points at `layout.size` readable bytes that stay so while the view is used, and
    /// pointers inside the struct obey the vendor's header.
    pub(crate) unsafe fn new(base: *const c_void, layout: &'a StructLayout) -> Self {
        View { base: base.cast(), layout, start: 0 }
    }

    /// The struct that a field holds by value.
    pub(crate) fn nested(&self, name: &str, layout: &'a StructLayout) -> Option<View<'a>> {
        let start = self.start + self.layout.field(name)?.offset;
        Some(View { base: self.base, layout, start })
    }

    fn at(&self, name: &str, size: usize) -> Option<*const u8> {
        let field = self.layout.field(name)?;
        debug_assert_eq!(field.size, size, "{name} is read with its own width");
        Some(self.base.wrapping_add(self.start + field.offset))
    }

    pub(crate) fn i32(&self, name: &str) -> Option<i32> {
        let at = self.at(name, 4)?.cast::<i32>();
        // SAFETY: in bounds by the duty of `new`; any bit pattern is an i32.
        Some(unsafe { at.read_unaligned() })
    }

    pub(crate) fn f32(&self, name: &str) -> Option<f32> {
        let at = self.at(name, 4)?.cast::<f32>();
        // SAFETY: in bounds by the duty of `new`; any bit pattern is an f32.
        Some(unsafe { at.read_unaligned() })
    }

    pub(crate) fn u8(&self, name: &str) -> Option<u8> {
        let at = self.at(name, 1)?;
        // SAFETY: in bounds by the duty of `new`; any bit pattern is a u8.
        Some(unsafe { at.read_unaligned() })
    }

    pub(crate) fn usize(&self, name: &str) -> Option<usize> {
        let at = self.at(name, 8)?.cast::<usize>();
        // SAFETY: in bounds by the duty of `new`; any bit pattern is a usize.
        Some(unsafe { at.read_unaligned() })
    }

    pub(crate) fn pointer(&self, name: &str) -> Option<*const c_void> {
        let at = self.at(name, 8)?.cast::<*const c_void>();
        // SAFETY: in bounds by the duty of `new`; any bit pattern is a raw pointer.
        Some(unsafe { at.read_unaligned() })
    }

    /// A string field; `None` when the group lacks it, `Some(None)` when it is NULL.
    pub(crate) fn text(&self, name: &str) -> Option<Option<Vec<u8>>> {
        let pointer = self.pointer(name)?.cast::<c_char>();
        // SAFETY: strings inside the struct are NUL-terminated by the duty of `new`.
        Some(unsafe { bytes_of(pointer) })
    }
}

/// The bytes of a C string, `None` for NULL.
///
/// # Safety
/// `pointer` is NULL or points at a NUL-terminated string.
pub(crate) unsafe fn bytes_of(pointer: *const c_char) -> Option<Vec<u8>> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: not NULL, and NUL-terminated by the caller's duty.
    Some(unsafe { CStr::from_ptr(pointer) }.to_bytes().to_vec())
}

/// An array that a pointer and a length describe, copied.
///
/// # Safety
/// `pointer` points at `len` readable values of `T`.
pub(crate) unsafe fn array_of<T: Copy>(pointer: *const c_void, len: usize) -> Vec<T> {
    if pointer.is_null() || len == 0 {
        return Vec::new();
    }
    // SAFETY: `len` values by the caller's duty; the vendor's callers align their arrays.
    unsafe { std::slice::from_raw_parts(pointer.cast::<T>(), len) }.to_vec()
}
