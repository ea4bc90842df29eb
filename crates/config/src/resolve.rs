//! From what was given to typed options: former names, `$name`, types, and a report of where each value is from.

mod report;

use crate::error::{ConfigError, ReferenceFault, Warning};
use crate::origin::Origin;
use crate::sources::{DEFAULT, Sources};
use crate::substitute::{Piece, normal, pieces};
use crate::table::{OptionInfo, Options, Table};

pub use self::report::Report;

/// Most references followed for one option; nobody writes as many, and a circle of many arms ends here.
const MOST_REFERENCES: usize = 10_000;
/// Most references within each other.
const DEEPEST: usize = 64;
/// Longest value with everything put in, in bytes.
const LONGEST: usize = 1 << 20;

/// Reads the groups of some tables from some sources.
///
/// What is wrong does not stop it: the option keeps its default, and the [`Report`] has the error.
///
/// ```
/// # oslo_messaging_config::options! {
/// #     /// Lamp.
/// #     #[derive(Debug, Clone)]
/// #     pub struct LampConfig in "lamp" {
/// #         /// How bright (default 5).
/// #         level: u32 = 5;
/// #     }
/// # }
/// use oslo_messaging_config::resolve::Resolver;
/// use oslo_messaging_config::sources::Sources;
/// use oslo_messaging_config::table::Options;
///
/// let mut sources = Sources::new();
/// sources.text("lamp.conf", "[lamp]\nlevel = bright\n").unwrap();
/// let mut resolver = Resolver::new(&sources, &[LampConfig::TABLE]);
/// assert_eq!(resolver.load::<LampConfig>().level, 5);
/// let error = resolver.finish().errors()[0].to_string();
/// assert_eq!(error, "lamp.conf:2: in [lamp] option level cannot be \"bright\"; \
///     allowed: a whole number from 0 to 4294967295");
/// ```
#[derive(Debug)]
pub struct Resolver<'a> {
    sources: &'a Sources,
    tables: &'a [Table],
    report: Report,
}

/// A value with everything put in, and whether a secret is in it.
struct Expanded {
    text: String,
    secret: bool,
}

/// The way to the option whose value is asked for.
struct Way {
    /// Options whose values are being asked for, `(group, name)`, the innermost last.
    pairs: Vec<(String, String)>,
    /// References followed so far.
    followed: usize,
}

impl Way {
    fn from(group: &str, name: &str) -> Self {
        Self {
            pairs: vec![(group.to_owned(), name.to_owned())],
            followed: 0,
        }
    }

    /// The option whose value holds the reference.
    fn asking(&self) -> (String, String) {
        self.pairs.last().cloned().unwrap_or_default()
    }

    /// Goes one reference further; none if that is too far.
    fn enter(&mut self, pair: (String, String)) -> Option<()> {
        self.followed += 1;
        self.pairs.push(pair);
        (self.followed <= MOST_REFERENCES && self.pairs.len() <= DEEPEST).then_some(())
    }

    fn leave(&mut self) {
        self.pairs.pop();
    }
}

impl<'a> Resolver<'a> {
    /// Reads `sources`. Options of all `tables` may be referred to by `$name`, with their types and defaults.
    ///
    /// ```
    /// use oslo_messaging_config::{resolve::Resolver, sources::Sources};
    ///
    /// let sources = Sources::new();
    /// assert!(Resolver::new(&sources, &[]).finish().errors().is_empty());
    /// ```
    pub fn new(sources: &'a Sources, tables: &'a [Table]) -> Self {
        Self {
            sources,
            tables,
            report: Report::default(),
        }
    }

    /// Reads a group.
    ///
    /// ```
    /// # oslo_messaging_config::options! {
    /// #     /// Lamp.
    /// #     #[derive(Debug, Clone)]
    /// #     pub struct LampConfig in "lamp" {
    /// #         /// How bright (default 5).
    /// #         level: u32 = 5;
    /// #     }
    /// # }
    /// use oslo_messaging_config::{resolve::Resolver, sources::Sources};
    ///
    /// let mut sources = Sources::new();
    /// sources.environment([("OS_LAMP__LEVEL".to_owned(), "7".to_owned())]);
    /// assert_eq!(Resolver::new(&sources, &[]).load::<LampConfig>().level, 7);
    /// ```
    pub fn load<T: Options>(&mut self) -> T {
        let mut options = T::default();
        for info in T::TABLE.options {
            if let Err(error) = self.load_one(&mut options, info) {
                self.report.push_error(error);
            }
        }
        options
    }

