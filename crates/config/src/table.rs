//! Tables of options: a group declared once gives its struct, its documentation and its reader.

use crate::error::Refusal;

/// One option, for reading it and for printing a reference of it.
///
/// ```
/// use oslo_messaging_config::options;
///
/// options! {
///     /// Lamp.
///     #[derive(Debug, Clone)]
///     pub struct LampConfig in "lamp" {
///         /// How bright (default 5).
///         level: u32 = 5, max(9.0);
///     }
/// }
/// let level = &LampConfig::OPTIONS[0];
/// assert_eq!((level.name, level.kind, level.allowed().as_str()), ("level", "integer", "a whole number from 0 to 9"));
/// assert_eq!(level.default_texts(), ["5"]);
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct OptionInfo {
    /// Name, the reference's.
    pub name: &'static str,
    /// Kind of its value: `boolean`, `integer`, `floating point`, `string`, `list`, `dict` or `multi valued`.
    pub kind: &'static str,
    /// What it does.
    pub about: &'static str,
    /// The texts it takes, if they are few.
    pub choices: &'static [&'static str],
    /// Whether each line of it adds a value.
    pub multi: bool,
    /// Least number it takes.
    pub min: Option<f64>,
    /// Greatest number it takes.
    pub max: Option<f64>,
    /// Former names, `(group, name)`, where an empty group is today's; read and warned of.
    pub former: &'static [(&'static str, &'static str)],
    /// Why it will be removed, if it will.
    pub retiring: Option<&'static str>,
    /// Whether its value is never shown.
    pub secret: bool,
    /// Whether it is of this library only: the reference does not have it.
    pub ours: bool,
    /// What stands for the default in a sample where it depends on the machine.
    pub sample: Option<&'static str>,
    allowed: &'static str,
    bounds: Option<(f64, f64)>,
    empty_is_unset: bool,
    default: fn() -> Vec<String>,
    python: fn(Option<&[String]>) -> Option<String>,
}

/// What the macro knows of an option's type.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Type {
    pub kind: &'static str,
    pub allowed: &'static str,
    pub choices: &'static [&'static str],
    pub multi: bool,
    pub empty_is_unset: bool,
    pub bounds: Option<(f64, f64)>,
    pub default: fn() -> Vec<String>,
    pub python: fn(Option<&[String]>) -> Option<String>,
}

/// Marks of a table's row; each gives the row back.
impl OptionInfo {
    #[doc(hidden)]
    pub const fn new(name: &'static str, about: &'static str, of: Type) -> Self {
        Self {
            name,
            kind: of.kind,
            about,
            choices: of.choices,
            multi: of.multi,
            min: None,
            max: None,
            former: &[],
            retiring: None,
            secret: false,
            ours: false,
            sample: None,
            allowed: of.allowed,
            bounds: of.bounds,
            empty_is_unset: of.empty_is_unset,
            default: of.default,
            python: of.python,
        }
    }

    #[doc(hidden)]
    pub const fn min(mut self, least: f64) -> Self {
        self.min = Some(least);
        self
    }

    #[doc(hidden)]
    pub const fn max(mut self, greatest: f64) -> Self {
        self.max = Some(greatest);
        self
    }

    #[doc(hidden)]
    pub const fn was(mut self, former: &'static [(&'static str, &'static str)]) -> Self {
        self.former = former;
        self
    }

    #[doc(hidden)]
    pub const fn retiring(mut self, reason: &'static str) -> Self {
        self.retiring = Some(reason);
        self
    }

    #[doc(hidden)]
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    #[doc(hidden)]
    pub const fn ours(mut self) -> Self {
        self.ours = true;
        self
    }

    #[doc(hidden)]
    pub const fn sample(mut self, text: &'static str) -> Self {
        self.sample = Some(text);
        self
    }
}

impl OptionInfo {
    /// What may be written for it, in words.
    ///
    /// ```
    /// # oslo_messaging_config::options! {
    /// #     /// G.
    /// #     #[derive(Debug, Clone)]
    /// #     pub struct G in "g" {
    /// #         /// O.
    /// #         o: f64 = 1.0, min(0.0), max(4.5);
    /// #     }
    /// # }
    /// assert_eq!(G::OPTIONS[0].allowed(), "a number from 0 to 4.5");
    /// ```
    pub fn allowed(&self) -> String {
        let mut text = self.allowed.to_owned();
        let Some((low, high)) = self.bounds else {
            return text;
        };
        let low = self.min.unwrap_or(low);
        let high = self.max.unwrap_or(high);
        if low.is_finite() {
            text.push_str(&format!(" from {low}"));
        }
        if high.is_finite() {
            text.push_str(&format!(" to {high}"));
        }
        text
    }

