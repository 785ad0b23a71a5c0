//! Finds stop strings in a text that arrives in pieces.
//!
//! The match that *ends* first wins, because an answer that streams ends there; where several end
//! at the same byte, the longest of them (the one that starts first) wins. Held back is exactly
//! the longest suffix of the text that is a beginning of some stop string: anything shorter could
//! leak a part of a match, anything longer would delay text for nothing.
//!
//! Each stop string is followed by the Knuth-Morris-Pratt automaton, so the work is O(1) per byte
//! and stop string whatever the text repeats.

/// An incremental matcher for several stop strings.
#[derive(Debug, Default)]
pub struct StopStrings {
    patterns: Vec<Pattern>,
    /// The suffix of the text so far that could still become a match.
    held: String,
    /// The stop string that ended the text.
    matched: Option<usize>,
}

/// What a piece of text led to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passed {
    /// Text that is certainly not part of a match.
    pub text: String,
    /// The index of the stop string that was found: the text ends here.
    pub matched: Option<usize>,
}

impl StopStrings {
    /// A matcher for these strings; empty ones never match.
    pub fn new<S: Into<String>>(stop: impl IntoIterator<Item = S>) -> Self {
        let patterns = stop.into_iter().map(|stop| Pattern::new(stop.into())).collect();
        Self { patterns, held: String::new(), matched: None }
    }

    /// Takes text, gives what can be shown. After a match everything is swallowed.
    pub fn push(&mut self, text: &str) -> Passed {
        if self.matched.is_some() {
            return Passed { text: String::new(), matched: self.matched };
        }
        let before_len = self.held.len();
        self.held.push_str(text);
        for (at, byte) in text.bytes().enumerate() {
            if let Some((index, len)) = self.advance(byte) {
                let start = before_len + at + 1 - len;
                let mut text = std::mem::take(&mut self.held);
                text.truncate(start);
                self.matched = Some(index);
                return Passed { text, matched: self.matched };
            }
        }
        let hold_len = self.patterns.iter().map(|pattern| pattern.seen_len).max().unwrap_or(0);
        // A stop string begins with a whole character, so this is a character's border.
        let hold = self.held.split_off(self.held.len() - hold_len);
        Passed { text: std::mem::replace(&mut self.held, hold), matched: None }
    }

    /// The index of the stop string that ended the text.
    pub const fn matched(&self) -> Option<usize> {
        self.matched
    }

    /// The text has ended: what was held back is no match.
    pub fn finish(&mut self) -> String {
        for pattern in &mut self.patterns {
            pattern.seen_len = 0;
        }
        std::mem::take(&mut self.held)
    }

    /// Feeds one byte to every pattern; the longest that it completes, with its length.
    fn advance(&mut self, byte: u8) -> Option<(usize, usize)> {
        let mut longest: Option<(usize, usize)> = None;
        for (index, pattern) in self.patterns.iter_mut().enumerate() {
            if pattern.advance(byte) && longest.is_none_or(|(_, len)| pattern.text.len() > len) {
                longest = Some((index, pattern.text.len()));
            }
        }
        longest
    }
}

/// One stop string and how much of it the text's end matches.
#[derive(Debug)]
struct Pattern {
    text: String,
    /// For each length of a matched beginning: the next shorter beginning that is its suffix.
    fallback: Vec<usize>,
    seen_len: usize,
}

impl Pattern {
    fn new(text: String) -> Self {
        let bytes = text.as_bytes();
        let mut fallback = vec![0; bytes.len() + 1];
        let mut len = 0;
        for at in 1..bytes.len() {
            while len > 0 && bytes[at] != bytes[len] {
                len = fallback[len];
            }
            len += usize::from(bytes[at] == bytes[len]);
            fallback[at + 1] = len;
        }
        Self { text, fallback, seen_len: 0 }
    }

