//! The command line.

use std::path::PathBuf;

use crate::record::Counts;

/// What `--help` says.
pub(crate) const USAGE: &str = "\
Counts the instructions of the hot paths and compares them with what was recorded.

usage: instructions [--renew] [--only PREFIX] [--record FILE] [--profiles FOLDER]
       instructions --list

  --renew           records the counts instead of judging them
  --only PREFIX     looks at those only whose names begin so
  --record FILE     where the counts are (default: benches/instructions/recorded.json)
  --profiles FOLDER where callgrind's profiles go, for callgrind_annotate (default: target/instructions)
  --list            names the hot paths

ends with 0 if nothing grew by more than 5 %, with 1 if something did or is not recorded or is gone, with 2 if it
could not be counted";

/// What is to be done, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) task: Task,
    pub(crate) record: PathBuf,
    pub(crate) profiles: PathBuf,
    only: String,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Check,
    Renew,
    List,
    Help,
    /// Run one path here; valgrind watches.
    Run(String),
}

impl Arguments {
    /// Reads the words behind the program's name.
    pub(crate) fn read(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut words = words.into_iter();
        let mut given = Self {
            task: Task::Check,
            record: "benches/instructions/recorded.json".into(),
            profiles: "target/instructions".into(),
            only: String::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--renew" => given.task = Task::Renew,
                "--list" => given.task = Task::List,
                "--help" | "-h" => given.task = Task::Help,
                "--run" => given.task = Task::Run(value()?),
                "--only" => given.only = value()?,
                "--record" => given.record = value()?.into(),
                "--profiles" => given.profiles = value()?.into(),
                other => return Err(format!("{other} is nothing this program knows\n{USAGE}")),
            }
        }
        Ok(given)
    }

    /// Whether the hot path of this name is looked at.
    pub(crate) fn is_wanted(&self, name: &str) -> bool {
        name.starts_with(&self.only)
    }

    /// Those of `counts` that are looked at.
    pub(crate) fn wanted(&self, counts: &Counts) -> Counts {
        let wanted = counts.iter().filter(|(name, _)| self.is_wanted(name));
        wanted.map(|(name, count)| (name.clone(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Arguments, String> {
        Arguments::read(words.iter().map(|word| (*word).to_owned()))
    }

    #[test]
    fn without_a_word_everything_is_checked() {
        let given = read(&[]).unwrap();
        assert_eq!(given.task, Task::Check);
        assert!(given.is_wanted("anything"));
    }

    #[test]
    fn a_prefix_chooses() {
        let given = read(&["--renew", "--only", "engine/"]).unwrap();
        assert_eq!(given.task, Task::Renew);
        let counts = Counts::from([("engine/a".to_owned(), 1), ("call/b".to_owned(), 2)]);
        assert_eq!(
            given.wanted(&counts),
            Counts::from([("engine/a".to_owned(), 1)])
        );
    }

    #[test]
    fn what_is_not_known_is_told() {
        assert!(read(&["--nonsense"]).unwrap_err().contains("usage:"));
        assert!(read(&["--only"]).unwrap_err().contains("needs a value"));
    }
}