    /// Its default as one would write it; nothing if it is not set by default.
    ///
    /// ```
    /// # oslo_messaging_config::options! {
    /// #     /// G.
    /// #     #[derive(Debug, Clone)]
    /// #     pub struct G in "g" {
    /// #         /// O.
    /// #         o: Option<String> = None;
    /// #     }
    /// # }
    /// assert!(G::OPTIONS[0].default_texts().is_empty());
    /// ```
    pub fn default_texts(&self) -> Vec<String> {
        (self.default)()
    }

    /// What Python's `str` makes of the value these texts stand for, of the default without them; none if
    /// they cannot be its value.
    pub(crate) fn python(&self, texts: Option<&[String]>) -> Option<String> {
        (self.python)(texts)
    }

    /// Whether these texts leave it unset.
    pub(crate) fn unset_by(&self, texts: &[String]) -> bool {
        self.empty_is_unset
            && texts
                .last()
                .is_some_and(|text| crate::ini::strip(text).is_empty())
    }

    /// Refuses a number out of its range.
    #[doc(hidden)]
    pub fn check(&self, number: Option<f64>, text: &str) -> Result<(), Refusal> {
        let inside = |number: f64| {
            number >= self.min.unwrap_or(f64::NEG_INFINITY)
                && number <= self.max.unwrap_or(f64::INFINITY)
        };
        match number {
            Some(number) if !inside(number) => Err(self.refuse(text)),
            _ => Ok(()),
        }
    }

    /// Refuses a text that must not be repeated.
    pub(crate) fn refuse_unseen(&self) -> Refusal {
        Refusal::value(self.name, None, self.allowed())
    }

    /// Refuses this text.
    #[doc(hidden)]
    pub fn refuse(&self, text: &str) -> Refusal {
        Refusal::value(self.name, (!self.secret).then_some(text), self.allowed())
    }
}

/// The options of a group.
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
/// use oslo_messaging_config::table::Options;
///
/// assert_eq!(LampConfig::TABLE.group, "lamp");
/// assert!(LampConfig::TABLE.option("level").is_some());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Name of the group.
    pub group: &'static str,
    /// Its options, in the order of declaration.
    pub options: &'static [OptionInfo],
}

impl Table {
    /// The option of this name, or of this former name within the group.
    ///
    /// ```
    /// # oslo_messaging_config::options! {
    /// #     /// Lamp.
    /// #     #[derive(Debug, Clone)]
    /// #     pub struct LampConfig in "lamp" {
    /// #         /// How bright (default 5).
    /// #         level: u32 = 5, was(&[("", "brightness")]);
    /// #     }
    /// # }
    /// # use oslo_messaging_config::table::Options;
    /// assert_eq!(LampConfig::TABLE.option("brightness").unwrap().name, "level");
    /// assert!(LampConfig::TABLE.option("colour").is_none());
    /// ```
    pub fn option(&self, name: &str) -> Option<&'static OptionInfo> {
        let exact = self.options.iter().find(|option| option.name == name);
        exact.or_else(|| {
            self.options.iter().find(|option| {
                option.former.iter().any(|(group, former)| {
                    (group.is_empty() || *group == self.group) && *former == name
                })
            })
        })
    }

    /// The refusal of a name that no option has.
    #[doc(hidden)]
    pub fn unknown(&self, name: &str) -> Refusal {
        let names = self.options.iter().map(|option| option.name);
        Refusal::Unknown {
            name: name.to_owned(),
            near: names.filter(|known| resembles(known, name)).collect(),
            group: self.group,
        }
    }
}

/// A struct whose fields are the options of a group; [`options!`](crate::options) writes it.
///
/// ```
/// # oslo_messaging_config::options! {
/// #     /// Lamp.
/// #     #[derive(Debug, Clone)]
/// #     pub struct LampConfig in "lamp" {
/// #         /// How bright (default 5).
/// #         level: u32 = 5, max(9.0);
/// #     }
/// # }
/// use oslo_messaging_config::table::Options;
///
/// let mut lamp = LampConfig::default();
/// lamp.set("level", &["7".to_owned()]).unwrap();
/// assert_eq!(lamp.level, 7);
/// assert_eq!(lamp.texts("level").unwrap(), ["7"]);
/// assert!(lamp.set("level", &["10".to_owned()]).is_err());
/// lamp.level = 10;
/// assert!(lamp.check_ranges().is_err());
/// ```
pub trait Options: Default {
    /// The group and its options.
    const TABLE: Table;

    /// Sets the option `name`, which may be a former name, to what `texts` stand for: the last of them,
    /// or all for a multi-valued one.
    ///
    /// # Errors
    /// [`Refusal`] for a name that no option has, and for a text the option does not take.
    fn set(&mut self, name: &str, texts: &[String]) -> Result<(), Refusal>;

    /// The value of the option `name` as one would write it, secrets as `***`; nothing in it if the option
    /// is not set, none if there is no such option.
    fn texts(&self, name: &str) -> Option<Vec<String>>;

