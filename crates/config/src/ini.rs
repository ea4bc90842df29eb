//! The file language of oslo.config: a text becomes assignments, each with its line.
//!
//! Refuses to know options and types. It is INI with its own rules, which no INI library has together:
//! `=` or `:`, whichever comes first; lines that begin with a blank continue the value, even after `#`;
//! one pair of quotes around the first line of a value falls off; there are no comments behind values;
//! a key that stands twice has two values.

use std::fmt;

/// One `key = value` of a file.
///
/// ```
/// use oslo_messaging_config::ini::parse;
///
/// let found = parse("[DEFAULT]\n# a comment\ndebug: true\nnames = a,\n  b\n").unwrap();
/// assert_eq!((found[0].section(), found[0].key(), found[0].value()), ("DEFAULT", "debug", "true"));
/// assert_eq!((found[1].value(), found[1].line()), ("a,\nb", 4));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    section: String,
    key: String,
    value: String,
    line: u32,
}

impl Assignment {
    /// The section as written, between the brackets.
    ///
    /// ```
    /// # use oslo_messaging_config::ini::parse;
    /// assert_eq!(parse("[a b]\nx=1").unwrap()[0].section(), "a b");
    /// ```
    pub fn section(&self) -> &str {
        &self.section
    }

    /// The key.
    ///
    /// ```
    /// # use oslo_messaging_config::ini::parse;
    /// assert_eq!(parse("[a]\nx : 1").unwrap()[0].key(), "x");
    /// ```
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value; its lines are joined by line feeds.
    ///
    /// ```
    /// # use oslo_messaging_config::ini::parse;
    /// assert_eq!(parse("[a]\nx = ' 1'").unwrap()[0].value(), " 1");
    /// ```
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The line of the key, from 1.
    ///
    /// ```
    /// # use oslo_messaging_config::ini::parse;
    /// assert_eq!(parse("[a]\n\nx = 1").unwrap()[0].line(), 3);
    /// ```
    pub fn line(&self) -> u32 {
        self.line
    }
}

/// Without the value, which may be a secret.
impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {} at line {}", self.section, self.key, self.line)
    }
}

/// Why a line is none of the language.
///
/// ```
/// use oslo_messaging_config::ini::{SyntaxFault, parse};
///
/// assert_eq!(parse("[a\n").unwrap_err(), (1, SyntaxFault::OpenSection));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntaxFault {
    /// A line of a key and nothing else.
    #[error("neither `=` nor `:` in an assignment")]
    NoAssignment,
    /// Nothing before the `=`.
    #[error("no key before the `=` or `:`")]
    EmptyKey,
    /// A line that begins with a blank, after no value.
    #[error("the line begins with a blank but continues no value")]
    StrayContinuation,
    /// `[name` without its end.
    #[error("a section must end with `]`")]
    OpenSection,
    /// `[]`.
    #[error("a section without a name")]
    NoSectionName,
    /// A value before the first section.
    #[error("an assignment before the first section; begin with [DEFAULT]")]
    NoSection,
}

/// Reads a file's text. Line ends may be those of any system.
///
/// ```
/// use oslo_messaging_config::ini::parse;
///
/// assert_eq!(parse("[a]\nx = 1\nx = 2\n").unwrap().len(), 2);
/// ```
///
/// # Errors
/// The line, from 1, and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Assignment>, (u32, SyntaxFault)> {
    let mut reader = Reader::default();
    for (index, line) in lines(text).enumerate() {
        let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
        reader
            .line(number, strip_end(line))
            .map_err(|fault| (number, fault))?;
    }
    reader.flush();
    Ok(reader.found)
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    section: Option<String>,
    /// The assignment whose value may still go on.
    open: Option<Assignment>,
    found: Vec<Assignment>,
}

impl Reader {
    fn line(&mut self, number: u32, line: &str) -> Result<(), SyntaxFault> {
        if line.is_empty() {
            self.flush();
            return Ok(());
        }
        if line.starts_with([' ', '\t']) {
            let open = self.open.as_mut().ok_or(SyntaxFault::StrayContinuation)?;
            open.value.push('\n');
            open.value.push_str(strip_start(line));
            return Ok(());
        }
        self.flush();
        if let Some(rest) = line.strip_prefix('[') {
            let name = rest.strip_suffix(']').ok_or(SyntaxFault::OpenSection)?;
            if name.is_empty() {
                return Err(SyntaxFault::NoSectionName);
            }
            self.section = Some(name.to_owned());
        } else if !line.starts_with(['#', ';']) {
            self.open = Some(self.assignment(number, line)?);
        }
        Ok(())
    }