    /// Reads one option of a group; the others have their defaults.
    ///
    /// ```
    /// # oslo_messaging_config::options! {
    /// #     /// Lamp.
    /// #     #[derive(Debug, Clone)]
    /// #     pub struct LampConfig in "lamp" {
    /// #         /// How bright (default 5).
    /// #         level: u32 = 5;
    /// #     }
    /// # }
    /// use oslo_messaging_config::{resolve::Resolver, sources::Sources};
    ///
    /// let sources = Sources::new();
    /// assert_eq!(Resolver::new(&sources, &[]).load_only::<LampConfig>("level").level, 5);
    /// ```
    pub fn load_only<T: Options>(&mut self, name: &str) -> T {
        let mut options = T::default();
        if let Some(info) = T::TABLE.option(name)
            && let Err(error) = self.load_one(&mut options, info)
        {
            self.report.push_error(error);
        }
        options
    }

    /// What was noticed so far.
    ///
    /// ```
    /// use oslo_messaging_config::{resolve::Resolver, sources::Sources};
    ///
    /// let sources = Sources::new();
    /// assert!(Resolver::new(&sources, &[]).report().warnings().is_empty());
    /// ```
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// What was noticed.
    ///
    /// ```
    /// use oslo_messaging_config::{resolve::Resolver, sources::Sources};
    ///
    /// let sources = Sources::new();
    /// assert!(Resolver::new(&sources, &[]).finish().warnings().is_empty());
    /// ```
    pub fn finish(self) -> Report {
        self.report
    }

    fn load_one<T: Options>(
        &mut self,
        options: &mut T,
        info: &'static OptionInfo,
    ) -> Result<(), ConfigError> {
        let group = T::TABLE.group;
        let Some(found) = self.sources.find(&names(group, info), info.multi) else {
            return Ok(());
        };
        self.warn(group, info, &found.former, &found.origin);
        let mut way = Way::from(group, info.name);
        let mut texts = Vec::with_capacity(found.texts.len());
        let mut secret = info.secret;
        for text in &found.texts {
            let expanded = self.expand(text, info.secret, &found.origin, &mut way)?;
            secret |= expanded.secret;
            texts.push(expanded.text);
        }
        if info.unset_by(&texts) {
            if !info.default_texts().is_empty() {
                let (origin, name) = (found.origin, info.name);
                self.report.push_warning(Warning::Empty {
                    origin,
                    group,
                    name,
                });
            }
            return Ok(());
        }
        options.set(info.name, &texts).map_err(|refusal| {
            let refusal = if secret {
                info.refuse_unseen()
            } else {
                refusal
            };
            ConfigError::Value {
                origin: found.origin.clone(),
                group,
                refusal,
            }
        })?;
        if secret && !info.secret {
            self.report.hide(group, info.name);
        }
        self.report.set_origin(group, info.name, found.origin);
        Ok(())
    }

    fn warn(
        &mut self,
        group: &'static str,
        info: &'static OptionInfo,
        former: &[(String, String, Origin)],
        origin: &Origin,
    ) {
        for (old_group, old_name, origin) in former {
            self.report.push_warning(Warning::Renamed {
                origin: origin.clone(),
                group: old_group.clone(),
                name: old_name.clone(),
                now: (group, info.name),
            });
        }
        if let (Some(reason), true) = (info.retiring, origin.is_set()) {
            self.report.push_warning(Warning::Retiring {
                origin: origin.clone(),
                group,
                name: info.name,
                reason,
            });
        }
    }

    /// Puts the values of other options in. The last of `way` is the option whose value `text` is.
    fn expand(
        &self,
        text: &str,
        secret: bool,
        origin: &Origin,
        way: &mut Way,
    ) -> Result<Expanded, ConfigError> {
        let mut whole = Expanded {
            text: String::with_capacity(text.len()),
            secret: false,
        };
        for piece in pieces(&normal(text)) {
            match piece {
                Piece::Text(text) => whole.text.push_str(text),
                Piece::Reference(key) => {
                    let value = self.value_of(key, secret, origin, way)?;
                    whole.text.push_str(&value.text);
                    whole.secret |= value.secret;
                    if whole.text.len() > LONGEST {
                        return Err(too_much(origin, &way.asking()));
                    }
                }
            }
        }
        Ok(whole)
    }

