//! What was given: files in their order, the environment, defaults of the program. Nothing is typed here.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::ConfigError;
use crate::ini::{Assignment, parse};
use crate::origin::{Origin, Place};

/// The group of options that belong to no other.
pub const DEFAULT: &str = "DEFAULT";

/// Files, the environment and defaults of the program, from which options are read.
///
/// Later files win over earlier ones, the environment over files, and files over what the program sets.
///
/// ```
/// use oslo_messaging_config::sources::Sources;
///
/// let mut sources = Sources::new();
/// sources.text("nova.conf", "[DEFAULT]\nmy_ip = 10.0.0.1\n").unwrap();
/// sources.environment([("OS_DEFAULT__MY_IP".to_owned(), "10.0.0.2".to_owned())]);
/// assert_eq!(sources.place("DEFAULT", "my_ip").unwrap().to_string(), "nova.conf:2");
/// ```
#[derive(Clone, Default)]
pub struct Sources {
    /// In the order read.
    files: Vec<File>,
    environment: BTreeMap<String, String>,
    program: BTreeMap<(String, String), String>,
}

#[derive(Clone)]
struct File {
    path: Arc<Path>,
    lines: Vec<(String, Assignment)>,
}

/// The values found for an option, before anything is put in for `$name`.
pub(crate) struct Found {
    pub(crate) texts: Vec<String>,
    /// Who gave the last of them.
    pub(crate) origin: Origin,
    /// The former names used, and where.
    pub(crate) former: Vec<(String, String, Origin)>,
}

impl Sources {
    /// Nothing given yet.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// assert!(Sources::new().files().next().is_none());
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file; `~` at its beginning is the home directory.
    ///
    /// ```no_run
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// let mut sources = Sources::new();
    /// sources.file("/etc/nova/nova.conf").unwrap();
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`] if it is not there, may not be read or is no UTF-8,
    /// [`ConfigError::Syntax`] if a line is none of the language.
    pub fn file(&mut self, path: impl AsRef<Path>) -> Result<&mut Self, ConfigError> {
        let path = full(path.as_ref());
        let unreadable = |why: String| ConfigError::Unreadable {
            path: path.clone(),
            why,
        };
        let bytes = fs::read(&path).map_err(|fault| unreadable(fault.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|fault| {
            let before = &fault.as_bytes()[..fault.utf8_error().valid_up_to()];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            unreadable(format!("not UTF-8 at line {line}"))
        })?;
        self.text(path.clone(), &text)
    }

    /// Reads all files `*.conf` of a directory in the order of their names, hidden ones aside.
    ///
    /// ```no_run
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// Sources::new().dir("/etc/nova/nova.conf.d").unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`Sources::file`]; a directory that is not there is one.
    pub fn dir(&mut self, path: impl AsRef<Path>) -> Result<&mut Self, ConfigError> {
        let path = full(path.as_ref());
        let unreadable = |fault: std::io::Error| ConfigError::Unreadable {
            path: path.clone(),
            why: fault.to_string(),
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(unreadable)? {
            let name = entry.map_err(unreadable)?.file_name();
            let bytes = name.as_encoded_bytes();
            if bytes.ends_with(b".conf") && !bytes.starts_with(b".") {
                names.push(name);
            }
        }
        names.sort();
        for name in names {
            self.file(path.join(name))?;
        }
        Ok(self)
    }

    /// Takes `text` as the content of a file of this name.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// assert!(Sources::new().text("a.conf", "[DEFAULT]\ndebug = true\n").is_ok());
    /// ```
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] if a line is none of the language.
    pub fn text(&mut self, name: impl Into<PathBuf>, text: &str) -> Result<&mut Self, ConfigError> {
        let path: Arc<Path> = name.into().into();
        let lines = parse(text).map_err(|(line, fault)| ConfigError::Syntax {
            place: Place::of(&path, line),
            fault,
        })?;
        let lines = lines
            .into_iter()
            .map(|line| (group_name(line.section()), line))
            .collect();
        self.files.push(File { path, lines });
        Ok(self)
    }

