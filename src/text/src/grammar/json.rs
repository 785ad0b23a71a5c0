//! JSON under a schema, followed byte by byte with llguidance.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock, Mutex},
};

use llguidance::{
    Logger,
    api::{GrammarInit, ParserLimits, TopLevelGrammar},
    derivre::NextByte,
    earley::{Parser, ParserRecognizer},
    panic_utils,
    toktrie::{ApproximateTokEnv, Recognizer, TokEnv, TokRxInfo, TokTrie},
};
use serde_json::{Map, Value, json};

use super::{
    GrammarError, GrammarLimits,
    scan::{Refusal, Scan, is_blank},
    schema::{Checked, Suspect, check},
    shortest,
};

/// Blanks between two tokens of JSON: at most two lines and the indentation of a deep one. A
/// model that only emits blanks is stopped soon.
const BLANKS: &str = r"[\x20\x09]{1,4}|[\x20\x09]{0,4}(\x0D?\x0A){1,2}[\x20\x09]{0,64}";

/// A token that no text contains: the parser asks for ids only to tell special tokens.
const NO_TOKEN: u32 = 256;

/// The vocabulary of the 256 bytes.
static BYTES: LazyLock<TokEnv> = LazyLock::new(|| {
    let mut words: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    words.push(b"\xff<|end|>".to_vec());
    let info = TokRxInfo::new(NO_TOKEN + 1, NO_TOKEN);
    Arc::new(ApproximateTokEnv::new(TokTrie::from(&info, &words)))
});

/// A compiled schema.
///
/// The schema is compiled as the only item of an array: the text is what stands between `[` and
/// `]`, and it may end where `]` may come. So blanks are legal around it, and a number at the root
/// has an end one can ask for.
#[derive(Clone)]
pub(super) struct JsonGrammar {
    start: Arc<Mutex<Parser>>,
}

/// A text that is the beginning of JSON under a schema.
pub(super) struct JsonText {
    parser: Parser,
    scan: Scan,
}

impl JsonGrammar {
    pub(super) fn compile(schema: &str, limits: &GrammarLimits) -> Result<Self, GrammarError> {
        let checked = check(schema, limits)?;
        let parser = compile(&wrapped(checked.definitions.clone()))
            .map_err(|reason| blame(&checked, reason))?;
        let grammar = Self { start: Arc::new(Mutex::new(parser)) };
        // What has no short answer cannot be completed when a model fails; some have no finite one.
        shortest::completion(&mut grammar.text()?)
            .map_err(|_| GrammarError::Refused { reason: "no short value is valid".to_owned() })?;
        Ok(grammar)
    }

    pub(super) fn text(&self) -> Result<JsonText, GrammarError> {
        let start = self.start.lock().map_err(|_| lost("a panic in another answer"))?;
        // Not shared with other answers: the states of the lexer count against a limit.
        Ok(JsonText { parser: start.deep_clone(), scan: Scan::new() })
    }
}

fn wrapped(definitions: Map<String, Value>) -> Value {
    json!({
        "type": "array",
        "prefixItems": [{"$ref": "#/$defs/0"}],
        "items": false,
        "minItems": 1,
        "$defs": definitions,
        "x-guidance": {"whitespace_pattern": BLANKS, "json_allow_general_unicode_escapes": true},
    })
}

fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        // A kilobyte or two each.
        max_lexer_states: 30_000,
        max_grammar_size: 200_000,
        // With 256 tokens there is nothing to gain.
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

fn compile(schema: &Value) -> Result<Parser, String> {
    let compiled = panic_utils::catch_unwind(AssertUnwindSafe(|| {
        let grammar = GrammarInit::Serialized(TopLevelGrammar::from_json_schema(schema.clone()));
        let env = Arc::clone(&BYTES);
        let mut logger = Logger::new(0, 0);
        let grammar = grammar.to_cgrammar(Some(Arc::clone(&env)), &mut logger, limits(), vec![])?;
        let mut parser = Parser::new(env, grammar, limits(), Arc::default())?;
        parser.apply_token(b"[", NO_TOKEN)?;
        Ok(parser)
    }));
    compiled.map_err(|err| short(&format!("{err:#}")))
}

/// Finds the keyword on which the compiler failed.
fn blame(checked: &Checked, reason: String) -> GrammarError {
    let fails = |suspect: &&Suspect| {
        let definitions = Map::from_iter([("0".to_owned(), suspect.alone.clone())]);
        compile(&wrapped(definitions)).is_err()
    };
    if let Some(suspect) = checked.suspects.iter().take(SUSPECTS_MAX).find(fails) {
        let (keyword, pointer) = (suspect.keyword.clone(), suspect.pointer.clone());
        let reason = match keyword.as_str() {
            "oneOf" => ONE_OF.to_owned(),
            _ => reason,
        };
        return GrammarError::Unsupported { keyword, pointer, reason };
    }
    GrammarError::Refused { reason }
}

/// Schemas compiled to find what is at fault.
const SUSPECTS_MAX: usize = 200;

const ONE_OF: &str =
    "only where a type or a property with a constant tells the options apart; use 'anyOf'";

