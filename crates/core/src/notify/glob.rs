//! Shell patterns as the reference's routing files have them (Python's `fnmatch`, parity ND6).

/// Whether `text` as a whole matches `pattern`: `*` anything, `?` one character, `[abc]`, `[a-z]` and `[!abc]` one of
/// or none of those; a bracket that is not closed stands for itself.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    // The place after the last `*`, and how far the text went then: all that has to be taken up again.
    let (mut at, mut read, mut star) = (0, 0, None);
    while read < text.len() {
        match step(&pattern[at..], text[read]) {
            Step::Any => {
                star = Some((at + 1, read));
                at += 1;
            }
            Step::Fits(length) => {
                at += length;
                read += 1;
            }
            Step::No => match star {
                Some((after, from)) => {
                    (at, read) = (after, from + 1);
                    star = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&letter| letter == '*')
}

enum Step {
    /// The pattern goes on with `*`.
    Any,
    /// So much of the pattern fits the letter.
    Fits(usize),
    No,
}

fn step(pattern: &[char], letter: char) -> Step {
    match pattern.first() {
        Some('*') => Step::Any,
        Some('?') => Step::Fits(1),
        Some('[') => match class(pattern) {
            Some((length, members, inverted)) => {
                if contains(members, letter) == inverted {
                    Step::No
                } else {
                    Step::Fits(length)
                }
            }
            None if letter == '[' => Step::Fits(1),
            None => Step::No,
        },
        Some(&own) if own == letter => Step::Fits(1),
        _ => Step::No,
    }
}

/// A class of letters: its length in the pattern, its members, whether it means all others.
fn class(pattern: &[char]) -> Option<(usize, &[char], bool)> {
    let inverted = pattern.get(1) == Some(&'!');
    let start = if inverted { 2 } else { 1 };
    // A bracket that comes first is a member.
    let end = (start + 1..pattern.len()).find(|&end| pattern[end] == ']')?;
    Some((end + 1, &pattern[start..end], inverted))
}

fn contains(members: &[char], letter: char) -> bool {
    let mut at = 0;
    while at < members.len() {
        if at + 2 < members.len() && members[at + 1] == '-' {
            if (members[at]..=members[at + 2]).contains(&letter) {
                return true;
            }
            at += 3;
        } else {
            if members[at] == letter {
                return true;
            }
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_mean_what_they_mean_in_python() {
        let fits = [
            ("*", ""),
            ("compute.*", "compute.instance.create"),
            ("*.error", "volume.create.error"),
            ("a*b*c", "axxbyyc"),
            ("a?c", "abc"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]x]", "]"),
            ("[x", "[x"),
            ("é*", "één"),
            ("a-c", "a-c"),
        ];
        for (pattern, text) in fits {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        let misses = [
            ("compute", "compute.instance"),
            ("a?c", "ac"),
            ("[a-c]x", "dx"),
            ("[!a-c]x", "bx"),
            ("a*b*c", "axxbyyd"),
            ("", "x"),
            ("[x", "x"),
            ("Compute.*", "compute.x"),
        ];
        for (pattern, text) in misses {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        assert!(!matches(
            &"a*".repeat(40),
            &"a".repeat(2_000).replace('a', "ab")[1..]
        ));
    }
}
