//! In how many messages a server writes a reply.

use oslo_messaging_config::value::OptionValue;

/// In how many messages a reply is written, option `reply_style`; both forms are read always (spec section 12).
///
/// ```
/// use oslo_messaging_core::transport::{ReplyStyle, TransportOptions};
///
/// let mut options = TransportOptions::default();
/// assert_eq!(options.reply_style, ReplyStyle::Whole);
/// // Some callers are of Kilo or Liberty.
/// options.reply_style = ReplyStyle::TwoPart;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ReplyStyle {
    /// In one, `whole`: since Mitaka.
    #[default]
    Whole,
    /// In two, `two-part`: the payload, then one that ends the call, as Kilo and Liberty do. A reply without payload is one
    /// message all the same.
    TwoPart,
}

impl OptionValue for ReplyStyle {
    const KIND: &'static str = "string";
    const ALLOWED: &'static str = "whole or two-part";
    const CHOICES: &'static [&'static str] = &["whole", "two-part"];
    fn read(text: &str) -> Option<Self> {
        match text.trim() {
            "whole" => Some(Self::Whole),
            "two-part" => Some(Self::TwoPart),
            _ => None,
        }
    }
    fn write(&self) -> Vec<String> {
        let text = match self {
            Self::Whole => "whole",
            Self::TwoPart => "two-part",
        };
        vec![text.to_owned()]
    }
}
