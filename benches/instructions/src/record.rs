//! What was recorded: the counts, and with what they were made.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// Instructions of one operation, by the name of its hot path.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The file that is kept with the code.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) toolchain: Toolchain,
    /// Instructions of one operation.
    pub(crate) counts: Counts,
}

/// What the counts depend on beside the code.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Toolchain {
    pub(crate) target: String,
    pub(crate) rustc: String,
    pub(crate) libc: String,
    pub(crate) valgrind: String,
}

impl Record {
    /// Reads the file.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let fault = |fault: &dyn std::fmt::Display| format!("{}: {fault}", file.display());
        let text = fs::read_to_string(file).map_err(|error| fault(&error))?;
        serde_json::from_str(&text).map_err(|error| fault(&error))
    }

    /// Reads the file, or finds that there is none.
    pub(crate) fn read_if_there(file: &Path) -> Result<Option<Self>, String> {
        match fs::metadata(file) {
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            _ => Self::read(file).map(Some),
        }
    }

    /// Writes the file.
    pub(crate) fn write(&self, file: &Path) -> Result<(), String> {
        let mut text = serde_json::to_string_pretty(self).map_err(|fault| fault.to_string())?;
        text.push('\n');
        fs::write(file, text).map_err(|fault| format!("{}: {fault}", file.display()))
    }
}

impl Toolchain {
    /// What is in use here.
    pub(crate) fn here() -> Result<Self, String> {
        let rustc = first_words(
            std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()),
            "-vV",
        )?;
        let value = |key: &str| {
            let found = rustc.lines().find_map(|line| line.strip_prefix(key));
            found
                .map(|text| text.trim().to_owned())
                .ok_or_else(|| format!("rustc -vV does not tell {key}"))
        };
        // Where there is no glibc, there is none to name.
        let libc = first_words("ldd", "--version").unwrap_or_default();
        Ok(Self {
            target: value("host:")?,
            rustc: value("release:")?,
            libc: libc.lines().next().unwrap_or_default().to_owned(),
            valgrind: first_words("valgrind", "--version")?.trim().to_owned(),
        })
    }

    /// In words, what the counts may differ by without any change of the code.
    pub(crate) fn differences(&self, here: &Self) -> Vec<String> {
        let pairs = [
            ("rustc", &self.rustc, &here.rustc),
            ("C library", &self.libc, &here.libc),
            ("valgrind", &self.valgrind, &here.valgrind),
        ];
        let different = pairs
            .into_iter()
            .filter(|(_, recorded, here)| recorded != here);
        let tell = |(what, recorded, here)| {
            format!(
                "Recorded with {what} {recorded:?}, counted with {here:?}: that alone may move the counts."
            )
        };
        different.map(tell).collect()
    }
}

fn first_words(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> Result<String, String> {
    let program = program.as_ref();
    let output = Command::new(program).arg(argument).output();
    let output =
        output.map_err(|fault| format!("{} cannot be run ({fault})", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let toolchain = Toolchain {
            target: "x86_64-unknown-linux-gnu".to_owned(),
            rustc: "1.95.0".to_owned(),
            libc: "ldd 2.36".to_owned(),
            valgrind: "valgrind-3.19.0".to_owned(),
        };
        Record {
            toolchain,
            counts: Counts::from([("a".to_owned(), 1)]),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recorded.json");
        assert_eq!(Record::read_if_there(&file), Ok(None));
        record().write(&file).unwrap();
        assert_eq!(Record::read(&file), Ok(record()));
        fs::write(&file, "{}").unwrap();
        assert!(
            Record::read_if_there(&file)
                .unwrap_err()
                .contains("recorded.json")
        );
    }

    #[test]
    fn another_compiler_is_told() {
        let (recorded, mut here) = (record().toolchain, record().toolchain);
        assert!(recorded.differences(&here).is_empty());
        here.rustc = "1.96.0".to_owned();
        let told = recorded.differences(&here);
        assert!(told.len() == 1 && told[0].contains("1.96.0"), "{told:?}");
    }
}
