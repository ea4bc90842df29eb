//! Ids of messages. The only place of this crate that draws them.

use std::sync::OnceLock;

use oslo_messaging_proto::wire::ids::{MsgId, UniqueId};
use oslo_messaging_proto::wire::notification::NotificationId;

/// An id for a call.
pub(crate) fn msg_id() -> MsgId {
    MsgId::from_random(random())
}

/// An id for a message.
pub(crate) fn unique_id() -> UniqueId {
    UniqueId::from_random(random())
}

/// An id for a notification, whose copies share it.
pub(crate) fn notification_id() -> NotificationId {
    NotificationId::from_random(random())
}

/// 128 random bits without a system call for each: a fast generator for each thread, mixed with what
/// tells this process from all others.
fn random() -> u128 {
    static PROCESS: OnceLock<u128> = OnceLock::new();
    let process = *PROCESS.get_or_init(|| uuid::Uuid::new_v4().as_u128());
    process ^ fastrand::u128(..)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_do_not_repeat() {
        let ids: HashSet<String> = (0..10_000).map(|_| unique_id().to_string()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
