//! The form of a whole answer: fixed texts around JSON, and the choice among several.
//!
//! ```text
//!   open ── before₁ ── JSON₁ ── after₁ ──┬── close ── end
//!        └─ before₂ ── JSON₂ ── after₂ ──┤
//!                                        └── between ── before₁ …
//! ```
//!
//! Plain JSON is a form of one call without texts.

use std::{ops::Range, sync::Arc};

use super::{
    GrammarError,
    json::{JsonGrammar, JsonText},
    scan::is_blank,
    shortest,
};

/// Bytes put into one prompt because the grammar leaves no choice: longer ones go on in the next.
const FORCED_LEN_MAX: usize = 4096;

/// A form, compiled.
pub(super) struct Form {
    pub(super) open: String,
    pub(super) calls: Vec<FormCall>,
    pub(super) between: Option<String>,
    pub(super) close: String,
}

pub(super) struct FormCall {
    pub(super) before: String,
    pub(super) json: JsonGrammar,
    pub(super) after: String,
}

/// The beginning of an answer of a form.
pub(super) struct FormText {
    form: Arc<Form>,
    at: At,
    text: String,
    /// Where in the text JSON stands: names of control tokens in it are only text.
    json: Vec<Range<usize>>,
}

enum At {
    /// In fixed text: the ways that agree with it so far, of which so many bytes are there.
    Fixed {
        ways: Vec<Way>,
        len: usize,
    },
    Json {
        call: usize,
        json: Box<JsonText>,
    },
    End,
}

struct Way {
    text: String,
    /// The call whose arguments follow; `None` ends the answer.
    to: Option<usize>,
}

/// What became of bytes.
pub(super) struct Taken {
    /// So many became part of the text: whole characters.
    pub(super) len: usize,
    /// The others are the legal beginning of a character, or there are none.
    pub(super) is_legal: bool,
}

impl FormText {
    pub(super) fn new(form: Arc<Form>) -> Result<Self, GrammarError> {
        let ways = form.calls.iter().enumerate();
        let ways = ways
            .map(|(index, call)| Way {
                text: format!("{}{}", form.open, call.before),
                to: Some(index),
            })
            .collect();
        let mut text =
            Self { form, at: At::Fixed { ways, len: 0 }, text: String::new(), json: Vec::new() };
        text.settle()?;
        Ok(text)
    }

    /// The text so far.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The text from there on, in parts of which each is JSON or is not.
    pub(super) fn parts(&self, from: usize) -> Vec<(bool, &str)> {
        let mut parts = Vec::new();
        let mut at = from;
        for json in &self.json {
            if json.end <= at {
                continue;
            }
            if json.start > at {
                parts.push((false, &self.text[at..json.start]));
                at = json.start;
            }
            parts.push((true, &self.text[at..json.end]));
            at = json.end;
        }
        parts.push((false, &self.text[at..]));
        parts.retain(|(_, text)| !text.is_empty());
        parts
    }

    /// What begins an answer whose first call is this one.
    pub(super) fn beginning_of(&self, call: usize) -> Option<String> {
        let call = self.form.calls.get(call)?;
        Some([self.form.open.as_str(), &call.before].concat())
    }

