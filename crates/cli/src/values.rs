//! Values between the command line, the wire and the screen.
//!
//! Arguments stay JSON text from the command line to the wire, results from the wire to the screen: nothing is
//! rounded on the way. What peers wrote is made safe for a terminal here.

use std::fmt::Write;

use oslo_messaging::RawJson;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::exit::Problem;

/// Keyword arguments in the order they were typed.
#[derive(Clone)]
pub(crate) struct Arguments(Vec<(String, RawJson)>);

impl Arguments {
    /// Reads `key=value` words.
    ///
    /// # Errors
    /// Wrong usage if a word has no `=` or no key, or a key comes twice.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Problem> {
        let mut arguments: Vec<(String, RawJson)> = Vec::with_capacity(words.len());
        for (position, word) in words.iter().enumerate() {
            let (key, value) = word.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                Problem::usage(format!("argument {} of the method is not of the form key=value", position + 1))
                    .hint("write arguments as key=value, e.g. host=node-1 count=3 'filters={\"up\": true}'")
            })?;
            if arguments.iter().any(|(known, _)| known == key) {
                return Err(Problem::usage(format!("argument {key} is given twice")));
            }
            arguments.push((key.to_owned(), json_or_string(value)));
        }
        Ok(Self(arguments))
    }
}

impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// JSON if it is JSON, else the text itself.
fn json_or_string(text: &str) -> RawJson {
    // Python would read these three words as numbers; on a command line they are words.
    let is_word = matches!(text.trim(), "NaN" | "Infinity" | "-Infinity");
    match RawJson::from_text(text) {
        Ok(json) if !is_word => json,
        _ => RawJson::from_value(text).expect("every string has a JSON form"),
    }
}

/// JSON text for people: characters instead of escapes where they are harmless, and indented if `spread`.
///
/// Numbers and everything else outside strings stay as they are. `json` must be valid JSON.
pub(crate) fn readable(json: &str, spread: bool) -> String {
    let mut page = Page {
        text: String::with_capacity(json.len() * 2),
        spread,
        depth: 0,
    };
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => page.string(rest),
            '{' | '[' => page.open(rest, first),
            '}' | ']' => page.close(first),
            ',' => page.separator(),
            ':' => page.plain(": ", 1),
            ' ' | '\t' | '\n' | '\r' => 1,
            _ => page.scalar(rest),
        };
        rest = &rest[taken..];
    }
    page.text
}

struct Page {
    text: String,
    spread: bool,
    depth: usize,
}

impl Page {
    fn plain(&mut self, text: &str, taken: usize) -> usize {
        self.text.push_str(text);
        taken
    }

    fn newline(&mut self) {
        if self.spread {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n("  ", self.depth));
        }
    }

    fn open(&mut self, rest: &str, bracket: char) -> usize {
        self.text.push(bracket);
        let inside = rest[1..].trim_start();
        if inside.starts_with(['}', ']']) {
            self.text.push(if bracket == '{' { '}' } else { ']' });
            return rest.len() - inside.len() + 1;
        }
        self.depth += 1;
        self.newline();
        1
    }

    fn close(&mut self, bracket: char) -> usize {
        self.depth = self.depth.saturating_sub(1);
        self.newline();
        self.text.push(bracket);
        1
    }

    fn separator(&mut self) -> usize {
        self.text.push_str(if self.spread { "," } else { ", " });
        self.newline();
        1
    }

    fn scalar(&mut self, rest: &str) -> usize {
        let end = rest
            .find([',', '}', ']', ' ', '\n', '\r', '\t'])
            .unwrap_or(rest.len());
        self.plain(&rest[..end], end)
    }

    /// Copies a string with its quotes; returns how much of `rest` it took.
    fn string(&mut self, rest: &str) -> usize {
        self.text.push('"');
        let mut at = 1;
        while let Some(first) = rest[at..].chars().next() {
            match first {
                '"' => {
                    self.text.push('"');
                    return at + 1;
                }
                '\\' => at += self.escape(&rest[at..]),
                other => {
                    self.character(other);
                    at += other.len_utf8();
                }
            }
        }
        at
    }

    /// Copies one escape, as a character if that is harmless.
    fn escape(&mut self, rest: &str) -> usize {
        let unit = |from: usize| {
            let digits = rest.get(from..from + 6)?.strip_prefix("\\u")?;
            u32::from_str_radix(digits, 16).ok()
        };
        let Some(first) = unit(0) else {
            let end = rest
                .char_indices()
                .nth(2)
                .map_or(rest.len(), |(end, _)| end);
            return self.plain(&rest[..end], end);
        };
        if let Some(second) = unit(6).filter(|low| (0xDC00..0xE000).contains(low))
            && (0xD800..0xDC00).contains(&first)
            && let Some(character) =
                char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
        {
            self.character(character);
            return 12;
        }
        match char::from_u32(first) {
            Some('"' | '\\') | None => self.plain(&rest[..6], 6),
            Some(character) => {
                self.character(character);
                6
            }
        }
    }

    fn character(&mut self, character: char) {
        if is_harmless(character) {
            self.text.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(self.text, "\\u{unit:04x}");
            }
        }
    }
}

