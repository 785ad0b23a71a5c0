//! The shortest way to the end of a JSON text.
//!
//! Every legal beginning can be completed, so any walk stays legal; what has to be avoided is walking
//! in circles (a recursive schema, `a*` in a pattern) and looking at too much. So it is a best-first
//! search by length in which most choices are made at once: a string, an object, an array is closed
//! where it can be, a scalar is preferred to a container, a name that the schema knows to any other.
//! What remains to be searched are names, patterns, digits, and options of an `anyOf`.
//!
//! Bytes that lead to the same state of the lexer are the same. So are places with the same open
//! containers, the same state of the lexer and, in the open containers, the same kinds of values:
//! options may look alike at a comma though only the constant before it says how they go on. Should
//! all this have left too little, a second search leaves out nothing.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    sync::LazyLock,
};

use super::{
    GrammarError,
    json::{Explorer, JsonText},
    scan::Scan,
};

/// Bytes walked in one search. An ordinary schema takes little more than its completion has.
const STEPS_MAX: usize = 30_000;
/// Places looked at to find the ends of one string or number.
const SCALAR_STEPS_MAX: usize = 2_000;
/// Open arrays and objects in a completion: many parsers take 128.
const DEPTH_MAX: usize = 120;
/// Bytes that an open container is expected to take to its end. The more, the longer the search
/// stays out of containers it need not open.
const OPEN_COST: usize = 16;

/// A place ahead of the text.
#[derive(Clone)]
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
    /// Which kinds of values are in it, as a set of hashes: one more of the same is nothing new.
    kinds: u64,
    /// How far one is: the last name, by its kind, or the number of commas.
    progress: u64,
}

/// How much a search looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    /// What looks best.
    Narrow,
    /// Every choice.
    Full,
}

/// The bytes that complete the text, few if not fewest.
pub(super) fn completion(text: &mut JsonText) -> Result<Vec<u8>, GrammarError> {
    if text.can_end()? {
        return Ok(Vec::new());
    }
    let found = text.explore(|explorer| {
        let start = explorer.scan.clone();
        let mut bytes = Vec::new();
        let mut ended = is_end(explorer);
        // Container by container: the way out of one does not matter to the next.
        while !ended {
            let here = explorer.scan.clone();
            let found = search(explorer, &here, Width::Narrow);
            let Some(way) = found.or_else(|| search(explorer, &here, Width::Full)) else { break };
            for byte in &way {
                explorer.push(*byte);
            }
            bytes.extend(way);
            ended = is_end(explorer);
        }
        explorer.pop(bytes.len(), start);
        ended.then_some(bytes)
    })?;
    found.ok_or_else(|| GrammarError::Lost { reason: "no short completion is known".to_owned() })
}

/// The way to the end of the container one is in, or of the text.
fn search(explorer: &mut Explorer<'_, '_>, start: &Scan, width: Width) -> Option<Vec<u8>> {
    let mut queue = BinaryHeap::new();
    let mut seen = HashSet::new();
    let mut at: Vec<u8> = Vec::new();
    queue.push(Reverse(Place {
        bytes: Vec::new(),
        scan: start.clone(),
        frames: vec![Frame::default(); start.depth() + 1],
        cost: 0,
    }));
    let mut found = None;
    let mut steps = 0;
    while found.is_none() && steps < STEPS_MAX {
        let Some(Reverse(mut place)) = queue.pop() else { break };
        steps += go(explorer, &mut at, &place, start);
        // Where there is no choice there is nothing to compare.
        let ways = loop {
            if explorer.scan.depth() < start.depth() || is_end(explorer) {
                found = Some(place.bytes.clone());
                break Vec::new();
            }
            if steps >= STEPS_MAX || place.scan.depth() > DEPTH_MAX {
                break Vec::new();
            }
            let ways = choices(explorer, width);
            steps += 1;
            let [way] = ways.as_slice() else { break ways };
            steps += way.len();
            place.walk(way, explorer);
            at.extend(way);
        };
        if found.is_some() {
            break;
        }
        for way in ways {
            steps += way.len();
            let mut next = place.clone();
            next.walk(&way, explorer);
            let state = explorer.lexer_state();
            explorer.pop(way.len(), place.scan.clone());
            if seen.insert((state, next.frames.clone(), next.scan.clone())) {
                queue.push(Reverse(next));
            }
        }
    }
    explorer.pop(at.len(), start.clone());
    found
}

impl Place {
    /// Goes on with the explorer, which is here.
    fn walk(&mut self, way: &[u8], explorer: &mut Explorer<'_, '_>) {
        for byte in way {
            let kind = explorer.kind();
            explorer.push(*byte);
            self.after(*byte, kind, explorer);
        }
        self.cost = self.bytes.len() + OPEN_COST * self.scan.depth();
    }