    /// Takes the legal beginning of these bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Taken, GrammarError> {
        let mut len = 0;
        while len < bytes.len() {
            let rest = &bytes[len..];
            let legal = match &mut self.at {
                At::Fixed { .. } => self.take_fixed(rest)?,
                At::Json { .. } => self.take_json(rest)?,
                At::End => return Ok(Taken { len, is_legal: false }),
            };
            len += legal.len;
            if legal.len == 0 {
                return Ok(Taken { len, is_legal: legal.is_legal });
            }
        }
        Ok(Taken { len, is_legal: true })
    }

    fn take_fixed(&mut self, bytes: &[u8]) -> Result<Taken, GrammarError> {
        let At::Fixed { ways, len } = &mut self.at else {
            return Ok(Taken { len: 0, is_legal: false });
        };
        let agree = |way: &Way| common_len(&way.text.as_bytes()[*len..], bytes);
        let legal = ways.iter().map(agree).max().unwrap_or(0);
        let whole = whole_len(bytes, legal);
        if whole > 0 {
            ways.retain(|way| agree(way) >= whole);
            *len += whole;
            self.text.push_str(&String::from_utf8_lossy(&bytes[..whole]));
            self.settle()?;
            return Ok(Taken { len: whole, is_legal: true });
        }
        if legal == bytes.len() {
            return Ok(Taken { len: 0, is_legal: true });
        }
        // One of the ways may be at its end, and what follows it begin here.
        let ended = ways.iter().find(|way| way.text.len() == *len).and_then(|way| way.to);
        match ended {
            Some(call) => {
                self.begin_json(call)?;
                self.take_json(bytes)
            }
            None => Ok(Taken { len: 0, is_legal: false }),
        }
    }

    fn take_json(&mut self, bytes: &[u8]) -> Result<Taken, GrammarError> {
        let At::Json { json, .. } = &mut self.at else {
            return Ok(Taken { len: 0, is_legal: false });
        };
        let legal = json.legal_len(bytes)?;
        let whole = whole_len(bytes, legal);
        if whole > 0 {
            self.push_json(&bytes[..whole])?;
            return Ok(Taken { len: whole, is_legal: true });
        }
        if legal == bytes.len() {
            return Ok(Taken { len: 0, is_legal: true });
        }
        if json.can_end()? {
            self.end_json()?;
            if matches!(self.at, At::Fixed { .. }) {
                return self.take_fixed(bytes);
            }
        }
        Ok(Taken { len: 0, is_legal: false })
    }

    /// Takes legal bytes of JSON, whole characters.
    fn push_json(&mut self, bytes: &[u8]) -> Result<(), GrammarError> {
        let At::Json { json, .. } = &mut self.at else { return Ok(()) };
        json.push(bytes)?;
        self.text.push_str(&String::from_utf8_lossy(bytes));
        if let Some(range) = self.json.last_mut() {
            range.end = self.text.len();
        }
        self.settle()
    }

    /// Moves on where nothing else is possible.
    fn settle(&mut self) -> Result<(), GrammarError> {
        loop {
            match &self.at {
                At::Fixed { ways, len } => {
                    let [way] = ways.as_slice() else { return Ok(()) };
                    if way.text.len() > *len {
                        return Ok(());
                    }
                    match way.to {
                        Some(call) => self.begin_json(call)?,
                        None => self.at = At::End,
                    }
                }
                At::Json { json, .. } if json.scan().is_closed() => self.end_json()?,
                At::Json { .. } | At::End => return Ok(()),
            }
        }
    }

    fn begin_json(&mut self, call: usize) -> Result<(), GrammarError> {
        let json = Box::new(self.form.calls[call].json.text()?);
        self.json.push(self.text.len()..self.text.len());
        self.at = At::Json { call, json };
        Ok(())
    }

    fn end_json(&mut self) -> Result<(), GrammarError> {
        let At::Json { call, .. } = &self.at else { return Ok(()) };
        let after = &self.form.calls[*call].after;
        let mut ways = vec![Way { text: format!("{after}{}", self.form.close), to: None }];
        if let Some(between) = &self.form.between {
            ways.extend(self.form.calls.iter().enumerate().map(|(index, next)| Way {
                text: format!("{after}{between}{}", next.before),
                to: Some(index),
            }));
        }
        self.at = At::Fixed { ways, len: 0 };
        self.settle()
    }

    /// Whether the answer may end here.
    pub(super) fn can_end(&mut self) -> Result<bool, GrammarError> {
        match &mut self.at {
            At::End => Ok(true),
            At::Fixed { ways, len } => {
                Ok(ways.iter().any(|way| way.to.is_none() && way.text.len() == *len))
            }
            At::Json { call, json } => {
                let last = self.form.calls[*call].after.is_empty() && self.form.close.is_empty();
                Ok(last && json.can_end()?)
            }
        }
    }

    /// Whether nothing can follow.
    pub(super) const fn is_complete(&self) -> bool {
        matches!(self.at, At::End)
    }

    /// Arrays and objects that are open.
    pub(super) fn depth(&self) -> usize {
        match &self.at {
            At::Json { json, .. } => json.scan().depth(),
            At::Fixed { .. } | At::End => 0,
        }
    }

    /// The bytes are in a string of JSON, where a control character stands in a legal text escaped.
    pub(super) fn in_string(&self) -> bool {
        matches!(&self.at, At::Json { json, .. } if json.scan().in_plain_string())
    }

    /// All that follows, where that is fixed text to the end.
    pub(super) fn fixed_rest(&self) -> Option<String> {
        match &self.at {
            At::Fixed { ways, len } => match ways.as_slice() {
                [Way { text, to: None }] => Some(text[*len..].to_owned()),
                _ => None,
            },
            At::Json { .. } | At::End => None,
        }
    }

    /// Whether this text comes next, as fixed text.
    pub(super) fn is_fixed_next(&self, text: &str) -> bool {
        let At::Fixed { ways, len } = &self.at else { return false };
        ways.iter().any(|way| way.text[*len..].starts_with(text))
    }

    /// Takes what the grammar leaves no choice about. Blanks are a choice that is not left to the
    /// model here, but the value behind a name is not begun unless nothing else is forced: how
    /// it goes on is the model's.
    pub(super) fn force(&mut self) -> Result<(), GrammarError> {
        let start = self.text.len();
        while self.text.len() - start < FORCED_LEN_MAX {
            let before = self.text.len();
            match &mut self.at {
                At::Fixed { ways, len } => {
                    let Some((first, others)) = ways.split_first() else { return Ok(()) };
                    if ways.iter().any(|way| way.to.is_none() && way.text.len() == *len) {
                        return Ok(());
                    }
                    let rest = &first.text.as_bytes()[*len..];
                    let agree = |way: &Way| common_len(rest, &way.text.as_bytes()[*len..]);
                    let agreed = others.iter().map(agree).min().unwrap_or(rest.len());
                    let forced = rest[..whole_len(rest, agreed)].to_vec();
                    self.take_fixed(&forced)?;
                }
                At::Json { json, .. } => {
                    let forced = forced_json(json, self.text.len() > start)?;
                    self.push_json(&forced)?;
                    if self.is_behind_name() {
                        return Ok(());
                    }
                }
                At::End => return Ok(()),
            }
            if self.text.len() == before {
                return Ok(());
            }
        }
        Ok(())
    }

    fn is_behind_name(&self) -> bool {
        let in_string = |json: &JsonText| json.scan().in_string();
        matches!(&self.at, At::Json { json, .. } if !in_string(json)) && self.text.ends_with(':')
    }

    /// The shortest text that completes the answer.
    pub(super) fn completion(&mut self) -> Result<String, GrammarError> {
        let (mut text, call) = match &mut self.at {
            At::End => return Ok(String::new()),
            At::Json { call, json } => (shortest::completion(json)?, *call),
            At::Fixed { ways, len } => {
                let ends = ways.iter().find(|way| way.to.is_none());
                let way = ends.or_else(|| ways.iter().min_by_key(|way| way.text.len()));
                let Some(way) = way else { return Ok(String::new()) };
                let mut text = way.text.as_bytes()[*len..].to_vec();
                let Some(call) = way.to else { return Ok(lossy(&text)) };
                let mut json = self.form.calls[call].json.text()?;
                text.extend(shortest::completion(&mut json)?);
                (text, call)
            }
        };
        text.extend(self.form.calls[call].after.bytes());
        text.extend(self.form.close.bytes());
        Ok(lossy(&text))
    }
}