/// Whether a terminal only shows it: no control character, no change of the direction of writing, not invisible.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Text of a peer, safe for a terminal: what is not harmless is escaped, newlines and tabs stay.
pub(crate) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        if is_harmless(character) || matches!(character, '\n' | '\t') {
            cleaned.push(character);
        } else {
            cleaned.extend(character.escape_default());
        }
    }
    cleaned
}

/// As [`clean`] for what must stay on its line: newlines and tabs are escaped, too, so that nobody's name makes a line
/// of its own.
pub(crate) fn clean_line(text: &str) -> String {
    clean(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Last guard before the screen: user and password of anything that looks like a URL become `***`.
pub(crate) fn hide_credentials(text: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        hidden.push_str(before);
        let line_end = after.find('\n').unwrap_or(after.len());
        rest = match after[..line_end].rfind('@') {
            Some(at) => {
                hidden.push_str("***");
                &after[at..]
            }
            None => after,
        };
    }
    hidden.push_str(rest);
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<String, Problem> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let arguments = Arguments::parse(&words)?;
        Ok(RawJson::from_value(&arguments)
            .expect("arguments are JSON")
            .as_str()
            .to_owned())
    }

    #[test]
    fn values_are_json_or_strings_where_they_are_not() {
        let words = [
            "n=3",
            "s=abc",
            "q=\"3\"",
            "l=[1, 2.50]",
            "o={\"a\": null}",
            "e=",
            "eq=a=b",
            "t=true",
            "w=NaN",
        ];
        assert_eq!(
            parse(&words).expect("good words"),
            r#"{"n": 3, "s": "abc", "q": "3", "l": [1, 2.50], "o": {"a": null}, "e": "", "eq": "a=b", "t": true, "w": "NaN"}"#
        );
    }

    #[test]
    fn numbers_keep_every_digit() {
        let words = ["big=123456789012345678901234567890", "exact=1.10"];
        assert_eq!(
            parse(&words).expect("good words"),
            r#"{"big": 123456789012345678901234567890, "exact": 1.10}"#
        );
    }

    #[test]
    fn words_that_are_no_arguments_are_wrong_usage() {
        for words in [&["abc"][..], &["=1"], &["a=1", "a=2"], &[""]] {
            let problem = parse(words).expect_err("bad words");
            assert_eq!(problem.exit, crate::exit::Exit::Usage, "{words:?}");
        }
    }

    #[test]
    fn readable_json_shows_characters_and_keeps_numbers() {
        let json = r#"{"a": "\u00fc\ud83d\ude00 \"x\"\\", "n": [1.10, 12345678901234567890123], "e": [], "o": {}}"#;
        assert_eq!(
            readable(json, false),
            r#"{"a": "ü😀 \"x\"\\", "n": [1.10, 12345678901234567890123], "e": [], "o": {}}"#
        );
        assert_eq!(
            readable(r#"{"a":[1,{}],"b":null}"#, true),
            "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": null\n}"
        );
    }

    #[test]
    fn readable_json_is_still_the_same_json() {
        let json = r#"["\u001b[31m", "\ud800", "\u0022", "\u005c", "a\/b\n", "\u202e", "\u0085", "é", {"k,]}": "}"}]"#;
        for spread in [false, true] {
            let text = readable(json, spread);
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{85}']), "{text:?}");
            // The lone surrogate stays an escape, which serde_json refuses: it is compared apart.
            let (text, json) = (text.replace("\\ud800", "?"), json.replace("\\ud800", "?"));
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            assert_eq!(value(&text), value(&json));
        }
    }

    #[test]
    fn text_of_peers_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}é"), "a\\u{1b}[2Jb\nc\\u{202e}é");
        assert_eq!(clean_line("a\x1b\r\nb\té"), "a\\u{1b}\\r\\nb\\té");
    }

    #[test]
    fn credentials_in_anything_like_a_url_are_hidden() {
        assert_eq!(
            hide_credentials("bad rabbit://joe:p@ss wo/rd@h1,joe:x@h2/v\nnext http://h/ x"),
            "bad rabbit://***@h2/v\nnext http://h/ x"
        );
    }
}
