//! The last replies, kept for callers that ask again after the broker lost its queues.
//!
//! A reply that the broker had taken, and lost with the caller's queue, cannot be told from one that
//! arrived. The caller sends its request again then, and the server knows it as a duplicate: instead of
//! running it twice, or leaving the caller without an answer, it sends the kept reply once more. At all
//! other times duplicates are dropped in silence, as by the reference.

use std::collections::VecDeque;
use std::time::Duration;

use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::reply::SealedReply;
use tokio::time::Instant;

/// How many replies are kept at most, and how large all of them and one of them may be.
const COUNT: usize = 1024;
const TOTAL_BYTES: usize = 1 << 20;
const LARGEST: usize = 64 << 10;
/// For how long after the broker came back without its queues callers may ask again.
const WINDOW: Duration = Duration::from_secs(60);

/// Replies by the id of their request, oldest first.
#[derive(Default)]
pub(crate) struct RecentReplies {
    kept: VecDeque<(UniqueId, SealedReply)>,
    bytes: usize,
    asked_again_until: Option<Instant>,
}

impl RecentReplies {
    /// Keeps a reply; the oldest make room for it.
    pub(crate) fn keep(&mut self, request: UniqueId, reply: SealedReply) {
        let size = reply.body().len();
        if size > LARGEST {
            return;
        }
        self.bytes += size;
        self.kept.push_back((request, reply));
        while self.kept.len() > COUNT || self.bytes > TOTAL_BYTES {
            let Some((_, oldest)) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= oldest.body().len();
        }
    }

    /// Notes that the broker lost its queues.
    pub(crate) fn note_lost(&mut self, now: Instant) {
        self.asked_again_until = Some(now + WINDOW);
    }

    /// The reply to a request that came again, if its caller may have missed it.
    pub(crate) fn missed(&self, request: UniqueId, now: Instant) -> Option<SealedReply> {
        if self.asked_again_until.is_none_or(|until| until < now) {
            return None;
        }
        let (_, reply) = self.kept.iter().rev().find(|(id, _)| *id == request)?;
        Some(reply.clone())
    }
}

#[cfg(test)]
mod tests {
    use oslo_messaging_proto::wire::reply::ReplyBody;

    use super::*;

    fn reply(size: usize) -> SealedReply {
        let text = "x".repeat(size);
        let body = ReplyBody::encode_result(&text).expect("text has a JSON form");
        body.finish("m", UniqueId::from_random(0))
    }

    #[tokio::test(start_paused = true)]
    async fn replies_are_given_only_for_a_while_after_the_queues_were_lost() {
        let mut recent = RecentReplies::default();
        let (known, now) = (UniqueId::from_random(1), Instant::now());
        recent.keep(known, reply(1));
        assert!(recent.missed(known, now).is_none());
        recent.note_lost(now);
        assert!(recent.missed(known, now).is_some());
        assert!(recent.missed(UniqueId::from_random(2), now).is_none());
        assert!(
            recent
                .missed(known, now + WINDOW + Duration::from_secs(1))
                .is_none()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_number_and_size() {
        let mut recent = RecentReplies::default();
        recent.keep(UniqueId::from_random(1), reply(LARGEST + 1));
        assert!(recent.kept.is_empty());
        for n in 0..2_000 {
            recent.keep(UniqueId::from_random(n), reply(1));
        }
        assert_eq!(recent.kept.len(), COUNT);
        for n in 0..100 {
            recent.keep(UniqueId::from_random(n), reply(LARGEST / 2));
        }
        assert!(recent.bytes <= TOTAL_BYTES);
        assert_eq!(
            recent.bytes,
            recent
                .kept
                .iter()
                .map(|(_, reply)| reply.body().len())
                .sum::<usize>()
        );
    }
}