/// What matters of an error: some contain a whole grammar, those of patterns a drawing.
fn short(reason: &str) -> String {
    let mut lines = reason.lines();
    let mut line = lines.next().unwrap_or_default().to_owned();
    if let Some(error) = lines.find_map(|line| line.strip_prefix("error: ")) {
        line = format!("{line} {error}");
    }
    line.truncate(line.floor_char_boundary(200));
    line
}

fn lost(reason: &str) -> GrammarError {
    GrammarError::Lost { reason: short(reason) }
}

impl JsonText {
    pub(super) const fn scan(&self) -> &Scan {
        &self.scan
    }

    /// How many bytes at the beginning of these could come next.
    pub(super) fn legal_len(&mut self, bytes: &[u8]) -> Result<usize, GrammarError> {
        let scan = self.scan.clone();
        self.explore(|explorer| {
            explorer.scan = scan;
            bytes.iter().take_while(|byte| explorer.push(**byte)).count()
        })
    }

    /// Takes bytes that are legal.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), GrammarError> {
        let parser = &mut self.parser;
        panic_utils::catch_unwind(AssertUnwindSafe(|| parser.apply_token(bytes, NO_TOKEN)))
            .map_err(|err| lost(&err.to_string()))?;
        for byte in bytes {
            self.scan.push(*byte);
        }
        Ok(())
    }

    /// Whether the text may end here.
    pub(super) fn can_end(&mut self) -> Result<bool, GrammarError> {
        if self.scan.is_closed() {
            return Ok(true);
        }
        if self.scan.depth() > 0 || !self.scan.in_number() {
            return Ok(false);
        }
        self.explore(|explorer| explorer.number_can_end())
    }

    /// Tries bytes without taking them.
    pub(super) fn explore<T>(
        &mut self,
        visit: impl FnOnce(&mut Explorer<'_, '_>) -> T,
    ) -> Result<T, GrammarError> {
        let (parser, scan) = (&mut self.parser, self.scan.clone());
        let seen = panic_utils::catch_unwind(AssertUnwindSafe(|| {
            Ok(parser.with_recognizer(|recognizer| {
                recognizer.trie_started("explore");
                let seen = visit(&mut Explorer { recognizer, scan, pushed: 0 });
                recognizer.trie_finished();
                seen
            }))
        }));
        // After a panic the parser must not be touched.
        let seen = seen.map_err(|err| lost(&err.to_string()))?;
        match self.parser.get_error() {
            Some(err) => Err(lost(&err.message())),
            None => Ok(seen),
        }
    }
}

/// Goes ahead of a text and comes back.
pub(super) struct Explorer<'a, 'p> {
    recognizer: &'a mut ParserRecognizer<'p>,
    /// The scan at the place one has gone to.
    pub(super) scan: Scan,
    pushed: usize,
}

impl Explorer<'_, '_> {
    /// Goes on by a byte if that is legal.
    pub(super) fn push(&mut self, byte: u8) -> bool {
        if self.scan.is_closed() && !is_blank(byte) {
            return false;
        }
        match self.scan.refuses(byte) {
            Some(Refusal::Always) => return false,
            Some(Refusal::IfNumberCanEnd) if self.number_can_end() => return false,
            Some(Refusal::IfNumberCanEnd) | None => {}
        }
        // This would end the array around the text.
        if byte == b']' && self.scan.depth() == 0 && !self.scan.in_string() {
            return false;
        }
        let legal = self.recognizer.try_push_byte(byte);
        if legal {
            self.pushed += 1;
            self.scan.push(byte);
        }
        legal
    }

    /// Goes back by so many bytes, to where the scan was this.
    pub(super) fn pop(&mut self, len: usize, scan: Scan) {
        self.recognizer.pop_bytes(len);
        self.pushed -= len;
        self.scan = scan;
    }

    /// Whether a number may end here: blanks end every token.
    pub(super) fn number_can_end(&mut self) -> bool {
        self.recognizer.byte_allowed(b' ')
    }

    /// What bytes are legal here.
    pub(super) fn legal_bytes(&mut self) -> Vec<u8> {
        let scan = self.scan.clone();
        let legal = |byte: &u8| {
            let legal = self.push(*byte);
            if legal {
                self.pop(1, scan.clone());
            }
            legal
        };
        (0..=u8::MAX).filter(legal).collect()
    }

    /// The only byte that the lexer allows, if it knows at once that there is only one.
    pub(super) fn forced(&mut self) -> Option<u8> {
        let state = self.recognizer.lexer_state();
        let NextByte::ForcedByte(byte) = self.recognizer.lexer_mut().next_byte(state) else {
            return None;
        };
        let scan = self.scan.clone();
        let legal = self.push(byte);
        if legal {
            self.pop(1, scan);
        }
        legal.then_some(byte)
    }

    /// Which tokens of the grammar the one may become that one is in, hashed.
    pub(super) fn kind(&self) -> u64 {
        let state = self.recognizer.lexer_state();
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for token in self.recognizer.lexer().possible_lexemes(state).iter() {
            hash = (hash.rotate_left(9) ^ u64::from(token.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        hash
    }

    /// The state of the lexer: equal states have equal futures until the current token of JSON ends.
    pub(super) fn lexer_state(&self) -> u32 {
        self.recognizer.lexer_state().as_u32()
    }
}
