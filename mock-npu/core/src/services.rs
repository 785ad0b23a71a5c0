//! What a caller of group F does for a model file that has no tokenizer or embedding of its own.

use std::ffi::{c_char, c_int, c_void};

type TokenizerCallback =
    unsafe extern "C" fn(*mut c_void, *const c_char, i32, *mut i32, i32) -> c_int;
type EmbedCallback = unsafe extern "C" fn(*mut c_void, *mut i32, u64, *mut c_void, u64) -> c_int;

/// The caller's functions, each with its pointer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Services {
    pub(crate) tokenizer: Option<(TokenizerCallback, usize)>,
    pub(crate) embed: Option<(EmbedCallback, usize)>,
}

impl Services {
    /// Decodes nullable function pointers.
    ///
    /// # Safety
    /// Each pointer is NULL or a function of the vendor's type.
    pub(crate) unsafe fn new(
        tokenizer: (*const c_void, *const c_void),
        embed: (*const c_void, *const c_void),
    ) -> Services {
        // SAFETY: optional function pointers are nullable pointers; the type is the caller's duty.
        let tokenize =
            unsafe { std::mem::transmute::<*const c_void, Option<TokenizerCallback>>(tokenizer.0) };
        // SAFETY: as above.
        let embedding =
            unsafe { std::mem::transmute::<*const c_void, Option<EmbedCallback>>(embed.0) };
        Services {
            tokenizer: tokenize.map(|function| (function, tokenizer.1 as usize)),
            embed: embedding.map(|function| (function, embed.1 as usize)),
        }
    }

    /// Ids of a text; at most `ids_max`.
    pub(crate) fn tokenize(&self, text: &str, ids_max: usize) -> Option<Vec<u32>> {
        let (function, userdata) = self.tokenizer?;
        let mut ids = vec![0i32; ids_max];
        let userdata = userdata as *mut c_void;
        let mut text = text.as_bytes().to_vec();
        let len = text.len() as i32;
        text.push(0);
        // SAFETY: the caller's function obeys the vendor's header; text and ids have the lengths
        // that it is told.
        let count = unsafe {
            function(userdata, text.as_ptr().cast(), len, ids.as_mut_ptr(), ids_max as i32)
        };
        ids.truncate(usize::try_from(count).ok().filter(|count| *count <= ids_max)?);
        ids.into_iter().map(|id| u32::try_from(id).ok()).collect()
    }

    /// A row of `width` floats per id.
    pub(crate) fn embed(&self, ids: &[u32], width: usize) -> Option<Vec<f32>> {
        let (function, userdata) = self.embed?;
        let mut ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
        let mut rows = vec![0f32; ids.len() * width];
        let bytes = (rows.len() * size_of::<f32>()) as u64;
        let (userdata, out) = (userdata as *mut c_void, rows.as_mut_ptr().cast());
        // SAFETY: the caller's function obeys the vendor's header; ids and rows have the lengths
        // that it is told.
        let returned =
            unsafe { function(userdata, ids.as_mut_ptr(), ids.len() as u64, out, bytes) };
        (returned == 0).then_some(rows)
    }
}