    /// Takes these environment variables; those named `OS_<GROUP>__<OPTION>` count.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// Sources::new().environment([("OS_DEFAULT__DEBUG".to_owned(), "1".to_owned())]);
    /// ```
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> &mut Self {
        let ours = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with("OS_") && name.contains("__"));
        self.environment.extend(ours);
        self
    }

    /// Takes the environment of this process. Variables that are no UTF-8 are left out.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// Sources::new().process_environment();
    /// ```
    pub fn process_environment(&mut self) -> &mut Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        self.environment(variables)
    }

    /// Gives an option a default of the program, which everything else wins over.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// Sources::new().set_default("DEFAULT", "control_exchange", "nova");
    /// ```
    pub fn set_default(&mut self, group: &str, name: &str, value: &str) -> &mut Self {
        self.program
            .insert((group_name(group), name.to_owned()), value.to_owned());
        self
    }

    /// The files read, in their order.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// let mut sources = Sources::new();
    /// sources.text("a.conf", "").unwrap().text("b.conf", "").unwrap();
    /// assert_eq!(sources.files().count(), 2);
    /// ```
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The line that sets this option in the files, whether or not anyone knows the option.
    ///
    /// ```
    /// use oslo_messaging_config::sources::Sources;
    ///
    /// assert!(Sources::new().place("DEFAULT", "rpc_backend").is_none());
    /// ```
    pub fn place(&self, group: &str, name: &str) -> Option<Place> {
        let group = group_name(group);
        let (_, place) = self.last_line(&group, name)?;
        Some(place)
    }

    /// What is given for an option with these `(group, name)`, today's first.
    pub(crate) fn find(&self, names: &[(&str, &str)], multi: bool) -> Option<Found> {
        let (group, name) = *names.first()?;
        if let Some((variable, text)) = self.variable(group, name) {
            return Some(Found {
                texts: vec![text.to_owned()],
                origin: Origin::Environment(variable),
                former: Vec::new(),
            });
        }
        let normal: Vec<(String, &str)> = names
            .iter()
            .map(|(group, name)| (group_name(group), *name))
            .collect();
        self.find_in_files(&normal, multi).or_else(|| {
            let text = self.program.get(&(group_name(group), name.to_owned()))?;
            Some(Found {
                texts: vec![text.clone()],
                origin: Origin::Program,
                former: Vec::new(),
            })
        })
    }

    /// The last file wins, and in a file today's name. A multi-valued option has the values of all files and
    /// names, the earliest file's first.
    fn find_in_files(&self, names: &[(String, &str)], multi: bool) -> Option<Found> {
        let mut texts: Vec<String> = Vec::new();
        let mut origin = None;
        let mut former = Vec::new();
        for file in self.files.iter().rev() {
            for (index, (group, name)) in names.iter().enumerate() {
                let lines: Vec<&Assignment> = file.all(group, name).collect();
                let Some(last) = lines.last() else { continue };
                let place = Origin::File(Place::of(&file.path, last.line()));
                if index > 0 {
                    former.push((group.clone(), (*name).to_owned(), place.clone()));
                }
                origin.get_or_insert(place);
                texts.splice(0..0, lines.iter().map(|line| line.value().to_owned()));
                if !multi {
                    let texts = texts.pop().into_iter().collect();
                    let origin = origin.unwrap_or_default();
                    return Some(Found {
                        texts,
                        origin,
                        former,
                    });
                }
            }
        }
        Some(Found {
            texts,
            origin: origin?,
            former,
        })
    }

    /// The value of an option nobody declared.
    pub(crate) fn find_undeclared(&self, group: &str, name: &str) -> Option<(String, Origin)> {
        if let Some((variable, text)) = self.variable(group, name) {
            return Some((text.to_owned(), Origin::Environment(variable)));
        }
        let group = group_name(group);
        let (line, place) = self.last_line(&group, name)?;
        Some((line.value().to_owned(), Origin::File(place)))
    }

    fn variable(&self, group: &str, name: &str) -> Option<(String, &str)> {
        let variable = format!("OS_{}__{}", group.to_uppercase(), name.to_uppercase());
        let text = self.environment.get(&variable)?;
        Some((variable, text))
    }

    fn last_line<'a>(&'a self, group: &'a str, name: &'a str) -> Option<(&'a Assignment, Place)> {
        self.files.iter().rev().find_map(move |file| {
            let line = file.all(group, name).last()?;
            Some((line, Place::of(&file.path, line.line())))
        })
    }
}

impl File {
    fn all<'a>(&'a self, group: &'a str, name: &'a str) -> impl Iterator<Item = &'a Assignment> {
        let lines = self.lines.iter();
        let wanted = move |(own, line): &&(String, Assignment)| own == group && line.key() == name;
        lines.filter(wanted).map(|(_, line)| line)
    }
}

/// Without values, which may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("files", &self.files().collect::<Vec<_>>())
            .field("environment", &self.environment.keys())
            .field("program", &self.program.keys())
            .finish()
    }
}

/// Names of groups are the same in any case, but for `DEFAULT`, which is in capitals.
fn group_name(name: &str) -> String {
    if name == DEFAULT {
        name.to_owned()
    } else {
        name.to_lowercase()
    }
}

/// The path with the home directory for `~`, from the root.
fn full(path: &Path) -> PathBuf {
    let home = path.strip_prefix("~").ok().and_then(|rest| {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
        Some(Path::new(&home).join(rest))
    });
    let path = home.unwrap_or_else(|| path.to_owned());
    std::path::absolute(&path).unwrap_or(path)
}
