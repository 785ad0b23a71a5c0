//! Where in a JSON text one is, by its bytes: what the grammar leaves open and we close.
//!
//! The text is known to be the beginning of valid JSON, so this only tells states apart.

/// Bytes of one number, beyond which it must end if it can: a model that has fallen into
/// repeating digits never stops by itself. Longer than any double needs.
const NUMBER_LEN_MAX: usize = 32;
/// Digits of an exponent, beyond which the number must end if it can: larger ones overflow a double, which
/// some parsers refuse.
const EXPONENT_LEN_MAX: usize = 2;

/// The state of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Scan {
    /// For each open container: whether it is an object.
    open: Vec<bool>,
    within: Within,
    /// The next string is a member's name.
    name_next: bool,
    /// The root value has been closed, or it is a number.
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Within {
    /// Between values.
    Structure,
    String {
        name: bool,
        escaped: bool,
        /// Only the quotation mark is there.
        start: bool,
    },
    Number {
        len: usize,
        exponent_len: Option<usize>,
    },
    /// `true`, `false` or `null`, with so many letters to come.
    Word {
        rest: usize,
    },
}

impl Scan {
    pub(super) const fn new() -> Self {
        Self { open: Vec::new(), within: Within::Structure, name_next: false, ended: false }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.within = match self.within {
            Within::String { name, escaped: true, .. } => {
                Within::String { name, escaped: false, start: false }
            }
            Within::String { name, escaped: false, .. } => match byte {
                b'\\' => Within::String { name, escaped: true, start: false },
                b'"' => self.value_end(),
                _ => Within::String { name, escaped: false, start: false },
            },
            Within::Word { rest: 1 } => self.value_end(),
            Within::Word { rest } => Within::Word { rest: rest - 1 },
            Within::Number { len, exponent_len } => match byte {
                b'0'..=b'9' => {
                    Within::Number { len: len + 1, exponent_len: exponent_len.map(|n| n + 1) }
                }
                b'e' | b'E' => Within::Number { len: len + 1, exponent_len: Some(0) },
                b'+' | b'-' | b'.' => Within::Number { len: len + 1, exponent_len },
                _ => {
                    self.value_end();
                    self.structure(byte)
                }
            },
            Within::Structure => self.structure(byte),
        };
    }

    fn structure(&mut self, byte: u8) -> Within {
        match byte {
            b'{' | b'[' => {
                self.open.push(byte == b'{');
                self.name_next = byte == b'{';
                Within::Structure
            }
            b'}' | b']' => {
                self.open.pop();
                self.value_end()
            }
            b',' => {
                self.name_next = self.open.last() == Some(&true);
                Within::Structure
            }
            b':' => {
                self.name_next = false;
                Within::Structure
            }
            b'"' => Within::String { name: self.name_next, escaped: false, start: true },
            b't' | b'n' => Within::Word { rest: 3 },
            b'f' => Within::Word { rest: 4 },
            b'-' | b'0'..=b'9' => Within::Number { len: 1, exponent_len: None },
            _ => Within::Structure,
        }
    }

    const fn value_end(&mut self) -> Within {
        self.ended = self.open.is_empty();
        Within::Structure
    }

    /// Containers that are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len()
    }

    pub(super) fn in_object(&self) -> bool {
        self.open.last() == Some(&true)
    }

    pub(super) const fn in_string(&self) -> bool {
        matches!(self.within, Within::String { .. })
    }

    pub(super) const fn in_name(&self) -> bool {
        matches!(self.within, Within::String { name: true, .. })
    }

    /// Whether a string has just begun.
    pub(super) const fn at_string_start(&self) -> bool {
        matches!(self.within, Within::String { start: true, .. })
    }

    /// Whether a string is open whose next byte stands for itself.
    pub(super) const fn in_plain_string(&self) -> bool {
        matches!(self.within, Within::String { escaped: false, .. })
    }

    /// Whether a string, a number or a word has begun and not ended.
    pub(super) const fn in_scalar(&self) -> bool {
        !matches!(self.within, Within::Structure)
    }

    pub(super) const fn in_number(&self) -> bool {
        matches!(self.within, Within::Number { .. })
    }

    /// Whether nothing but blanks can follow: the root value has an end of its own.
    pub(super) const fn is_closed(&self) -> bool {
        self.ended
    }

    /// Whether the byte is not to be taken although the grammar would. A number is to end before
    /// it, if it can.
    pub(super) const fn refuses(&self, byte: u8) -> Option<Refusal> {
        match self.within {
            // Another spelling of a name is the same name, which the grammar does not see.
            Within::String { name: true, escaped: true, .. } if byte == b'u' => {
                Some(Refusal::Always)
            }
            Within::Number { len, .. } if len >= NUMBER_LEN_MAX && in_numbers(byte) => {
                Some(Refusal::IfNumberCanEnd)
            }
            Within::Number { exponent_len: Some(len), .. }
                if len >= EXPONENT_LEN_MAX && byte.is_ascii_digit() =>
            {
                Some(Refusal::IfNumberCanEnd)
            }
            _ => None,
        }
    }
}

/// When a byte is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Always,
    IfNumberCanEnd,
}

const fn in_numbers(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
}

pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