    /// Checks ranges, for values that code has set.
    ///
    /// # Errors
    /// [`Refusal`] for the first number out of its range.
    fn check_ranges(&self) -> Result<(), Refusal>;
}

/// Whether the names differ by a short head or tail, as most slips of the pen do.
fn resembles(known: &str, name: &str) -> bool {
    let same = |a: &mut dyn Iterator<Item = (u8, u8)>| a.take_while(|(a, b)| a == b).count();
    let head = same(&mut known.bytes().zip(name.bytes()));
    let tail = same(&mut known.bytes().rev().zip(name.bytes().rev()));
    (head + tail) * 4 >= known.len() * 3 && name.len() < known.len() + 4
}

/// Declares the options of a group: a struct with one field each, its defaults, and the [`Options`] of it.
///
/// A row is documentation, name, type (an [`OptionValue`](crate::value::OptionValue)), default, and marks:
/// `min(number)`, `max(number)`, `was(&[("group or empty", "former name")])`, `retiring("why")`, `secret()`,
/// `ours()` (the reference does not have it), `sample("what a sample shows as default")`.
///
/// ```
/// oslo_messaging_config::options! {
///     /// Lamp.
///     #[derive(Debug, Clone)]
///     pub struct LampConfig in "lamp" {
///         /// How bright (default 5).
///         level: u32 = 5, max(9.0);
///         /// Who may switch it.
///         pin: oslo_messaging_config::value::Secret = Default::default(), secret();
///     }
/// }
/// assert_eq!(LampConfig::default().level, 5);
/// assert!(LampConfig::OPTIONS[1].secret);
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        $visible:vis struct $struct:ident in $group:literal {
            $( $(#[doc = $doc:literal])+ $name:ident : $type:ty = $default:expr
                $(, $mark:ident ( $($argument:expr)? ) )* ; )+
        }
    ) => {
        $(#[$meta])*
        #[non_exhaustive]
        $visible struct $struct {
            $( $(#[doc = $doc])+ pub $name: $type, )+
        }

        impl Default for $struct {
            fn default() -> Self {
                Self { $( $name: $default, )+ }
            }
        }

        impl $struct {
            /// All options, in the order of the struct.
            pub const OPTIONS: &'static [$crate::table::OptionInfo] = &[
                $( $crate::table::OptionInfo::new(
                    stringify!($name),
                    concat!($($doc, "\n"),+),
                    $crate::table::Type {
                        kind: <$type as $crate::value::OptionValue>::KIND,
                        allowed: <$type as $crate::value::OptionValue>::ALLOWED,
                        choices: <$type as $crate::value::OptionValue>::CHOICES,
                        multi: <$type as $crate::value::OptionValue>::MULTI,
                        empty_is_unset: <$type as $crate::value::OptionValue>::EMPTY_IS_UNSET,
                        bounds: <$type as $crate::value::OptionValue>::BOUNDS,
                        default: || {
                            let default: $type = $default;
                            $crate::value::OptionValue::write(&default)
                        },
                        python: |texts| {
                            let value: $type = match texts {
                                Some(texts) => $crate::value::OptionValue::read_all(texts)?,
                                None => $default,
                            };
                            Some($crate::value::OptionValue::python(&value))
                        },
                    },
                )$( .$mark($($argument)?) )* , )+
            ];
        }

        impl $crate::table::Options for $struct {
            const TABLE: $crate::table::Table = $crate::table::Table {
                group: $group,
                options: Self::OPTIONS,
            };

            fn set(
                &mut self,
                name: &str,
                texts: &[String],
            ) -> ::std::result::Result<(), $crate::error::Refusal> {
                let info = Self::TABLE.option(name).ok_or_else(|| Self::TABLE.unknown(name))?;
                let last = texts.last().map(String::as_str).unwrap_or_default();
                match info.name {
                    $( stringify!($name) => {
                        let read: Option<$type> = $crate::value::OptionValue::read_all(texts);
                        let value = read.ok_or_else(|| info.refuse(last))?;
                        info.check($crate::value::OptionValue::number(&value), last)?;
                        self.$name = value;
                    } )+
                    _ => return Err(Self::TABLE.unknown(name)),
                }
                Ok(())
            }

            fn texts(&self, name: &str) -> Option<Vec<String>> {
                match name {
                    $( stringify!($name) => Some($crate::value::OptionValue::write(&self.$name)), )+
                    _ => None,
                }
            }

            fn check_ranges(&self) -> ::std::result::Result<(), $crate::error::Refusal> {
                for info in Self::OPTIONS {
                    let (number, text) = match info.name {
                        $( stringify!($name) => (
                            $crate::value::OptionValue::number(&self.$name),
                            $crate::value::OptionValue::python(&self.$name),
                        ), )+
                        _ => continue,
                    };
                    info.check(number, &text)?;
                }
                Ok(())
            }
        }
    };
}
