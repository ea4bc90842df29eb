//! The last replies, kept for callers that ask again after the broker lost them.
//!
//! What is kept here the broker need not write to its disk: it writes only the replies that nobody else has. A reply that it
//! had taken, and lost in a restart or with the caller's queue, cannot be told from one that arrived. The caller asks for it,
//! or sends its request again then, and the server knows it as a duplicate: instead of
//! running it twice, or leaving the caller without an answer, it sends the kept reply once more. At all
//! other times duplicates are dropped in silence, as by the reference.
//!
//! Callers ask some time after the bus is back, and by then a busy server has given many new replies. So those from before are
//! set apart for a while, where new ones do not push them out.
//!
//! A caller that asks again from another reply queue has lost the one it had: it is answered there at any time,
//! also by a method that is still running.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Duration;

use oslo_messaging_proto::wire::ids::UniqueId;
use oslo_messaging_proto::wire::reply::SealedReply;
use tokio::time::Instant;

use crate::memory::hash::Quick;

/// How many replies are kept at most, and how large all of them and one of them may be.
const COUNT: usize = 4096;
const TOTAL_BYTES: usize = 8 << 20;
const LARGEST: usize = 128 << 10;
/// How many callers that moved before their requests were answered are remembered.
const MOVED: usize = 1024;
/// For how long after the broker came back without its queues callers may ask again.
const WINDOW: Duration = Duration::from_secs(60);
/// A caller that asks again so long after it was answered has not seen the answer.
const OVERDUE: Duration = Duration::from_secs(1);

/// The replies of one server.
#[derive(Default)]
pub(crate) struct RecentReplies {
    kept: Shelf,
    /// Those from before the bus was away, until then.
    apart: Shelf,
    apart_until: Option<Instant>,
    /// Where callers wait now whose requests came again before they were answered.
    moved: HashMap<UniqueId, String>,
    /// The same, in the order they asked.
    moved_first: VecDeque<UniqueId>,
    asked_again_until: Option<Instant>,
}

/// Replies by the id of their request, oldest first, bounded.
#[derive(Default)]
struct Shelf {
    replies: VecDeque<Kept>,
    bytes: usize,
}

struct Kept {
    request: UniqueId,
    /// Stands for the name of the queue it was sent to.
    queue: u64,
    at: Instant,
    reply: SealedReply,
}

impl Shelf {
    /// The oldest make room.
    fn put(&mut self, kept: Kept) {
        self.bytes += kept.reply.message().size();
        self.replies.push_back(kept);
        while self.replies.len() > COUNT || self.bytes > TOTAL_BYTES {
            let Some(oldest) = self.replies.pop_front() else {
                break;
            };
            self.bytes -= oldest.reply.message().size();
        }
    }

    /// The last reply to a request.
    fn find(&mut self, request: UniqueId) -> Option<&mut Kept> {
        let mut latest_first = self.replies.iter_mut().rev();
        latest_first.find(|kept| kept.request == request)
    }
}

impl RecentReplies {
    /// Keeps a reply that goes to `queue`; the oldest make room for it. False if it is too large to be kept.
    pub(crate) fn keep(
        &mut self,
        request: UniqueId,
        queue: &str,
        reply: SealedReply,
        now: Instant,
    ) -> bool {
        if reply.message().size() > LARGEST {
            return false;
        }
        if self.apart_until.is_some_and(|until| until < now) {
            (self.apart, self.apart_until) = (Shelf::default(), None);
        }
        self.kept.put(Kept {
            request,
            queue: digest(queue),
            at: now,
            reply,
        });
        true
    }

    /// Notes that the bus is back: new replies do not push out the ones from before, for a while.
    pub(crate) fn set_apart(&mut self, now: Instant) {
        for kept in std::mem::take(&mut self.kept).replies {
            self.apart.put(kept);
        }
        self.apart_until = Some(now + WINDOW);
    }

    fn find(&mut self, request: UniqueId) -> Option<&mut Kept> {
        let lately = self.kept.find(request);
        lately.or_else(|| self.apart.find(request))
    }

    /// Notes that the broker lost its queues.
    pub(crate) fn note_lost(&mut self, now: Instant) {
        self.asked_again_until = Some(now + WINDOW);
    }

    /// The reply to a request that came again and names `queue`, if its caller may have missed it. Not if it is still
    /// `under_way` there: the bus has not taken it yet.
    pub(crate) fn missed(
        &mut self,
        request: UniqueId,
        queue: &str,
        now: Instant,
        under_way: bool,
    ) -> Option<SealedReply> {
        let lost = self.asked_again_until.is_some_and(|until| until >= now);
        let Some(kept) = self.find(request) else {
            self.note_moved(request, queue);
            return None;
        };
        let asks_from_elsewhere = kept.queue != digest(queue);
        let overdue = now.saturating_duration_since(kept.at) >= OVERDUE;
        if !asks_from_elsewhere && (under_way || (!lost && !overdue)) {
            return None;
        }
        kept.queue = digest(queue);
        kept.at = now;
        Some(kept.reply.clone())
    }

