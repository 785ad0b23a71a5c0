//! The shortest way to the end of a JSON text.
//!
//! Every legal beginning can be completed, so any walk stays legal; what has to be avoided is walking
//! in circles (a recursive schema, `a*` in a pattern) and looking at too much. So it is a best-first
//! search by length in which most choices are made at once: a string, an object, an array is closed
//! where it can be, a scalar is preferred to a container, a name that the schema knows to any other.
//! What remains to be searched are names, patterns, digits, and options of an `anyOf`.
//!
//! Bytes that lead to the same state of the lexer are the same. So are places with the same open
//! containers, the same state of the lexer and, in the open containers, the same constants: options
//! may look alike at a comma though only the constant before it says how they go on. Should all
//! this have left too little, a second search leaves out nothing.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap, HashSet},
    sync::LazyLock,
};

use super::{
    GrammarError,
    json::{Explorer, JsonText},
    scan::Scan,
};

/// Places looked at in one search. Ordinary schemas need a few for each byte.
const PLACES_MAX: usize = 5_000;
/// Bytes that an open container is expected to take to its end. The more, the longer the search stays out of
/// containers it need not open.
const OPEN_COST: usize = 16;

/// A place ahead of the text.
struct Place {
    /// The way to it.
    bytes: Vec<u8>,
    scan: Scan,
    /// What is known of each open container.
    frames: Vec<Frame>,
    /// What this way is expected to cost, by which it is chosen.
    cost: usize,
}

/// What tells containers apart besides the state of the lexer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Frame {
    /// The lexer's state at its beginning.
    opened: u32,
    /// Which constants are in it, as a set of hashes: one more of the same is nothing new.
    constants: u64,
    /// How far one is: the state of the lexer at the end of the last name, or the number of commas.
    progress: u32,
}

/// How much a search looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    /// What looks best, telling places apart by the constants in open containers.
    Narrow,
    /// Every choice, telling places apart by all values and names.
    Full,
}

/// The bytes that complete the text, few if not fewest.
pub(super) fn completion(text: &mut JsonText) -> Result<Vec<u8>, GrammarError> {
    if text.can_end()? {
        return Ok(Vec::new());
    }
    let scan = text.scan().clone();
    let found = text.explore(|explorer| {
        search(explorer, &scan, Width::Narrow).or_else(|| search(explorer, &scan, Width::Full))
    })?;
    found.ok_or_else(|| GrammarError::Lost { reason: "no short completion is known".to_owned() })
}

