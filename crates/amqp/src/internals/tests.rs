//! How often the engine makes the allocator work: never for what goes out, and once a message for what comes in.

use allocation_counter::measure;

use super::{Bench, delivery, read_frames};
use crate::methods::Publish;
use crate::properties::PropertiesBuilder;

const BATCH: u64 = 64;

/// Allocations and reallocations of `work`, after rounds that fill what the engine keeps.
fn count(mut work: impl FnMut()) -> u64 {
    for _ in 0..4 {
        work();
    }
    measure(work).count_total
}

#[test]
fn publishes_are_written_without_an_allocation_each() {
    let properties = PropertiesBuilder::new()
        .content_type("application/json")
        .build()
        .unwrap();
    let publish = Publish {
        exchange: "openstack",
        routing_key: "topic-a",
        mandatory: true,
        properties: &properties,
        expiration: Some(60_000),
    };
    let (body, mut bench) = ([b'x'; 100], Bench::new());
    let counted = count(|| {
        for _ in 0..BATCH {
            bench.publish(&publish, &body);
        }
        bench.flush();
    });
    // The list of what awaits its confirm grows now and then, as nobody confirms here.
    assert!(counted <= 2, "{counted} for {BATCH} publishes");
}

#[test]
fn deliveries_are_taken_in_and_acknowledged_with_hardly_an_allocation_each() {
    let (mut bench, mut tags) = (Bench::new(), 1..);
    let mut batch = Vec::new();
    let counted = count(|| {
        batch.clear();
        for tag in tags.by_ref().take(BATCH as usize) {
            batch.extend(delivery(tag, &[b'x'; 100]));
        }
        bench.parse(&batch);
        assert!(bench.is_alive());
        bench.flush();
    });
    // What makes the deliveries is counted as well: three pieces each.
    let pieces = count(|| {
        (0..BATCH).for_each(|tag| drop(delivery(tag, &[b'x'; 100])));
    });
    let each = (counted - pieces) as f64 / BATCH as f64;
    println!("{each} allocations a delivery");
    assert!(each <= 2.0, "{each} allocations a delivery");
}

#[test]
fn methods_of_deliveries_are_read_without_an_allocation() {
    let batch: Vec<u8> = (1..=BATCH)
        .flat_map(|tag| delivery(tag, &[b'x'; 100]))
        .collect();
    assert_eq!(
        count(|| assert_eq!(read_frames(&batch), 3 * BATCH as usize)),
        0
    );
}
