//! Settlements against a broker that counts.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn flushed(acks: &mut Acks) -> Vec<Settle> {
    let mut written = Vec::new();
    acks.flush(|settle| written.push(settle));
    written
}

fn delivered(tags: impl IntoIterator<Item = u64>) -> Acks {
    let mut acks = Acks::default();
    for tag in tags {
        assert!(acks.delivered(tag, true));
    }
    acks
}

#[test]
fn a_prefix_leaves_as_one_and_the_rest_one_by_one() {
    let mut acks = delivered(1..=8);
    for tag in [1, 2, 4, 3, 6, 8] {
        assert!(acks.ack(tag));
    }
    let single = |tag| Settle::Ack {
        tag,
        multiple: false,
    };
    assert_eq!(
        flushed(&mut acks),
        [
            Settle::Ack {
                tag: 4,
                multiple: true
            },
            single(6),
            single(8)
        ]
    );
    assert!(flushed(&mut acks).is_empty());
    assert!(acks.ack(5) && acks.ack(7));
    // 6 and 8 are settled, so 7 reaches back to the oldest.
    assert_eq!(
        flushed(&mut acks),
        [Settle::Ack {
            tag: 7,
            multiple: true
        }]
    );
}

#[test]
fn a_lone_ack_is_not_multiple() {
    let mut acks = delivered([1, 2]);
    assert!(acks.ack(1));
    assert_eq!(
        flushed(&mut acks),
        [Settle::Ack {
            tag: 1,
            multiple: false
        }]
    );
}

#[test]
fn rejects_are_written_before_the_ack_that_would_cover_them() {
    let mut acks = delivered(1..=3);
    assert!(acks.ack(1) && acks.ack(3) && acks.reject(2, true));
    assert_eq!(
        flushed(&mut acks),
        [
            Settle::Reject {
                tag: 2,
                requeue: true
            },
            Settle::Ack {
                tag: 3,
                multiple: true
            }
        ]
    );
}

#[test]
fn what_is_not_outstanding_is_refused() {
    let mut acks = delivered([3, 5]);
    assert!(!acks.ack(4) && !acks.ack(0) && !acks.ack(6) && !acks.reject(u64::MAX, true));
    assert!(acks.ack(3) && !acks.ack(3) && !acks.reject(3, false));
    flushed(&mut acks);
    assert!(!acks.ack(3));
    assert!(!acks.delivered(5, true) && !acks.delivered(2, true));
    assert!(acks.delivered(u64::MAX, false) && !acks.ack(u64::MAX));
}

#[test]
fn one_unsettled_delivery_does_not_hold_the_memory_of_all_later_ones() {
    let mut acks = delivered([1]);
    for tag in 2..100_000 {
        assert!(acks.delivered(tag, true) && acks.ack(tag));
        flushed(&mut acks);
    }
    assert!(acks.window.len() < 4 * TIDY_AT);
    assert!(acks.ack(1));
    assert_eq!(
        flushed(&mut acks),
        [Settle::Ack {
            tag: 1,
            multiple: false
        }]
    );
    assert!(acks.window.is_empty());
}

/// What the broker knows of deliveries, and what it makes of frames.
#[derive(Default)]
struct Model {
    unacked: BTreeSet<u64>,
    settled: BTreeMap<u64, Option<bool>>,
}

impl Model {
    fn apply(&mut self, settle: Settle) {
        match settle {
            Settle::Ack {
                tag,
                multiple: false,
            } => self.settle(tag, None),
            Settle::Ack {
                tag,
                multiple: true,
            } => {
                let covered: Vec<u64> = self.unacked.range(..=tag).copied().collect();
                assert!(covered.len() > 1 && covered.last() == Some(&tag));
                covered.into_iter().for_each(|tag| self.settle(tag, None));
            }
            Settle::Reject { tag, requeue } => self.settle(tag, Some(requeue)),
        }
    }

    fn settle(&mut self, tag: u64, how: Option<bool>) {
        assert!(
            self.unacked.remove(&tag),
            "tag {tag} is settled once and was delivered"
        );
        self.settled.insert(tag, how);
    }
}

proptest! {
    #[test]
    fn every_delivery_is_settled_once_as_asked(steps in proptest::collection::vec((0u8..5, any::<u16>(), any::<bool>()), 1..400)) {
        let (mut acks, mut model, mut asked, mut next) = (Acks::default(), Model::default(), BTreeMap::new(), 1u64);
        for (what, pick, requeue) in steps {
            match what {
                0 | 1 => {
                    // Gaps, as tags of a consumer without acks leave them.
                    next += u64::from(pick % 3 == 0);
                    prop_assert!(acks.delivered(next, true));
                    model.unacked.insert(next);
                    next += 1;
                }
                2 | 3 => {
                    let tag = u64::from(pick) % (next + 2);
                    let known = model.unacked.contains(&tag) && !asked.contains_key(&tag);
                    let how = (what == 3).then_some(requeue);
                    let took = match how {
                        None => acks.ack(tag),
                        Some(requeue) => acks.reject(tag, requeue),
                    };
                    prop_assert_eq!(took, known);
                    if took {
                        asked.insert(tag, how);
                    }
                }
                _ => {
                    acks.flush(|settle| model.apply(settle));
                    prop_assert_eq!(&model.settled, &asked);
                }
            }
        }
        acks.flush(|settle| model.apply(settle));
        prop_assert_eq!(&model.settled, &asked);
    }
}