/// The bytes that must come next, whole characters.
fn forced_json(json: &mut JsonText, any_before: bool) -> Result<Vec<u8>, GrammarError> {
    let can_end = json.can_end()?;
    let began_in_string = json.scan().in_string();
    let (mut bytes, in_string) = json.explore(|explorer| {
        let mut bytes = Vec::new();
        let start = explorer.scan.clone();
        while !can_end && bytes.len() < FORCED_LEN_MAX && !explorer.scan.is_closed() {
            // Behind a name.
            if bytes.last() == Some(&b':') && !explorer.scan.in_string() {
                break;
            }
            let mut legal = explorer.legal_bytes();
            if !explorer.scan.in_string() {
                legal.retain(|byte| !is_blank(*byte));
            }
            let &[byte] = legal.as_slice() else { break };
            // A number may be longer.
            if explorer.scan.in_number() && explorer.number_can_end() {
                break;
            }
            explorer.push(byte);
            bytes.push(byte);
        }
        let in_string = explorer.scan.in_string();
        explorer.pop(bytes.len(), start);
        (bytes, in_string)
    })?;
    // The beginning of a word would be tokens that the model would not have chosen.
    if in_string
        && !began_in_string
        && let Some(quote) = bytes.iter().rposition(|b| *b == b'"')
    {
        bytes.truncate(quote + 1);
    }
    if in_string && began_in_string && any_before {
        bytes.clear();
    }
    let whole = whole_len(&bytes, bytes.len());
    bytes.truncate(whole);
    Ok(bytes)
}

fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// How many of the first `len` bytes are whole characters.
fn whole_len(bytes: &[u8], len: usize) -> usize {
    match std::str::from_utf8(&bytes[..len]) {
        Ok(_) => len,
        Err(err) => err.valid_up_to(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