    /// What `$key` stands for: `group.option`, else an option of the same group, else one of `[DEFAULT]`.
    fn value_of(
        &self,
        key: &str,
        secret: bool,
        origin: &Origin,
        way: &mut Way,
    ) -> Result<Expanded, ConfigError> {
        let asking = way.asking();
        let nearest = key.split_once('.').unwrap_or((asking.0.as_str(), key));
        for (group, name) in [nearest, (DEFAULT, key)] {
            let pair = (group.to_owned(), name.to_owned());
            let way_back = way.pairs.contains(&pair);
            if let Some(info) = self.declared(group, name) {
                let real = (group.to_owned(), info.name.to_owned());
                if way.pairs.contains(&real) {
                    return Err(cycle(origin, &asking, way, real));
                }
                way.enter(real).ok_or_else(|| too_much(origin, &asking))?;
                let value = self.declared_value(group, info, way);
                way.leave();
                return value;
            }
            // A key that its own library does not know is no option: oslo.config would not find it either.
            let is_closed =
                group != DEFAULT && self.tables.iter().any(|table| table.group == group);
            if is_closed {
                continue;
            }
            if let Some((text, origin)) = self.sources.find_undeclared(group, name) {
                if way_back {
                    return Err(cycle(&origin, &asking, way, pair));
                }
                way.enter(pair).ok_or_else(|| too_much(&origin, &asking))?;
                let value = self.expand(&text, secret || is_secret(name), &origin, way);
                way.leave();
                return value.map(|value| Expanded {
                    secret: value.secret || is_secret(name),
                    ..value
                });
            }
        }
        let reference = (!secret).then(|| key.to_owned());
        Err(ConfigError::Reference {
            origin: origin.clone(),
            group: asking.0,
            name: asking.1,
            fault: ReferenceFault::Undefined { reference },
        })
    }

    fn declared(&self, group: &str, name: &str) -> Option<&'static OptionInfo> {
        let table = self.tables.iter().find(|table| table.group == group)?;
        table.option(name)
    }

    /// The value of a declared option as Python's `str` has it.
    fn declared_value(
        &self,
        group: &str,
        info: &'static OptionInfo,
        way: &mut Way,
    ) -> Result<Expanded, ConfigError> {
        let own = self.tables.iter().find(|table| table.group == group);
        let group = own.map_or("", |table| table.group);
        let Some(found) = self.sources.find(&names(group, info), info.multi) else {
            return Ok(Expanded {
                text: info.python(None).unwrap_or_default(),
                secret: info.secret,
            });
        };
        let mut secret = info.secret;
        let mut texts = Vec::with_capacity(found.texts.len());
        for text in &found.texts {
            let expanded = self.expand(text, info.secret, &found.origin, way)?;
            secret |= expanded.secret;
            texts.push(expanded.text);
        }
        if info.unset_by(&texts) {
            return Ok(Expanded {
                text: String::new(),
                secret,
            });
        }
        let text = info.python(Some(&texts)).ok_or_else(|| {
            let last = texts.last().map(String::as_str).unwrap_or_default();
            ConfigError::Value {
                origin: found.origin.clone(),
                group,
                refusal: if secret {
                    info.refuse_unseen()
                } else {
                    info.refuse(last)
                },
            }
        })?;
        Ok(Expanded { text, secret })
    }
}

/// Today's group and name, then the former ones.
fn names(group: &'static str, info: &'static OptionInfo) -> Vec<(&'static str, &'static str)> {
    let former = info
        .former
        .iter()
        .map(|(old, name)| (if old.is_empty() { group } else { *old }, *name));
    std::iter::once((group, info.name)).chain(former).collect()
}

fn cycle(
    origin: &Origin,
    asking: &(String, String),
    way: &Way,
    back: (String, String),
) -> ConfigError {
    let start = way.pairs.iter().position(|pair| *pair == back);
    let way = way.pairs[start.unwrap_or(0)..].iter().chain([&back]);
    ConfigError::Reference {
        origin: origin.clone(),
        group: asking.0.clone(),
        name: asking.1.clone(),
        fault: ReferenceFault::Cycle {
            way: way.map(|(group, name)| format!("{group}.{name}")).collect(),
        },
    }
}

fn too_much(origin: &Origin, asking: &(String, String)) -> ConfigError {
    ConfigError::Reference {
        origin: origin.clone(),
        group: asking.0.clone(),
        name: asking.1.clone(),
        fault: ReferenceFault::TooMuch,
    }
}

/// Whether an undeclared option's name says that its value is to be hidden.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    [
        "pass",
        "secret",
        "token",
        "credential",
        "key",
        "_url",
        "connection",
    ]
    .iter()
    .any(|word| name.contains(word))
}

#[cfg(test)]
#[allow(unreachable_pub, reason = "`options!` declares public structs")]
mod tests;
