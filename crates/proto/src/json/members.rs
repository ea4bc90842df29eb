//! The members of an object, one after the other, without reading their values, and which of them count.

use std::collections::HashSet;
use std::ops::Range;

use indexmap::IndexMap;

use crate::json::error::JsonError;
use crate::json::scan::{RawStr, Scanner};

/// Walks over the members of an object, one key and the place of its value at a time.
pub(crate) struct Members<'a> {
    scanner: Scanner<'a>,
    state: MemberState,
}

enum MemberState {
    First,
    Later,
    Done,
}

impl<'a> Members<'a> {
    /// Starts at the opening brace of the object that fills `text`.
    pub(crate) fn of(text: &'a str) -> Result<Self, JsonError> {
        let mut scanner = Scanner::new(text);
        scanner.expect(b'{')?;
        Ok(Self {
            scanner,
            state: MemberState::First,
        })
    }

    /// The next key, with the scanner standing before its value; none at the end, after which only white space may
    /// follow.
    pub(crate) fn next_key(&mut self) -> Result<Option<RawStr<'a>>, JsonError> {
        match self.state {
            MemberState::Done => return Ok(None),
            MemberState::First => {
                self.state = MemberState::Later;
                if self.scanner.take(b'}')? {
                    return self.finish();
                }
            }
            MemberState::Later => {
                if self.scanner.more(b'}')? {
                    return self.finish();
                }
            }
        }
        self.scanner.key().map(Some)
    }

    /// The cursor, to take the value of the key just given.
    pub(crate) fn scanner(&mut self) -> &mut Scanner<'a> {
        &mut self.scanner
    }

    /// The next key and the place of its value.
    pub(crate) fn next_member(&mut self) -> Result<Option<(RawStr<'a>, Range<usize>)>, JsonError> {
        match self.next_key()? {
            Some(key) => Ok(Some((key, self.scanner.value()?))),
            None => Ok(None),
        }
    }

    fn finish(&mut self) -> Result<Option<RawStr<'a>>, JsonError> {
        self.state = MemberState::Done;
        self.scanner.end()?;
        Ok(None)
    }
}

/// Keeps the last of entries with the same key, at the place of the first.
pub(crate) fn last_of_each<K, V>(
    mut entries: Vec<(K, V)>,
    name: impl Fn(&K) -> &str,
) -> Vec<(K, V)> {
    let has_twins = if entries.len() <= 16 {
        entries.iter().enumerate().any(|(index, (key, _))| {
            entries[..index]
                .iter()
                .any(|(earlier, _)| name(earlier) == name(key))
        })
    } else {
        let mut seen = HashSet::with_capacity(entries.len());
        !entries.iter().all(|(key, _)| seen.insert(name(key)))
    };
    if !has_twins {
        return entries;
    }
    let mut places: IndexMap<String, (K, V)> = IndexMap::with_capacity(entries.len());
    for entry in entries.drain(..) {
        places.insert(name(&entry.0).to_owned(), entry);
    }
    places.into_values().collect()
}
