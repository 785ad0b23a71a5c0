//! The keys that let clients in.

use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
};

use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::usage::Usage;

/// A SHA-256 digest.
type KeyDigest = [u8; 32];

/// What a key's owner may take of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// Requests in any minute; `None` means as many as come.
    pub requests_per_minute: Option<NonZeroU32>,
    /// Requests at once, from the head to the last byte of the answer.
    pub concurrent_max: Option<NonZeroU32>,
}

/// A key. Not the secret itself: its digest, so that no dump of memory and no log gives it away.
#[derive(Clone)]
pub struct ApiKey {
    name: Arc<str>,
    digest: KeyDigest,
    limits: KeyLimits,
}

/// A text that is no SHA-256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is 64 hexadecimal digits")]
pub struct InvalidDigest;

impl ApiKey {
    /// The key `secret`, called `name` in logs and where clients take turns.
    pub fn new(name: &str, secret: &str, limits: KeyLimits) -> Self {
        Self { name: name.into(), digest: digest(secret), limits }
    }

    /// A key of which only the SHA-256 digest of the secret is known, in hexadecimal digits.
    ///
    /// # Errors
    /// [`InvalidDigest`].
    pub fn of_digest(name: &str, hex: &str, limits: KeyLimits) -> Result<Self, InvalidDigest> {
        let mut digest = KeyDigest::default();
        if hex.len() != 2 * digest.len() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidDigest);
        }
        for (byte, at) in digest.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self { name: name.into(), digest, limits })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) const fn limits(&self) -> KeyLimits {
        self.limits
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn digest(secret: &str) -> KeyDigest {
    Sha256::digest(secret.as_bytes()).into()
}

/// A key and what has been done with it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: ApiKey,
    pub(super) usage: Arc<Usage>,
}

/// The keys of a server: a handle, whose copies all mean the same keys.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<RwLock<Arc<[Entry]>>>);

impl Keys {
    /// These keys, unused so far.
    pub fn new(keys: Vec<ApiKey>) -> Self {
        let handle = Self::default();
        handle.replace(keys);
        handle
    }

    /// Lets in these keys from now on, and no others. Running requests go on. A key that keeps its
    /// name keeps the count of what has been done with it.
    pub fn replace(&self, keys: Vec<ApiKey>) {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let known = |name: &str| entries.iter().find(|entry| entry.key.name() == name);
        let new = keys.into_iter().map(|key| {
            let usage = known(key.name()).map(|entry| Arc::clone(&entry.usage));
            Entry { usage: usage.unwrap_or_default(), key }
        });
        let new = new.collect();
        *entries = new;
    }

    /// Whether there are none, so that everybody is let in.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    fn entries(&self) -> Arc<[Entry]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key whose secret this is. Takes as long for one secret as for another: all keys are
    /// compared, each to its last byte, and the digest hides how much of a secret was right.
    pub(super) fn find(&self, secret: &str) -> Option<Entry> {
        let digest = digest(secret);
        let entries = self.entries();
        let (mut found, mut index) = (Choice::from(0), 0);
        for (at, entry) in (0_u32..).zip(entries.iter()) {
            let is_this = digest.ct_eq(&entry.key.digest);
            index.conditional_assign(&at, is_this);
            found |= is_this;
        }
        let entry = usize::try_from(index).ok().and_then(|index| entries.get(index));
        entry.filter(|_| bool::from(found)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str, secret: &str) -> ApiKey {
        ApiKey::new(name, secret, KeyLimits::default())
    }

    fn found(keys: &Keys, secret: &str) -> Option<String> {
        keys.find(secret).map(|entry| entry.key.name().to_owned())
    }

    #[test]
    fn a_key_is_found_by_its_whole_secret() {
        let keys = Keys::new(vec![key("a", "first"), key("b", "second")]);
        assert_eq!(found(&keys, "first").as_deref(), Some("a"));
        assert_eq!(found(&keys, "second").as_deref(), Some("b"));
        for wrong in ["", "firs", "first ", "First", "firstsecond", "a"] {
            assert_eq!(found(&keys, wrong), None, "{wrong}");
        }
        assert_eq!(found(&Keys::default(), ""), None);
    }

    #[test]
    fn a_digest_stands_for_its_secret() {
        // As `printf first | sha256sum` prints it.
        let hex = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
        let of_digest = |hex: &str| ApiKey::of_digest("a", hex, KeyLimits::default());
        let keys = Keys::new(vec![of_digest(hex).unwrap()]);
        assert_eq!(found(&keys, "first").as_deref(), Some("a"));
        assert_eq!(found(&keys, hex), None);
        assert!(of_digest(&hex.to_uppercase()).is_ok());
        for wrong in ["", "abc", &hex[1..], &hex.replace('a', "g"), &hex.replacen("a7", "é", 1)] {
            assert_eq!(of_digest(wrong).unwrap_err(), InvalidDigest, "{wrong}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        let keys = Keys::new(vec![key("a", "first")]);
        let text = format!("{keys:?}");
        assert!(text.contains("\"a\"") && !text.contains("first"), "{text}");
        assert!(!text.contains("digest"), "{text}");
    }

    #[test]
    fn all_copies_see_the_keys_that_replaced_others() {
        let keys = Keys::new(vec![key("a", "first"), key("b", "second")]);
        let copy = keys.clone();
        let usage = keys.find("second").unwrap().usage;
        copy.replace(vec![key("b", "third")]);
        assert_eq!(found(&keys, "first"), None);
        assert_eq!(found(&keys, "second"), None);
        let b = keys.find("third").expect("it is there");
        assert!(Arc::ptr_eq(&b.usage, &usage), "b was used before");
        copy.replace(Vec::new());
        assert!(keys.is_empty());
    }
}
