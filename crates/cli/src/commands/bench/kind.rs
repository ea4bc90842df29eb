//! What a run measures, and in what manner.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// Calls: each waits for its answer
    Call,
    /// Casts: each waits until the broker has it
    Cast,
    /// Fanouts: casts to all servers
    Fanout,
    /// Notifications sent: each waits until the broker has it
    Notify,
    /// Notifications taken: as fast as listeners empty a queue
    Listen,
}

impl What {
    /// Whether RPC servers answer it, and not listeners.
    pub(crate) fn is_rpc(self) -> bool {
        match self {
            Self::Call | Self::Cast | Self::Fanout => true,
            Self::Notify | Self::Listen => false,
        }
    }

    /// Whether a queue is filled first and measured while it is emptied.
    pub(crate) fn drains(self, manner: Manner) -> bool {
        self == Self::Listen && !manner.live
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call => "call",
            Self::Cast => "cast",
            Self::Fanout => "fanout",
            Self::Notify => "notify",
            Self::Listen => "listen",
        })
    }
}

/// In what manner notifications are sent and taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Manner {
    /// Through the notifier's buffer: nobody waits for the broker.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) buffered: bool,
    /// Listeners take nothing while it is measured.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) held: bool,
    /// Notifications are taken while they come, not from a queue that was filled before.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) live: bool,
    /// So many are handled together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) batch: Option<u32>,
}

impl Manner {
    /// Whether it is the usual one.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.buffered, "buffered"),
            (self.held, "held"),
            (self.live, "live"),
        ];
        let mut first = true;
        for (_, word) in words.iter().filter(|(is, _)| *is) {
            write!(f, "{}{word}", if first { "" } else { " " })?;
            first = false;
        }
        if let Some(size) = self.batch {
            write!(f, "{}batch {size}", if first { "" } else { " " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manner_is_told_by_its_words() {
        assert_eq!(Manner::default().to_string(), "");
        let manner = Manner {
            live: true,
            batch: Some(1000),
            ..Manner::default()
        };
        assert_eq!(manner.to_string(), "live batch 1000");
        assert!(!manner.is_usual() && Manner::default().is_usual());
    }
}