    fn after(&mut self, byte: u8, kind: u64, explorer: &Explorer<'_, '_>) {
        let before = std::mem::replace(&mut self.scan, explorer.scan.clone());
        self.bytes.push(byte);
        let ended = before.in_scalar() && !self.scan.in_scalar();
        if ended && let Some(frame) = self.frames.last_mut() {
            match before.in_name() {
                true => frame.progress = kind,
                false => frame.kinds |= 1 << (kind >> 58),
            }
        }
        let depth = self.scan.depth() + 1;
        match depth.cmp(&self.frames.len()) {
            Ordering::Greater => {
                let opened = explorer.lexer_state();
                self.frames.push(Frame { opened, ..Frame::default() });
            }
            Ordering::Less => self.frames.truncate(depth),
            Ordering::Equal => {}
        }
        let item = byte == b',' && !self.scan.in_string() && !self.scan.in_object();
        if item && let Some(frame) = self.frames.last_mut() {
            frame.progress += 1;
        }
    }
}

/// Goes from where the explorer is to a place; gives how far that was.
fn go(explorer: &mut Explorer<'_, '_>, at: &mut Vec<u8>, place: &Place, start: &Scan) -> usize {
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
    place.bytes.len() - common
}

fn is_end(explorer: &mut Explorer<'_, '_>) -> bool {
    let scan = &explorer.scan;
    scan.is_closed() || (scan.depth() == 0 && scan.in_number() && explorer.number_can_end())
}

/// The ways worth trying.
fn choices(explorer: &mut Explorer<'_, '_>, width: Width) -> Vec<Vec<u8>> {
    let narrow = width == Width::Narrow;
    let scan = explorer.scan.clone();
    if narrow && let Some(byte) = explorer.forced() {
        return vec![vec![byte]];
    }
    if scan.in_name() {
        return single(names(explorer, narrow));
    }
    if narrow && scan.in_scalar() && !is_scalar_end(explorer) {
        let ends = scalar_ends(explorer);
        if !ends.is_empty() {
            return ends;
        }
    }
    if scan.in_string() {
        if narrow && scan.in_plain_string() && explorer.push(b'"') {
            explorer.pop(1, scan);
            return single(vec![b'"']);
        }
        let classes = classes(explorer, &*READABLE_FIRST);
        return classes.into_iter().map(|(byte, _)| vec![byte]).collect();
    }
    let kinds: &[&[u8]] = if scan.in_scalar() {
        &[b"}]", b",", b"0123456789-.eE+truefalsn"]
    } else {
        &[b"}]", b"n", b"tf", b"0123456789-", b"\"", b"{[", b",:"]
    };
    let mut found = Vec::new();
    for bytes in kinds {
        found.extend(classes(explorer, bytes).into_iter().map(|(byte, _)| byte));
        if narrow && !found.is_empty() {
            return single(found);
        }
    }
    if found.is_empty() {
        found.extend(classes(explorer, b" \n\t\r").into_iter().map(|(byte, _)| byte));
    }
    single(found)
}

fn single(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    bytes.into_iter().map(|byte| vec![byte]).collect()
}

/// Whether the string or number that one is in may end with the next byte.
fn is_scalar_end(explorer: &mut Explorer<'_, '_>) -> bool {
    let scan = explorer.scan.clone();
    if scan.in_number() {
        return explorer.number_can_end();
    }
    let ends = scan.in_plain_string() && explorer.push(b'"');
    if ends {
        explorer.pop(1, scan);
    }
    ends
}

/// The shortest ways to where the scalar that one is in may end, one for each kind of value. Only
/// with readable characters.
fn scalar_ends(explorer: &mut Explorer<'_, '_>) -> Vec<Vec<u8>> {
    let start = explorer.scan.clone();
    let mut queue = VecDeque::from([Vec::new()]);
    let (mut seen, mut kinds, mut ends) = (HashSet::new(), HashSet::new(), Vec::new());
    for _ in 0..SCALAR_STEPS_MAX {
        let Some(way) = queue.pop_front() else { break };
        for byte in &way {
            explorer.push(*byte);
        }
        if is_scalar_end(explorer) {
            if kinds.insert(explorer.kind()) {
                ends.push(way.clone());
            }
        } else {
            let bytes =
                if start.in_string() { &READABLE_FIRST[1..READABLE_COUNT] } else { NUMERIC };
            let scan = explorer.scan.clone();
            for byte in bytes {
                if explorer.push(*byte) {
                    if explorer.scan.in_scalar() && seen.insert(explorer.lexer_state()) {
                        queue.push_back([way.as_slice(), &[*byte]].concat());
                    }
                    explorer.pop(1, scan.clone());
                }
            }
        }
        explorer.pop(way.len(), start.clone());
    }
    ends
}

const NUMERIC: &[u8] = b"0123456789-.eE+truefalsn";
/// The quotation mark, and all other characters of ASCII that are no control characters, without
/// the backslash.
const READABLE_COUNT: usize = 94;

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
        b'\\' => 4,
        b' '..=b'~' => 3,
        _ => 5,
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
