#![doc = include_str!("../README.md")]

pub mod error;
pub mod json;
pub mod name;
pub mod primitive;
pub mod priority;
mod secret;
pub mod state;
pub mod target;
pub mod url;
pub mod version;
pub mod wire;

pub use crate::error::{DecodeError, EncodeError};
pub use crate::json::error::{JsonError, JsonErrorKind};
pub use crate::json::kind::Kind;
pub use crate::json::number::Number;
pub use crate::json::raw::RawJson;
pub use crate::json::value::{Object, Value};
pub use crate::name::IntoName;
pub use crate::priority::{Priority, PriorityError};
pub use crate::state::backoff::Backoff;
pub use crate::state::calls::{Calls, Handled, Outcome, TimedOut};
pub use crate::state::dedup::Duplicates;
pub use crate::state::obsolete::ObsoleteQueues;
pub use crate::target::{Target, TargetError};
pub use crate::url::{TransportHost, TransportUrl, UrlError};
pub use crate::version::{Version, VersionError, acceptable};
pub use crate::wire::args::Args;
pub use crate::wire::body::Body;
pub use crate::wire::context::Context;
pub use crate::wire::envelope::Message;
pub use crate::wire::failure::{Failure, FailureError};
pub use crate::wire::ids::{MsgId, UniqueId};
pub use crate::wire::notification::{
    ContextForm, Notification, NotificationFormat, NotificationId,
};
pub use crate::wire::reply::{Reply, ReplyBody, SealedReply};
pub use crate::wire::request::{CallHead, Request, RequestFault, RequestHead, encode_request};
pub use crate::wire::timestamp::Timestamp;