    fn assignment(&self, line: u32, text: &str) -> Result<Assignment, SyntaxFault> {
        let (key, value) = text
            .split_once(['=', ':'])
            .ok_or(SyntaxFault::NoAssignment)?;
        let key = strip(key);
        if key.is_empty() {
            return Err(SyntaxFault::EmptyKey);
        }
        Ok(Assignment {
            section: self.section.clone().ok_or(SyntaxFault::NoSection)?,
            key: key.to_owned(),
            value: unquote(strip(value)).to_owned(),
            line,
        })
    }

    fn flush(&mut self) {
        self.found.extend(self.open.take());
    }
}

/// One pair of equal quotes falls off. A single quote character alone counts as such a pair, as in Python.
fn unquote(value: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return match rest.strip_suffix(quote) {
                Some(inside) => inside,
                None if rest.is_empty() => rest,
                None => value,
            };
        }
    }
    value
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.filter(|text| !text.is_empty())?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let after = &text[end..];
        let width = if after.starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&after[width..]);
        Some(&text[..end])
    })
}

/// What Python takes for white space: four separators more than Unicode's property has.
pub(crate) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

fn strip_end(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

fn strip_start(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let found = parse(text).unwrap();
        found.into_iter().map(|one| (one.key, one.value)).collect()
    }

    fn value(text: &str) -> String {
        values(&format!("[DEFAULT]\n{text}\n")).remove(0).1
    }

    #[test]
    fn the_first_of_equals_and_colon_divides() {
        assert_eq!(value("a = b:c"), "b:c");
        assert_eq!(value("a : b=c"), "b=c");
        assert_eq!(value("a=rabbit://u:p@h:1/?x=y"), "rabbit://u:p@h:1/?x=y");
    }

    #[test]
    fn one_pair_of_equal_quotes_falls_off() {
        assert_eq!(value("a = \" b \""), " b ");
        assert_eq!(value("a = ''b''"), "'b'");
        assert_eq!(value("a = \"b'"), "\"b'");
        assert_eq!(value("a = \""), "");
        assert_eq!(value("a = 'b' # c"), "'b' # c");
    }

    #[test]
    fn blanks_continue_a_value_and_an_empty_line_ends_it() {
        assert_eq!(value("a = 1\n  # 2\n\t3"), "1\n# 2\n3");
        assert_eq!(value("a =\n  1"), "\n1");
        assert_eq!(
            parse("[d]\na = 1\n\n  2\n"),
            Err((4, SyntaxFault::StrayContinuation))
        );
        assert_eq!(
            parse("[d]\na = 1\n# c\n  2\n"),
            Err((4, SyntaxFault::StrayContinuation))
        );
        assert_eq!(value("a = 'x'\n 'y'"), "x\n'y'");
    }

    #[test]
    fn comments_begin_a_line_and_nothing_else() {
        assert_eq!(
            values("; c\n[d]\n#a = 1\n;b = 2\nc = 3 ; d\n"),
            [("c".to_owned(), "3 ; d".to_owned())]
        );
    }

    #[test]
    fn sections_and_line_ends_are_read_as_python_does() {
        let found = parse("[a]\r\nx = 1\r[b ]\n\nx = 2").unwrap();
        assert_eq!((found[0].section(), found[0].line()), ("a", 2));
        assert_eq!(
            (found[1].section(), found[1].line(), found[1].value()),
            ("b ", 5, "2")
        );
    }

    #[test]
    fn what_is_no_file_of_the_language_is_an_error_with_its_line() {
        let cases = [
            ("[a]\nx\n", 2, SyntaxFault::NoAssignment),
            ("[a]\n= 1\n", 2, SyntaxFault::EmptyKey),
            ("  x = 1\n", 1, SyntaxFault::StrayContinuation),
            ("[a]x\n", 1, SyntaxFault::OpenSection),
            ("[]\n", 1, SyntaxFault::NoSectionName),
            ("\nx = 1\n", 2, SyntaxFault::NoSection),
        ];
        for (text, line, fault) in cases {
            assert_eq!(parse(text), Err((line, fault)), "{text:?}");
        }
    }

    #[test]
    fn an_assignment_is_printed_without_its_value() {
        let found = parse("[d]\ntransport_url = rabbit://u:hunter2@h/\n").unwrap();
        assert_eq!(format!("{found:?}"), "[[d] transport_url at line 2]");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\[\\]a=: '\"#\\n\\r\\t\u{1c}$é]{0,60}") {
            let _ = parse(&text);
        }
    }
}
