//! Responses that are kept in memory, for `previous_response_id` and for reading them again.
//!
//! ```text
//!   owner ── id ── Kept { response, context }      by_use: the least recently used goes first
//!                            │         │
//!                      output items  all items before, shared with the responses they came from
//! ```
//!
//! In memory and not on disk: a conversation that is gone costs its client one request with the
//! whole history, and what people say to a model at home should not lie on a card by default. An
//! item counts once, however many responses it belongs to; it goes with the last of them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::wire::{Response, ResponseItem};

/// What all kept responses together may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptLimits {
    /// Responses. A household's conversations of some days.
    pub count_max: usize,
    /// Bytes. A long conversation takes about 100 KB.
    pub bytes_max: usize,
}

impl Default for KeptLimits {
    fn default() -> Self {
        Self { count_max: 1024, bytes_max: 32_000_000 }
    }
}

/// Whose a response is: the name of a key; none on a server without keys.
pub(crate) type Owner = Option<Arc<str>>;

/// A response with all that it was made from.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) response: Response,
    /// The items it answers, those of earlier turns included; oldest first.
    pub(crate) context: Vec<Arc<ResponseItem>>,
}

impl Kept {
    /// Everything that a next response goes on from.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Arc<ResponseItem>> {
        self.context.iter().chain(&self.response.output)
    }

    /// Bytes it takes beside its items.
    fn len_bytes(&self) -> usize {
        let Response { instructions, metadata, tools, text, .. } = &self.response;
        let tools = tools.iter().map(|tool| {
            let schema = tool.parameters.as_given().map_or(0, |schema| schema.text().len());
            schema + tool.name.len() + tool.description.as_given().map_or(0, String::len)
        });
        let pairs = metadata.iter().map(|(key, text)| key.len() + text.len());
        let schema = text.format.schema.as_ref().map_or(0, |schema| schema.text().len());
        size_of::<Self>()
            + instructions.as_given().map_or(0, String::len)
            + tools.chain(pairs).sum::<usize>()
            + schema
            + self.items().count() * size_of::<Arc<ResponseItem>>()
    }
}

/// The kept responses. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct KeptResponses(Arc<Mutex<Shelf>>);

impl KeptResponses {
    /// None yet, and never more than `limits`.
    pub fn new(limits: KeptLimits) -> Self {
        Self(Arc::new(Mutex::new(Shelf { limits, ..Shelf::default() })))
    }

    /// Goes on under other limits; what is beyond them goes.
    pub fn limit(&self, limits: KeptLimits) {
        let mut shelf = self.shelf();
        shelf.limits = limits;
        shelf.make_room();
    }

    /// Keeps a response, where it fits at all; whether it does.
    pub(crate) fn keep(&self, owner: Owner, kept: Kept) -> bool {
        self.shelf().put(owner, kept)
    }

    /// A response of this owner's.
    pub(crate) fn get(&self, owner: &Owner, id: &str) -> Option<Arc<Kept>> {
        self.shelf().get(owner, id)
    }

    /// Forgets a response of this owner's; whether there was one.
    pub(crate) fn forget(&self, owner: &Owner, id: &str) -> bool {
        let mut shelf = self.shelf();
        let is_there = shelf.entries.get(id).is_some_and(|entry| entry.owner == *owner);
        is_there && shelf.take(id)
    }

    /// Those of the items with these ids that belong to responses of this owner's.
    pub(crate) fn items(
        &self,
        owner: &Owner,
        ids: &HashSet<&str>,
    ) -> HashMap<String, Arc<ResponseItem>> {
        let shelf = self.shelf();
        let own = shelf.entries.values().filter(|entry| entry.owner == *owner);
        let found = own.flat_map(|entry| entry.kept.items()).filter(|i| ids.contains(&*i.id));
        found.map(|item| (item.id.clone(), Arc::clone(item))).collect()
    }

    /// What was half done when somebody panicked is at most a count that is off.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    kept: Arc<Kept>,
    used: u64,
    own_bytes: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    limits: KeptLimits,
    entries: HashMap<String, Entry>,
    /// Ids by their last use.
    by_use: BTreeMap<u64, String>,
    uses: u64,
    /// How many entries an item belongs to, by its address: ids are the clients'.
    shares: HashMap<usize, usize>,
    bytes: usize,
}

impl Shelf {
    fn put(&mut self, owner: Owner, kept: Kept) -> bool {
        let own_bytes = kept.len_bytes();
        let alone = own_bytes + kept.items().map(|item| item.len_bytes()).sum::<usize>();
        // It would push out everything else and then itself.
        if alone > self.limits.bytes_max {
            return false;
        }
        for item in kept.items() {
            let shares = self.shares.entry(Arc::as_ptr(item).addr()).or_default();
            *shares += 1;
            if *shares == 1 {
                self.bytes += item.len_bytes();
            }
        }
        self.bytes += own_bytes;
        self.uses += 1;
        let (id, used) = (kept.response.id.clone(), self.uses);
        self.by_use.insert(used, id.clone());
        self.entries.insert(id, Entry { owner, kept: Arc::new(kept), used, own_bytes });
        self.make_room();
        // The latest is the last to go.
        !self.entries.is_empty()
    }

