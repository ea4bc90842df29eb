//! Confirms against a model that knows every message by its tag.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn enabled() -> Confirms {
    let mut confirms = Confirms::default();
    confirms.enable();
    confirms
}

#[test]
fn a_dropped_confirm_frees_its_slot_and_shifts_nothing() {
    let mut confirms = enabled();
    let first = confirms.published(None, true).unwrap();
    let second = confirms.published(None, true).unwrap();
    confirms.forget(first);
    let third = confirms.published(None, true).unwrap();
    assert_eq!(third.slot, first.slot, "the slot is used again");
    let mut wakers = Vec::new();
    confirms
        .confirmed(1, false, &Confirmation::Nacked, &mut wakers)
        .unwrap();
    confirms
        .confirmed(3, true, &Confirmation::Acked, &mut wakers)
        .unwrap();
    for watch in [second, third] {
        assert!(matches!(
            confirms.poll(watch, &mut context()),
            Poll::Ready(Ok(Confirmation::Acked))
        ));
    }
    assert_eq!((confirms.slots.len(), confirms.entries.len()), (0, 0));
}

#[test]
fn a_return_belongs_to_the_message_it_resembles_and_its_ack_to_nobody_else() {
    let mut confirms = enabled();
    let mut wakers = Vec::new();
    let slow = confirms
        .published(Some(fingerprint("", "there", b"x")), true)
        .unwrap();
    let lost = confirms
        .published(Some(fingerprint("", "gone", b"x")), true)
        .unwrap();
    let next = confirms.published(None, true).unwrap();
    assert!(confirms.returned(fingerprint("", "gone", b"x"), 312, "NO_ROUTE", &mut wakers));
    assert!(confirms.poll(slow, &mut context()).is_pending());
    let Poll::Ready(Ok(Confirmation::Returned { code, text })) =
        confirms.poll(lost, &mut context())
    else {
        panic!()
    };
    assert_eq!((code, &*text), (312, "NO_ROUTE"));
    confirms
        .confirmed(2, false, &Confirmation::Acked, &mut wakers)
        .unwrap();
    assert!(confirms.poll(next, &mut context()).is_pending());
    confirms
        .confirmed(3, true, &Confirmation::Acked, &mut wakers)
        .unwrap();
    assert!(
        confirms.poll(next, &mut context()).is_ready()
            && confirms.poll(slow, &mut context()).is_ready()
    );
    assert!(!confirms.returned(fingerprint("", "gone", b"x"), 312, "NO_ROUTE", &mut wakers));
    assert!(confirms.mandatory.is_empty());
}

#[test]
fn alike_messages_are_returned_in_their_order() {
    let mut confirms = enabled();
    let print = fingerprint("", "q", b"same");
    let watches: Vec<Watch> = (0..3)
        .map(|_| confirms.published(Some(print), true).unwrap())
        .collect();
    let mut wakers = Vec::new();
    for watch in watches {
        assert!(confirms.poll(watch, &mut context()).is_pending());
        assert!(confirms.returned(print, 312, "", &mut wakers));
        assert!(confirms.poll(watch, &mut context()).is_ready());
    }
    assert_eq!(wakers.len(), 3);
}

#[test]
fn a_confirm_for_what_was_never_published_is_refused() {
    let mut confirms = enabled();
    confirms.published(None, false);
    let mut wakers = Vec::new();
    assert!(
        confirms
            .confirmed(2, true, &Confirmation::Acked, &mut wakers)
            .is_err()
    );
    assert!(
        confirms
            .confirmed(0, false, &Confirmation::Acked, &mut wakers)
            .is_err()
    );
    assert!(
        confirms
            .confirmed(0, true, &Confirmation::Acked, &mut wakers)
            .is_ok()
    );
    assert!(
        confirms
            .confirmed(1, false, &Confirmation::Acked, &mut wakers)
            .is_ok(),
        "said twice"
    );
}

#[test]
fn fingerprints_see_names_size_and_both_ends_of_the_body() {
    let body = vec![0; 10_000];
    let print = fingerprint("e", "k", &body);
    for at in [0, 1023, 9_000, 9_999] {
        let mut other = body.clone();
        other[at] = 1;
        assert_ne!(fingerprint("e", "k", &other), print, "{at}");
    }
    assert_ne!(fingerprint("e", "k", &body[1..]), print);
    assert_ne!(fingerprint("ek", "", &body), print);
    assert_eq!(fingerprint("e", "k", &body), print);
}

proptest! {
    #[test]
    fn every_watched_message_learns_its_own_fate(steps in proptest::collection::vec((0u8..6, any::<u16>(), any::<bool>()), 1..300)) {
        let mut confirms = enabled();
        let mut wakers = Vec::new();
        let mut last = 0u64;
        let mut watched: HashMap<u64, Watch> = HashMap::new();
        let mut fate: HashMap<u64, Confirmation> = HashMap::new();
        for (what, pick, flag) in steps {
            match what {
                0..=2 => {
                    last += 1;
                    let print = flag.then(|| fingerprint("", "q", &last.to_be_bytes()));
                    if let Some(watch) = confirms.published(print, what != 2) {
                        watched.insert(last, watch);
                    }
                }
                3 => {
                    let tag = u64::from(pick) % (last + 1);
                    let confirmation = if pick % 2 == 0 { Confirmation::Acked } else { Confirmation::Nacked };
                    let valid = tag > 0 || flag;
                    prop_assert_eq!(confirms.confirmed(tag, flag, &confirmation, &mut wakers).is_ok(), valid);
                    let upto = if tag == 0 { last } else { tag };
                    for tag in if flag { 1..=upto } else { upto..=upto } {
                        if valid {
                            fate.entry(tag).or_insert(confirmation.clone());
                        }
                    }
                }
                4 => {
                    let tag = u64::from(pick) % (last + 1);
                    if confirms.returned(fingerprint("", "q", &tag.to_be_bytes()), 312, "", &mut wakers) {
                        let before = fate.insert(tag, Confirmation::Returned { code: 312, text: String::new() });
                        prop_assert!(before.is_none());
                    }
                }
                _ => {
                    let tag = u64::from(pick) % (last + 1);
                    if let Some(watch) = watched.remove(&tag) {
                        confirms.forget(watch);
                    }
                }
            }
        }
        for (tag, watch) in watched {
            match confirms.poll(watch, &mut context()) {
                Poll::Ready(confirmation) => prop_assert_eq!(Some(&confirmation.unwrap()), fate.get(&tag)),
                Poll::Pending => {
                    prop_assert!(!fate.contains_key(&tag));
                    confirms.forget(watch);
                }
            }
        }
        prop_assert_eq!(confirms.slots.len(), 0);
    }
}