    /// Whether the byte completes the string.
    fn advance(&mut self, byte: u8) -> bool {
        let bytes = self.text.as_bytes();
        if bytes.is_empty() {
            return false;
        }
        while self.seen_len > 0 && bytes[self.seen_len] != byte {
            self.seen_len = self.fallback[self.seen_len];
        }
        self.seen_len += usize::from(bytes[self.seen_len] == byte);
        self.seen_len == bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word: the first end, and of those that end there the longest.
    fn search_whole(text: &str, stop: &[String]) -> (String, Option<usize>) {
        for end in 1..=text.len() {
            let ended = |stop: &String| {
                !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes())
            };
            let longest = stop.iter().filter(|stop| ended(stop)).map(String::len).max();
            if let Some(len) = longest {
                let index = stop.iter().position(|stop| ended(stop) && stop.len() == len);
                return (text[..end - len].to_owned(), index);
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_split_gives_what_a_search_of_the_whole_text_gives(
            chars in proptest::collection::vec(proptest::sample::select(vec!['a', 'b', 'é', '€']), 0..24),
            stop in proptest::collection::vec("[abé€]{0,5}", 0..4),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(chars.len() + 1)).collect();
            cuts.extend([0, chars.len()]);
            cuts.sort_unstable();
            let whole: String = chars.iter().collect();
            let (expected, expected_match) = search_whole(&whole, &stop);

            let mut matcher = StopStrings::new(stop.clone());
            let (mut text, mut matched, mut read) = (String::new(), None, String::new());
            for pair in cuts.windows(2) {
                let piece: String = chars[pair[0]..pair[1]].iter().collect();
                read += &piece;
                let passed = matcher.push(&piece);
                text += &passed.text;
                matched = passed.matched;
                if matched.is_none() {
                    prop_assert_eq!(&read, &format!("{text}{}", matcher.held));
                    prop_assert_eq!(matcher.held.len(), hold_len(&read, &stop), "as early as possible");
                }
            }
            if matched.is_none() {
                text += &matcher.finish();
            }
            prop_assert_eq!(text, expected);
            prop_assert_eq!(matched, expected_match);
        }
    }

    /// The longest suffix of the text that is a true beginning of a stop string.
    fn hold_len(text: &str, stop: &[String]) -> usize {
        (0..=text.len())
            .filter(|at| text.is_char_boundary(*at))
            .map(|at| &text[at..])
            .find(|suffix| {
                stop.iter().any(|stop| stop.len() > suffix.len() && stop.starts_with(suffix))
            })
            .map_or(0, str::len)
    }

    #[test]
    fn the_match_that_ends_first_wins_and_of_those_the_longest() {
        let mut matcher = StopStrings::new(["abcd", "bc"]);
        assert_eq!(matcher.push("xabcd"), Passed { text: "xa".to_owned(), matched: Some(1) });
        let mut matcher = StopStrings::new(["c", "abc"]);
        assert_eq!(matcher.push("xabc"), Passed { text: "x".to_owned(), matched: Some(1) });
    }

    #[test]
    fn only_a_possible_beginning_is_held_back() {
        let mut matcher = StopStrings::new(["\n\nUser:"]);
        assert_eq!(matcher.push("one\n").text, "one");
        assert_eq!(matcher.push("\n").text, "");
        assert_eq!(matcher.push("\nUs").text, "\n");
        assert_eq!(matcher.push("age").text, "\n\nUsage");
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn nothing_follows_a_match() {
        let mut matcher = StopStrings::new(["stop"]);
        assert_eq!(matcher.push("a stop b").text, "a ");
        assert_eq!(matcher.push("c"), Passed { text: String::new(), matched: Some(0) });
        assert_eq!(matcher.finish(), "");
    }

    #[test]
    fn the_end_releases_what_was_held() {
        let mut matcher = StopStrings::new(["stop"]);
        assert_eq!(matcher.push("a sto").text, "a ");
        assert_eq!(matcher.finish(), "sto");
    }

    #[test]
    fn without_stop_strings_nothing_is_held() {
        let mut matcher = StopStrings::new([""; 0]);
        assert_eq!(matcher.push("text"), Passed { text: "text".to_owned(), matched: None });
        let mut matcher = StopStrings::new([""]);
        assert_eq!(matcher.push("text").text, "text");
    }
}
