use super::*;

fn partition(number: i32) -> Partition {
    (Arc::from("t"), number)
}

fn ledger(limit: usize, start: i64) -> Ledger {
    let mut ledger = Ledger::new(limit);
    assert_eq!(ledger.assign(partition(0), None, start), start);
    ledger
}

fn deliver(ledger: &mut Ledger, offset: i64) -> u64 {
    let body = Bytes::from(offset.to_string());
    ledger.deliver(partition(0), offset, body).unwrap()
}

fn commits(ledger: &mut Ledger) -> Vec<i64> {
    let places = ledger.take_commits();
    places.into_iter().map(|place| place.offset).collect()
}

#[test]
fn the_place_of_a_new_group_is_told_before_anything_is_handled() {
    let mut ledger = ledger(10, 7);
    assert_eq!(commits(&mut ledger), [7]);
    assert_eq!(commits(&mut ledger), [0_i64; 0], "each place is told once");
}

#[test]
fn a_place_moves_over_messages_in_their_order_whatever_the_order_of_settling() {
    let mut ledger = ledger(10, 0);
    commits(&mut ledger);
    let tags: Vec<u64> = (0..4).map(|n| deliver(&mut ledger, n)).collect();
    ledger.settle(tags[2], Settlement::Ack);
    ledger.settle(tags[1], Settlement::Reject);
    assert_eq!(
        commits(&mut ledger),
        [0_i64; 0],
        "the first one is still being handled"
    );
    ledger.settle(tags[0], Settlement::Ack);
    assert_eq!(commits(&mut ledger), [3]);
    ledger.settle(tags[0], Settlement::Ack);
    assert_eq!(
        commits(&mut ledger),
        [0_i64; 0],
        "settled twice is settled once"
    );
    ledger.settle(tags[3], Settlement::Ack);
    assert_eq!(commits(&mut ledger), [4]);
    assert_eq!(ledger.open.len(), 0);
}

#[test]
fn gaps_between_offsets_are_stepped_over() {
    let mut ledger = ledger(10, 0);
    let (a, b) = (deliver(&mut ledger, 5), deliver(&mut ledger, 9));
    ledger.settle(a, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [6]);
    ledger.settle(b, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [10]);
}

#[test]
fn no_more_is_in_hand_than_allowed() {
    let mut ledger = ledger(2, 0);
    let first = deliver(&mut ledger, 0);
    assert!(!ledger.is_full());
    deliver(&mut ledger, 1);
    assert!(ledger.is_full() && !ledger.is_stuck());
    ledger.settle(first, Settlement::Ack);
    assert!(!ledger.is_full());
}

#[test]
fn one_unsettled_message_does_not_let_the_rest_run_away() {
    let mut ledger = ledger(2, 0);
    let first = deliver(&mut ledger, 0);
    for offset in 1..16 {
        assert!(!ledger.is_full(), "{offset}");
        let tag = deliver(&mut ledger, offset);
        ledger.settle(tag, Settlement::Ack);
    }
    assert!(ledger.is_stuck());
    ledger.settle(first, Settlement::Ack);
    assert!(!ledger.is_full());
    assert_eq!(commits(&mut ledger), [16]);
}

#[test]
fn a_message_given_back_comes_again_and_holds_its_place() {
    let mut ledger = ledger(10, 0);
    commits(&mut ledger);
    let (a, b) = (deliver(&mut ledger, 0), deliver(&mut ledger, 1));
    ledger.settle(a, Settlement::Requeue);
    ledger.settle(b, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [0_i64; 0]);
    let again = ledger.take_again().unwrap();
    assert_eq!((again.tag, &again.body[..]), (a, &b"0"[..]));
    assert!(ledger.take_again().is_none());
    ledger.settle(a, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [2]);
    ledger.settle(a, Settlement::Requeue);
    assert!(ledger.take_again().is_none(), "it is settled");
}

#[test]
fn a_partition_that_was_taken_away_is_not_committed() {
    let mut ledger = ledger(10, 0);
    commits(&mut ledger);
    let tag = deliver(&mut ledger, 0);
    ledger.revoke(false);
    ledger.settle(tag, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [0_i64; 0]);
    ledger.drop_aside();
    assert_eq!(ledger.open.len(), 0);
    assert!(ledger.deliver(partition(0), 1, Bytes::new()).is_none());
}

#[test]
fn a_partition_that_comes_back_at_once_goes_on_where_it_was() {
    let mut ledger = ledger(10, 0);
    let tags: Vec<u64> = (0..3).map(|n| deliver(&mut ledger, n)).collect();
    ledger.settle(tags[0], Settlement::Ack);
    ledger.revoke(false);
    ledger.settle(tags[1], Settlement::Ack);
    assert_eq!(
        ledger.assign(partition(0), Some(1), 99),
        3,
        "nothing is fetched twice"
    );
    ledger.drop_aside();
    assert_eq!(commits(&mut ledger), [2]);
    ledger.settle(tags[2], Settlement::Ack);
    assert_eq!(commits(&mut ledger), [3]);
}

#[test]
fn a_partition_that_somebody_else_worked_on_begins_at_its_new_place() {
    let mut ledger = ledger(10, 0);
    let tag = deliver(&mut ledger, 0);
    ledger.revoke(false);
    assert_eq!(ledger.assign(partition(0), Some(5), 99), 5);
    ledger.drop_aside();
    ledger.settle(tag, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [0_i64; 0]);
    assert_eq!(ledger.open.len(), 0);
}

#[test]
fn a_partition_that_was_lost_begins_at_the_place_the_broker_knows() {
    let mut ledger = ledger(10, 0);
    let tag = deliver(&mut ledger, 0);
    ledger.revoke(true);
    assert_eq!(
        ledger.assign(partition(0), Some(0), 99),
        0,
        "it is fetched again"
    );
    ledger.settle(tag, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [0_i64; 0], "of the old time");
    let again = deliver(&mut ledger, 0);
    ledger.settle(again, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [1]);
}

#[test]
fn a_failed_commit_is_told_again_and_a_confirmed_one_is_not() {
    let mut ledger = ledger(10, 0);
    let told = ledger.take_commits();
    ledger.committed(&told);
    let tag = deliver(&mut ledger, 0);
    ledger.settle(tag, Settlement::Ack);
    assert_eq!(commits(&mut ledger), [1]);
    ledger.commit_failed();
    assert_eq!(commits(&mut ledger), [1]);
    ledger.committed(&[Place {
        partition: partition(0),
        offset: 1,
    }]);
    ledger.commit_failed();
    assert_eq!(commits(&mut ledger), [0_i64; 0]);
}

#[test]
fn what_was_fetched_before_the_partition_was_placed_is_not_delivered() {
    let mut ledger = ledger(10, 5);
    assert!(ledger.deliver(partition(0), 4, Bytes::new()).is_none());
    assert!(ledger.deliver(partition(0), 5, Bytes::new()).is_some());
}