fn search(explorer: &mut Explorer<'_, '_>, scan: &Scan, width: Width) -> Option<Vec<u8>> {
    let mut queue = BinaryHeap::new();
    let mut seen = HashSet::new();
    let mut at: Vec<u8> = Vec::new();
    queue.push(Reverse(Place {
        bytes: Vec::new(),
        scan: scan.clone(),
        frames: vec![Frame::default(); scan.depth() + 1],
        cost: 0,
    }));
    let mut found = None;
    for _ in 0..PLACES_MAX {
        let Some(Reverse(place)) = queue.pop() else { break };
        go(explorer, &mut at, &place, scan);
        if is_end(explorer) {
            found = Some(place.bytes);
            break;
        }
        let state = explorer.lexer_state();
        for byte in choices(explorer, width) {
            explorer.push(byte);
            let next = place.after(byte, state, explorer, width);
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
    fn after(
        &self,
        byte: u8,
        state_before: u32,
        explorer: &Explorer<'_, '_>,
        width: Width,
    ) -> (Self, u32) {
        let state = explorer.lexer_state();
        let mut bytes = self.bytes.clone();
        bytes.push(byte);
        let scan = explorer.scan.clone();
        let mut frames = self.frames.clone();
        let depth = scan.depth() + 1;
        match depth.cmp(&frames.len()) {
            Ordering::Greater => frames.push(Frame { opened: state, ..Frame::default() }),
            Ordering::Less => frames.truncate(depth),
            Ordering::Equal => {}
        }
        let ended = self.scan.in_scalar() && !scan.in_scalar();
        let constant = self.scan.in_string() && !self.scan.at_string_start();
        if let Some(frame) = frames.last_mut() {
            if ended && self.scan.in_name() {
                frame.progress = state_before;
            } else if ended && (constant || width == Width::Full) {
                // The state before a value's last byte says which value it is; all of one `enum`
                // are one.
                frame.constants |= 1 << (state_before.wrapping_mul(0x9e37_79b9) >> 26);
            } else if byte == b',' && !scan.in_string() && !scan.in_object() {
                frame.progress += 1;
            }
        }
        let cost = bytes.len() + OPEN_COST * scan.depth();
        (Self { bytes, scan, frames, cost }, state)
    }
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

/// The bytes worth trying.
fn choices(explorer: &mut Explorer<'_, '_>, width: Width) -> Vec<u8> {
    let narrow = width == Width::Narrow;
    let scan = explorer.scan.clone();
    if scan.in_name() {
        return names(explorer, narrow);
    }
    if scan.in_string() {
        if narrow && scan.in_plain_string() && explorer.push(b'"') {
            explorer.pop(1, scan);
            return vec![b'"'];
        }
        return classes(explorer, &*READABLE_FIRST).into_iter().map(|(byte, _)| byte).collect();
    }
    let alone: &[&[u8]] = if scan.in_scalar() {
        &[b"}]", b",", b"0123456789-.eE+truefalsn"]
    } else {
        &[b"}]", b"n", b"tf", b"0123456789-", b"\"", b"{[", b",:"]
    };
    let mut found = Vec::new();
    for bytes in alone {
        found.extend(classes(explorer, bytes).into_iter().map(|(byte, _)| byte));
        if narrow && !found.is_empty() {
            return found;
        }
    }
    if found.is_empty() {
        found.extend(classes(explorer, b" \n\t\r").into_iter().map(|(byte, _)| byte));
    }
    found
}

/// How a name may go on: preferably as one that the schema knows, told by bytes of which no others
/// lead to the same state.
fn names(explorer: &mut Explorer<'_, '_>, narrow: bool) -> Vec<u8> {
    let classes = classes(explorer, &*READABLE_FIRST);
    let known = |(byte, count): &(u8, usize)| (*count == 1 && byte.is_ascii()).then_some(*byte);
    let mut found: Vec<u8> = classes.iter().filter_map(known).collect();
    // An escape is no sign of a known name, nor is the end of an empty one.
    found.retain(|byte| *byte != b'\\' && (*byte != b'"' || !explorer.scan.at_string_start()));
    match narrow && !found.is_empty() {
        true => found,
        false => classes.into_iter().map(|(byte, _)| byte).collect(),
    }
}

/// Of the bytes that are legal the first of each that lead to the same state, with their count.
fn classes(explorer: &mut Explorer<'_, '_>, bytes: &[u8]) -> Vec<(u8, usize)> {
    let scan = explorer.scan.clone();
    let mut classes: Vec<(u8, usize)> = Vec::new();
    let mut index_of = HashMap::new();
    for byte in bytes {
        if explorer.push(*byte) {
            let state = (explorer.lexer_state(), explorer.scan.clone());
            explorer.pop(1, scan.clone());
            let index = *index_of.entry(state).or_insert(classes.len());
            match classes.get_mut(index) {
                Some((_, count)) => *count += 1,
                None => classes.push((*byte, 1)),
            }
        }
    }
    classes
}

/// All bytes, the most readable first.
static READABLE_FIRST: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let mut bytes: [u8; 256] = std::array::from_fn(|index| index.to_le_bytes()[0]);
    bytes.sort_by_key(|byte| (readability(*byte), *byte));
    bytes
});

const fn readability(byte: u8) -> u8 {
    match byte {
        b'"' => 0,
        b'a'..=b'z' | b'0'..=b'9' => 1,
        b'A'..=b'Z' => 2,
        b' '..=b'~' => 3,
        _ => 4,
    }
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of equally good ones the one that is farther.
        self.cost.cmp(&other.cost).then(other.bytes.len().cmp(&self.bytes.len()))
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
