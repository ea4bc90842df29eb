//! Calls whose replies may be lost, until one of them asks for all: a question goes to every server of a topic, so those that
//! lost their replies together ask together, and not too often.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use oslo_messaging_proto::wire::ids::UniqueId;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::driver::Destination;

/// So many calls ask with one question,
pub(crate) const TOGETHER: usize = 1024;
/// and so many questions are asked in so long a time.
const QUESTIONS: u32 = 256;
const WITHIN: Duration = Duration::from_secs(5);

/// A request whose reply may be lost, as its servers are asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Its `_unique_id`.
    pub(crate) request: String,
    /// Its `_msg_id`.
    pub(crate) msg_id: String,
}

impl Asked {
    /// The id of the request, if it is one as this library and the reference draw them.
    pub(crate) fn unique_id(&self) -> Option<UniqueId> {
        UniqueId::parse(&self.request)
    }
}

/// Who may have run a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Whom {
    /// Any server of this topic.
    All(String),
    /// The one it was sent to.
    One {
        exchange: Option<String>,
        topic: String,
        server: String,
    },
}

impl Whom {
    /// Who may have run what was sent there; `None` for what is no request.
    pub(crate) fn of(destination: Destination<'_>) -> Option<Self> {
        match destination {
            Destination::Topic { topic, .. } => Some(Self::All(topic.to_owned())),
            Destination::Server {
                exchange,
                topic,
                server,
            } => Some(Self::One {
                exchange: exchange.map(str::to_owned),
                topic: topic.to_owned(),
                server: server.to_owned(),
            }),
            _ => None,
        }
    }

    /// Where they are asked.
    pub(crate) fn destination(&self) -> Destination<'_> {
        match self {
            Self::All(topic) => Destination::Fanout { topic },
            Self::One {
                exchange,
                topic,
                server,
            } => Destination::Server {
                exchange: exchange.as_deref(),
                topic,
                server,
            },
        }
    }
}

/// The questions of one transport.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// What is about to be asked: the `_msg_id` of each request, no more than there are calls.
    waiting: HashMap<Whom, BTreeMap<String, String>>,
    /// Since when how many questions were asked.
    asked: Option<(Instant, u32)>,
}

impl Doubts {
    /// Notes that a call is about to ask, which has to [forget](Self::forget) it when it ends.
    pub(crate) fn note(&mut self, whom: Whom, asked: Asked) {
        let waiting = self.waiting.entry(whom).or_default();
        waiting.insert(asked.request, asked.msg_id);
    }

    /// A call asks no more, because it did or because it ended: others do not ask for it.
    pub(crate) fn forget(&mut self, whom: &Whom, request: &str) {
        if let Some(waiting) = self.waiting.get_mut(whom) {
            waiting.remove(request);
            if waiting.is_empty() {
                self.waiting.remove(whom);
            }
        }
    }

    /// What this call has to ask, for all that are about to: nothing if another one did, or if too much was asked lately. Those
    /// for whom there is no room are left to the next.
    pub(crate) fn take(&mut self, whom: &Whom, request: &str, now: Instant) -> Option<Vec<Asked>> {
        let waiting = self.waiting.get_mut(whom)?;
        let mut next = waiting.remove_entry(request);
        let mut together = Vec::new();
        while let Some((request, msg_id)) = next {
            together.push(Asked { request, msg_id });
            next = match together.len() < TOGETHER {
                true => waiting.pop_first(),
                false => None,
            };
        }
        if waiting.is_empty() {
            self.waiting.remove(whom);
        }
        (!together.is_empty() && self.may_ask(now)).then_some(together)
    }

    fn may_ask(&mut self, now: Instant) -> bool {
        match &mut self.asked {
            Some((since, count)) if now.duration_since(*since) < WITHIN => {
                *count += 1;
                *count <= QUESTIONS
            }
            asked => {
                *asked = Some((now, 1));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &str) -> Asked {
        Asked {
            request: request.to_owned(),
            msg_id: "m".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_asks_for_all_who_would_ask_the_same_servers() {
        let (mut doubts, now) = (Doubts::default(), Instant::now());
        let all = Whom::of(Destination::Topic {
            exchange: Some("nova"),
            topic: "compute",
        })
        .expect("a request");
        let to_one = Destination::Server {
            exchange: Some("nova"),
            topic: "compute",
            server: "node-1",
        };
        let one = Whom::of(to_one).expect("a request");
        assert_eq!(one.destination(), to_one);
        assert_eq!(all.destination(), Destination::Fanout { topic: "compute" });
        assert_eq!(Whom::of(Destination::Reply { queue: "q" }), None);
        for request in ["a", "b"] {
            doubts.note(all.clone(), asked(request));
        }
        doubts.note(one.clone(), asked("c"));
        assert_eq!(doubts.take(&all, "b", now).map(|all| all.len()), Some(2));
        assert_eq!(doubts.take(&all, "a", now), None);
        assert_eq!(doubts.take(&one, "c", now), Some(vec![asked("c")]));
    }

    #[tokio::test(start_paused = true)]
    async fn questions_are_bounded_in_length_and_number() {
        let (mut doubts, now) = (Doubts::default(), Instant::now());
        let all = Whom::All("compute".to_owned());
        for n in 0..2 * TOGETHER {
            doubts.note(all.clone(), asked(&n.to_string()));
        }
        for first in ["0", "999"] {
            let together = doubts.take(&all, first, now).unwrap_or_default();
            assert_eq!(together.len(), TOGETHER, "the next asks for the rest");
        }
        assert_eq!(doubts.take(&all, "1", now), None, "it was asked for");
        let mut ask = |now| {
            doubts.note(all.clone(), asked("a"));
            doubts.take(&all, "a", now).is_some()
        };
        assert_eq!(
            (2..2 * QUESTIONS).filter(|_| ask(now)).count(),
            QUESTIONS as usize - 2
        );
        assert!(ask(now + WITHIN));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_ended_is_not_asked_for_and_takes_nobodys_place() {
        let (mut doubts, now) = (Doubts::default(), Instant::now());
        let all = Whom::All("compute".to_owned());
        for n in 0..TOGETHER {
            doubts.note(all.clone(), asked(&n.to_string()));
        }
        doubts.note(all.clone(), asked("late"));
        for n in 0..TOGETHER {
            doubts.forget(&all, &n.to_string());
        }
        assert_eq!(doubts.take(&all, "late", now), Some(vec![asked("late")]));
        doubts.note(all.clone(), asked("late"));
        doubts.forget(&all, "late");
        doubts.forget(&all, "late");
        assert!(doubts.waiting.is_empty());
    }
}
