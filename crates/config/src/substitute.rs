//! The `$name` and `${name}` of values: where they stand in a text. What they mean is `resolve`'s business.

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text that stays.
    Text(&'a str),
    /// A name whose value comes here.
    Reference(&'a str),
}

/// A value with `\$` written as `$$`, which is how oslo.config reads it: before everything else.
pub(crate) fn normal(text: &str) -> String {
    text.replace("\\$", "$$")
}

/// Cuts a [`normal`] value into pieces. `$$` is a dollar sign; so is one that no name follows.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        found.push(Piece::Text(before));
        rest = after;
        if let Some(after) = after.strip_prefix('$') {
            found.push(Piece::Text("$"));
            rest = after;
        } else if let Some((name, after)) = braced(after).or_else(|| plain(after)) {
            found.push(Piece::Reference(name));
            rest = after;
        } else {
            found.push(Piece::Text("$"));
        }
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    found
}

fn plain(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    if !(first.is_ascii_alphabetic() || first == '_') {
        return None;
    }
    let end = text
        .find(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == '.'))
        .unwrap_or(text.len());
    Some(text.split_at(end))
}

fn braced(text: &str) -> Option<(&str, &str)> {
    let (name, after) = plain(text.strip_prefix('{')?)?;
    Some((name, after.strip_prefix('}')?))
}

#[cfg(test)]
mod tests {
    use super::Piece::{Reference, Text};
    use super::*;

    #[test]
    fn names_are_found_with_and_without_braces() {
        assert_eq!(
            pieces("a$b-${c.d}e"),
            [
                Text("a"),
                Reference("b"),
                Text("-"),
                Reference("c.d"),
                Text("e")
            ]
        );
        assert_eq!(pieces("$a.b."), [Reference("a.b.")]);
        assert_eq!(pieces("$_X1"), [Reference("_X1")]);
    }

    #[test]
    fn a_dollar_sign_that_no_name_follows_stays() {
        for text in ["$", "$5", "${", "${}", "${a b}", "${a", "$-", "a$ b"] {
            let joined: String = pieces(text)
                .into_iter()
                .map(|piece| match piece {
                    Text(text) => text,
                    Reference(name) => panic!("{text}: {name}"),
                })
                .collect();
            assert_eq!(joined, text);
        }
    }

    #[test]
    fn two_dollar_signs_and_an_escaped_one_are_one() {
        assert_eq!(pieces("$$a"), [Text("$"), Text("a")]);
        assert_eq!(pieces(&normal("\\$a")), [Text("$"), Text("a")]);
        assert_eq!(pieces(&normal("$\\$a")), [Text("$"), Reference("a")]);
        assert_eq!(pieces("$$$a"), [Text("$"), Reference("a")]);
    }
}
