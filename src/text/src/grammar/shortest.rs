//! The shortest way to the end of a JSON text.
//!
//! Every legal beginning can be completed, so any walk gets nearer or stays legal; what has to be
//! avoided is walking in circles (a recursive schema, `a*` in a pattern) and looking at too much. A
//! best-first search by length does that: bytes that lead to the same state of the lexer are the
//! same, and so are places of which the open containers and the state of the lexer are the same.
//! The second is not quite so (two options of an `anyOf` may look alike at a comma), and so
//! a search that runs out of steps is repeated telling more places apart.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashSet},
    rc::Rc,
};

use super::{
    GrammarError,
    json::{Explorer, JsonText},
    scan::{Scan, is_blank},
};

/// Places looked at in one search.
const PLACES_MAX: usize = 20_000;
/// Bytes of a completion found without a search.
const GREEDY_LEN_MAX: usize = 65_536;

/// A place ahead of the text.
struct Place {
    /// The way to it.
    bytes: Vec<u8>,
    scan: Scan,
    /// For each open container, what is known of the way to it and in it.
    frames: Vec<u64>,
    /// A lower bound of the length of the whole completion.
    len_min: usize,
}

/// What tells places apart in a search.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// The lexer's states where containers were opened and where one is.
    States,
    /// Also those at all values on the way, in open containers.
    History,
}

/// The bytes that complete the text, few if not fewest.
pub(super) fn completion(text: &mut JsonText) -> Result<Vec<u8>, GrammarError> {
    if text.can_end()? {
        return Ok(Vec::new());
    }
    let scan = text.scan().clone();
    let found = text.explore(|explorer| {
        search(explorer, &scan, Detail::States)
            .or_else(|| search(explorer, &scan, Detail::History))
            .or_else(|| greedy(explorer, &scan))
    })?;
    found.ok_or_else(|| GrammarError::Lost { reason: "no short completion is known".to_owned() })
}

fn search(explorer: &mut Explorer<'_, '_>, scan: &Scan, detail: Detail) -> Option<Vec<u8>> {
    let mut queue = BinaryHeap::new();
    let mut seen = HashSet::new();
    let mut at: Vec<u8> = Vec::new();
    queue.push(Reverse(Place {
        bytes: Vec::new(),
        scan: scan.clone(),
        frames: vec![0; scan.depth() + 1],
        len_min: scan.depth(),
    }));
    let mut found = None;
    for _ in 0..PLACES_MAX {
        let Some(Reverse(place)) = queue.pop() else { break };
        go(explorer, &mut at, &place, scan);
        if is_end(explorer) {
            found = Some(place.bytes);
            break;
        }
        for byte in choices(explorer) {
            explorer.push(byte);
            let next = place.after(byte, explorer, detail);
            explorer.pop(1, place.scan.clone());
            if seen.insert((next.1, next.0.frames.clone(), next.0.scan.clone())) {
                queue.push(Reverse(next.0));
            }
        }
    }
    explorer.pop(at.len(), scan.clone());
    found
}

impl Place {
    /// The place behind one more byte, where the explorer is, and the state of the lexer there.
    fn after(&self, byte: u8, explorer: &Explorer<'_, '_>, detail: Detail) -> (Self, u32) {
        let state = explorer.lexer_state();
        let mut bytes = self.bytes.clone();
        bytes.push(byte);
        let scan = explorer.scan.clone();
        let mut frames = self.frames.clone();
        let depth = scan.depth() + 1;
        match depth.cmp(&frames.len()) {
            Ordering::Greater => frames.push(mixed(0, state)),
            Ordering::Less => frames.truncate(depth),
            Ordering::Equal => {}
        }
        let between = !scan.in_string() && !scan.in_number();
        if detail == Detail::History && between && let Some(frame) = frames.last_mut() {
            *frame = mixed(*frame, state);
        }
        let closers = scan.depth() + usize::from(scan.in_string());
        let len_min = bytes.len() + closers;
        (Self { bytes, scan, frames, len_min }, state)
    }
}

fn mixed(hash: u64, state: u32) -> u64 {
    (hash.rotate_left(23) ^ u64::from(state)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Goes from where the explorer is to a place.
fn go(explorer: &mut Explorer<'_, '_>, at: &mut Vec<u8>, place: &Place, start: &Scan) {
    let common = at.iter().zip(&place.bytes).take_while(|(a, b)| a == b).count();
    let mut scan = start.clone();
    for byte in &at[..common] {
        scan.push(*byte);
    }
    explorer.pop(at.len() - common, scan);
    at.truncate(common);
    for byte in &place.bytes[common..] {
        explorer.push(*byte);
        at.push(*byte);
    }
}

fn is_end(explorer: &mut Explorer<'_, '_>) -> bool {
    let scan = &explorer.scan;
    scan.is_closed() || (scan.depth() == 0 && scan.in_number() && explorer.number_can_end())
}

/// The bytes worth trying: of those that lead to the same state the most readable.
fn choices(explorer: &mut Explorer<'_, '_>) -> Vec<u8> {
    let mut legal = explorer.legal_bytes();
    let in_value = explorer.scan.in_string() && !explorer.scan.in_name();
    if in_value && legal.contains(&b'"') && explorer.scan.in_plain_string() {
        return vec![b'"'];
    }
    if !explorer.scan.in_string() && legal.iter().any(|byte| !is_blank(*byte)) {
        legal.retain(|byte| !is_blank(*byte));
    }
    legal.sort_by_key(|byte| (readability(*byte), *byte));
    let mut states = HashSet::new();
    let scan = explorer.scan.clone();
    legal.retain(|byte| {
        explorer.push(*byte);
        let after = (explorer.lexer_state(), Rc::new(explorer.scan.clone()));
        explorer.pop(1, scan.clone());
        states.insert(after)
    });
    legal
}

const fn readability(byte: u8) -> u8 {
    match byte {
        b'"' => 0,
        b'a'..=b'z' | b'0'..=b'9' => 1,
        b'A'..=b'Z' => 2,
        b' '..=b'~' => 3,
        _ => 4,
    }
}

/// The way that looks best at each step, if it leads anywhere.
fn greedy(explorer: &mut Explorer<'_, '_>, start: &Scan) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut ended = is_end(explorer);
    while !ended && bytes.len() < GREEDY_LEN_MAX {
        let Some(byte) = choices(explorer).into_iter().min_by_key(|byte| eagerness(*byte)) else {
            break;
        };
        explorer.push(byte);
        bytes.push(byte);
        ended = is_end(explorer);
    }
    explorer.pop(bytes.len(), start.clone());
    ended.then_some(bytes)
}

const fn eagerness(byte: u8) -> u8 {
    match byte {
        b'"' | b'}' | b']' => 0,
        b'n' | b't' | b'f' => 1,
        b',' | b':' => 2,
        b'0'..=b'9' => 3,
        b'{' | b'[' => 5,
        _ => 4,
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of equally good ones the one that is farther.
        self.len_min.cmp(&other.len_min).then(other.bytes.len().cmp(&self.bytes.len()))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Place {}