    fn get(&mut self, owner: &Owner, id: &str) -> Option<Arc<Kept>> {
        let entry = self.entries.get_mut(id).filter(|entry| entry.owner == *owner)?;
        self.by_use.remove(&entry.used);
        self.uses += 1;
        entry.used = self.uses;
        self.by_use.insert(self.uses, id.to_owned());
        Some(Arc::clone(&entry.kept))
    }

    fn take(&mut self, id: &str) -> bool {
        let Some(entry) = self.entries.remove(id) else { return false };
        self.by_use.remove(&entry.used);
        self.bytes -= entry.own_bytes;
        for item in entry.kept.items() {
            let address = Arc::as_ptr(item).addr();
            let Some(shares) = self.shares.get_mut(&address) else { continue };
            *shares -= 1;
            if *shares == 0 {
                self.shares.remove(&address);
                self.bytes -= item.len_bytes();
            }
        }
        true
    }

    fn make_room(&mut self) {
        while self.entries.len() > self.limits.count_max || self.bytes > self.limits.bytes_max {
            let Some((_, id)) = self.by_use.pop_first() else { return };
            self.take(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use poem_openapi::types::Example;

    use super::*;
    use crate::wire::{ResponsePart, ResponsePartType, ResponseRole};

    fn item(text: &str) -> Arc<ResponseItem> {
        let part = ResponsePart::new(ResponsePartType::InputText, text);
        Arc::new(ResponseItem::message("msg_1".to_owned(), ResponseRole::User, vec![part]))
    }

    fn kept(id: &str, context: Vec<Arc<ResponseItem>>) -> Kept {
        let response = Response { id: id.to_owned(), output: Vec::new(), ..Response::example() };
        Kept { response, context }
    }

    fn shelf(count_max: usize, bytes_max: usize) -> KeptResponses {
        KeptResponses::new(KeptLimits { count_max, bytes_max })
    }

    fn ids(responses: &KeptResponses) -> Vec<String> {
        responses.shelf().by_use.values().cloned().collect()
    }

    fn owner(name: &str) -> Owner {
        Some(name.into())
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let responses = shelf(2, usize::MAX);
        for id in ["a", "b"] {
            responses.keep(None, kept(id, vec![item("x")]));
        }
        assert!(responses.get(&None, "a").is_some());
        responses.keep(None, kept("c", Vec::new()));
        assert_eq!(ids(&responses), ["a", "c"]);
        responses.limit(KeptLimits { count_max: 1, bytes_max: usize::MAX });
        assert_eq!(ids(&responses), ["c"]);
        responses.limit(KeptLimits { count_max: 0, bytes_max: usize::MAX });
        assert!(!responses.keep(None, kept("d", Vec::new())));
        assert_eq!(ids(&responses), [""; 0]);
    }

    /// A conversation of many turns takes what its items take, not the square of it.
    #[test]
    fn an_item_counts_once_and_goes_with_its_last_response() {
        let responses = shelf(10, 1_000_000);
        let (long, short) = (item(&"x".repeat(10_000)), item("y"));
        responses.keep(None, kept("a", vec![Arc::clone(&long)]));
        let one = responses.shelf().bytes;
        responses.keep(None, kept("b", vec![Arc::clone(&long), short]));
        assert!(responses.shelf().bytes < one + 5_000);
        assert!(responses.forget(&None, "a"));
        assert!(responses.shelf().bytes > 10_000, "the other one still has it");
        assert!(responses.forget(&None, "b") && !responses.forget(&None, "b"));
        let shelf = responses.shelf();
        assert_eq!((shelf.bytes, shelf.shares.len(), shelf.by_use.len()), (0, 0, 0));
    }

    #[test]
    fn bytes_bound_what_is_kept_and_one_giant_moves_nobody() {
        let responses = shelf(10, 30_000);
        for id in ["a", "b", "c"] {
            responses.keep(None, kept(id, vec![item(&"x".repeat(10_000))]));
        }
        assert_eq!(ids(&responses), ["b", "c"]);
        assert!(!responses.keep(None, kept("giant", vec![item(&"x".repeat(40_000))])));
        assert_eq!(ids(&responses), ["b", "c"]);
    }

    #[test]
    fn nobody_sees_what_is_anothers() {
        let responses = shelf(10, usize::MAX);
        responses.keep(owner("ann"), kept("a", vec![item("x")]));
        let ids = HashSet::from(["msg_1"]);
        for other in [None, owner("bob")] {
            assert!(responses.get(&other, "a").is_none());
            assert!(!responses.forget(&other, "a"));
            assert!(responses.items(&other, &ids).is_empty());
        }
        assert_eq!(responses.items(&owner("ann"), &ids).len(), 1);
        assert!(responses.get(&owner("ann"), "a").is_some());
    }
}