    /// The reply to a request, for a caller that asks for it by name and waits at `queue`. If there is none yet, the one to
    /// come goes there; one that is still `under_way` there is not sent twice.
    pub(crate) fn again(
        &mut self,
        request: UniqueId,
        queue: &str,
        under_way: bool,
    ) -> Option<SealedReply> {
        let Some(kept) = self.find(request) else {
            self.note_moved(request, queue);
            return None;
        };
        let queue = digest(queue);
        if under_way && kept.queue == queue {
            return None;
        }
        kept.queue = queue;
        Some(kept.reply.clone())
    }

    fn note_moved(&mut self, request: UniqueId, queue: &str) {
        if self.moved.insert(request, queue.to_owned()).is_some() {
            return;
        }
        self.moved_first.push_back(request);
        if self.moved_first.len() > MOVED
            && let Some(first) = self.moved_first.pop_front()
        {
            self.moved.remove(&first);
        }
    }

    /// Where the caller of a request that ran waits now, if it asked again meanwhile.
    pub(crate) fn moved_to(&mut self, request: UniqueId) -> Option<String> {
        if self.moved.is_empty() {
            return None;
        }
        // An id that stays behind in the order does no harm.
        self.moved.remove(&request)
    }
}

fn digest(queue: &str) -> u64 {
    // Who finds another name with this digest misses a reply of its own.
    Quick.hash_one(queue)
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
        recent.keep(known, "q", reply(1), now);
        assert!(recent.missed(known, "q", now, false).is_none());
        recent.note_lost(now);
        assert!(recent.missed(known, "q", now, false).is_some());
        assert!(
            recent
                .missed(UniqueId::from_random(2), "q", now, false)
                .is_none()
        );
        let over = now + WINDOW + Duration::from_secs(1);
        assert!(
            recent.missed(known, "q", over, false).is_some(),
            "long overdue"
        );
        assert!(recent.missed(known, "q", over, false).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_in_number_and_size() {
        let mut recent = RecentReplies::default();
        let one = UniqueId::from_random(1);
        assert!(!recent.keep(one, "q", reply(LARGEST + 1), Instant::now()));
        assert!(recent.kept.replies.is_empty());
        for n in 0..2 * COUNT as u128 {
            assert!(recent.keep(UniqueId::from_random(n), "q", reply(1), Instant::now()));
        }
        assert_eq!(recent.kept.replies.len(), COUNT);
        for n in 0..200 {
            recent.keep(
                UniqueId::from_random(n),
                "q",
                reply(LARGEST / 2),
                Instant::now(),
            );
        }
        assert!(recent.kept.bytes <= TOTAL_BYTES);
        assert_eq!(
            recent.kept.bytes,
            recent
                .kept
                .replies
                .iter()
                .map(|kept| kept.reply.message().size())
                .sum::<usize>()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn new_replies_do_not_push_out_those_from_before_the_bus_was_away_for_a_while() {
        let mut recent = RecentReplies::default();
        let start = Instant::now();
        let id = UniqueId::from_random;
        let large = reply(LARGEST / 2);
        let many = 2 * TOTAL_BYTES / (LARGEST / 2);
        let fill = |recent: &mut RecentReplies, now| {
            for n in 0..many as u128 {
                recent.keep(id(1000 + n), "q", large.clone(), now);
            }
        };
        for before in [1, 2] {
            recent.keep(id(before), "q", large.clone(), start);
            recent.set_apart(start);
        }
        fill(&mut recent, start);
        assert!(
            recent.again(id(1), "q", false).is_some() && recent.again(id(2), "q", false).is_some()
        );
        recent.set_apart(start);
        assert!(recent.apart.bytes <= TOTAL_BYTES, "{}", recent.apart.bytes);
        assert!(
            recent.again(id(1), "q", false).is_none(),
            "bounded all the same"
        );
        recent.keep(id(3), "q", large.clone(), start);
        recent.set_apart(start);
        fill(&mut recent, start + WINDOW);
        assert!(recent.again(id(3), "q", false).is_some());
        fill(&mut recent, start + WINDOW + Duration::from_millis(1));
        assert!(recent.again(id(3), "q", false).is_none());
        assert!(recent.apart.replies.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_asks_from_another_queue_is_answered_there_once_at_any_time() {
        let mut recent = RecentReplies::default();
        let (answered, running, now) = (
            UniqueId::from_random(1),
            UniqueId::from_random(2),
            Instant::now(),
        );
        recent.keep(answered, "old", reply(1), now);
        assert!(recent.missed(answered, "old", now, false).is_none());
        assert!(recent.missed(answered, "new", now, false).is_some());
        assert!(recent.missed(answered, "new", now, false).is_none());
        assert!(recent.missed(running, "new", now, false).is_none());
        let late = now + 2 * OVERDUE;
        assert!(recent.missed(answered, "new", late, true).is_none());
        assert!(recent.again(answered, "new", true).is_none(), "under way");
        assert!(recent.again(answered, "newest", true).is_some());
        assert_eq!(recent.moved_to(running).as_deref(), Some("new"));
        assert_eq!(recent.moved_to(running), None);
        for n in 0..2 * MOVED {
            recent.missed(UniqueId::from_random(100 + n as u128), "new", now, false);
        }
        assert_eq!(
            (recent.moved.len(), recent.moved_first.len()),
            (MOVED, MOVED)
        );
    }
}
