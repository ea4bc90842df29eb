use std::collections::HashMap;
use std::num::NonZeroU16;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::address::{Address, address};
use oslo_messaging_core::driver::{Destination, Pool};

/// A recorded scenario.
struct Vector {
    name: String,
    value: Value,
}

/// What a declaration on the wire is compared as.
#[derive(Default)]
struct Seen {
    exchanges: usize,
    queues: usize,
    bindings: usize,
    consumers: usize,
}

fn vectors() -> Vec<Vector> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../vectors");
    let files = std::fs::read_dir(folder).expect("the repository holds the wire vectors");
    let mut vectors: Vec<Vector> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .map(|path| Vector {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            value: serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap(),
        })
        .collect();
    vectors.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(vectors.len(), 137);
    vectors
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The options of a vector, from its configuration and its URL's query.
fn config_of(vector: &Value) -> RabbitConfig {
    // The recorded peers' private queues are transient.
    let mut config = RabbitConfig {
        private_queues: PrivateQueues::Reference,
        ..RabbitConfig::default()
    };
    if let Some(options) = vector["config"]["oslo_messaging_rabbit"].as_object() {
        let pairs: Vec<(String, String)> = options
            .iter()
            .map(|(name, value)| {
                (
                    name.clone(),
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned),
                )
            })
            .collect();
        config.apply_query(&pairs).unwrap();
    }
    let query = text(&vector["config"]["transport_url_query"]).trim_start_matches('?');
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap();
        config
            .apply_query(&[(name.to_owned(), value.to_owned())])
            .unwrap();
    }
    config
}

fn methods(vector: &Value) -> impl Iterator<Item = &Value> {
    vector["direction"]
        .as_array()
        .unwrap()
        .iter()
        .filter(move |event| {
            event["method"].is_string()
                && event["from"] != "broker"
                && vector["connections"][text(&event["conn"])]["peer"] == "oslo.messaging"
        })
}

fn table(arguments: &Arguments) -> Value {
    Value::Object(
        arguments
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    Argument::Number(number) => json!(number),
                    Argument::Text(text) => json!(text),
                    Argument::Flag(flag) => json!(flag),
                };
                ((*name).to_owned(), value)
            })
            .collect(),
    )
}

fn types(arguments: &Arguments) -> Value {
    let letters = arguments.iter().map(|(name, value)| {
        let letter = match value {
            Argument::Number(number) if i32::try_from(*number).is_ok() => "I",
            Argument::Number(_) => "L",
            Argument::Text(_) => "S",
            Argument::Flag(_) => "t",
        };
        ((*name).to_owned(), json!(letter))
    });
    Value::Object(letters.collect())
}

fn exchange_json(exchange: &ExchangeSpec) -> Value {
    json!({
        "exchange": exchange.name, "exchange_type": exchange.kind.as_str(), "passive": false, "durable": exchange.durable,
        "auto_delete": exchange.auto_delete, "internal": false, "nowait": false, "arguments": {},
    })
}

fn queue_json(queue: &QueueSpec) -> Value {
    json!({
        "queue": queue.name, "passive": false, "durable": queue.durable, "exclusive": false,
        "auto_delete": queue.auto_delete, "nowait": false, "arguments": table(&queue.arguments),
    })
}

fn bind_json(consumer: &ConsumerSpec) -> Option<Value> {
    let (exchange, key) = consumer.bindings.first()?;
    Some(json!({
        "queue": consumer.queue.name, "exchange": exchange.name, "routing_key": key, "nowait": false, "arguments": {},
    }))
}

fn consume_json(consumer: &ConsumerSpec, tag: &str) -> Value {
    json!({
        "queue": consumer.queue.name, "consumer_tag": tag, "no_local": false, "no_ack": false, "exclusive": false,
        "nowait": false, "arguments": table(&consumer.arguments),
    })
}

/// The consumer our functions would make for a queue seen on the wire.
fn consumer_for(config: &RabbitConfig, queue: &str, binding: Option<(&str, &str)>) -> ConsumerSpec {
    if let Some(suffix) = queue.strip_prefix("reply_") {
        return replies(Layout::of(config), suffix).consumers.remove(0);
    }
    let (exchange, key) = binding.unwrap_or_else(|| panic!("queue {queue} is bound"));
    match exchange.strip_suffix("_fanout") {
        Some(topic) => {
            let suffix = queue
                .strip_prefix(exchange)
                .unwrap()
                .trim_start_matches('_');
            fanout_consumer(Layout::of(config), topic, suffix)
        }
        None => topic_consumer(Layout::of(config), exchange, queue, key, "1"),
    }
}

/// First binding of each queue of each connection.
fn bindings(vector: &Value) -> HashMap<(String, String), (String, String)> {
    let mut bindings = HashMap::new();
    for event in methods(vector).filter(|event| event["method"] == "queue.bind") {
        let args = &event["args"];
        bindings
            .entry((
                text(&event["conn"]).to_owned(),
                text(&args["queue"]).to_owned(),
            ))
            .or_insert_with(|| {
                (
                    text(&args["exchange"]).to_owned(),
                    text(&args["routing_key"]).to_owned(),
                )
            });
    }
    bindings
}

fn check_event(vector: &Vector, config: &RabbitConfig, event: &Value, seen: &mut Seen) {
    let bindings = bindings(&vector.value);
    let args = &event["args"];
    let conn = text(&event["conn"]).to_owned();
    let consumer = |queue: &str| {
        let binding = bindings.get(&(conn.clone(), queue.to_owned()));
        consumer_for(
            config,
            queue,
            binding.map(|(exchange, key)| (exchange.as_str(), key.as_str())),
        )
    };
    let (ours, arguments) = match text(&event["method"]) {
        "exchange.declare" => {
            seen.exchanges += 1;
            let name = text(&args["exchange"]);
            let exchange = match name.strip_suffix("_fanout") {
                Some(_) => Exchange::Fanout(name.into()),
                None => Exchange::Topic(name.into()),
            };
            (
                exchange_json(&published_exchange(Layout::of(config), &exchange).unwrap()),
                Arguments::new(),
            )
        }
        "queue.declare" => {
            seen.queues += 1;
            let consumer = consumer(text(&args["queue"]));
            (queue_json(&consumer.queue), consumer.queue.arguments)
        }
        "queue.bind" => {
            seen.bindings += 1;
            // A pool's queue has many bindings: the key is the caller's choice, all else is checked.
            let mut consumer = consumer(text(&args["queue"]));
            if let Some((_, key)) = consumer.bindings.first_mut()
                && text(&args["queue"]) == "pool-a"
            {
                *key = text(&args["routing_key"]).to_owned();
            }
            (bind_json(&consumer).unwrap_or_default(), Arguments::new())
        }
        "basic.consume" => {
            seen.consumers += 1;
            let consumer = consumer(text(&args["queue"]));
            (
                consume_json(&consumer, text(&args["consumer_tag"])),
                consumer.arguments,
            )
        }
        _ => return,
    };
    let wire_types = event["table_types"]["arguments"].clone();
    assert_eq!(&ours, args, "{}", vector.name);
    if !arguments.is_empty() {
        assert_eq!(types(&arguments), wire_types, "{}", vector.name);
    }
}

#[test]
fn declarations_equal_those_of_every_recorded_peer() {
    let mut seen = Seen::default();
    for vector in vectors()
        .iter()
        .filter(|vector| !vector.name.contains("mismatch"))
    {
        let config = config_of(&vector.value);
        for event in methods(&vector.value) {
            check_event(vector, &config, event, &mut seen);
        }
    }
    assert!(
        seen.exchanges > 500 && seen.queues > 300 && seen.bindings > 250 && seen.consumers > 300
    );
}

#[test]
fn an_rpc_server_consumes_topic_server_and_fanout_in_the_recorded_order() {
    let vectors = vectors();
    let vector = vectors
        .iter()
        .find(|vector| vector.name == "topo_default")
        .unwrap();
    let server: Vec<&Value> = methods(&vector.value)
        .filter(|event| event["conn"] == "server-1")
        .collect();
    let mut queues = server
        .iter()
        .filter(|event| event["method"] == "queue.declare");
    let fanout = text(&queues.next_back().unwrap()["args"]["queue"])
        .rsplit('_')
        .next()
        .unwrap();
    let what = Subscription::Rpc {
        exchange: None,
        topic: "topic-a".into(),
        server: "server-1".into(),
        prefetch: Prefetch::Unlimited,
    };
    let config = config_of(&vector.value);
    let spec = subscription(Layout::of(&config), "openstack", &what, fanout).unwrap();
    let mut ours = Vec::new();
    for consumer in &spec.consumers {
        let (exchange, _) = consumer.bindings.first().unwrap();
        ours.push(("exchange.declare", exchange_json(exchange)));
        ours.push(("queue.declare", queue_json(&consumer.queue)));
        ours.push(("queue.bind", bind_json(consumer).unwrap()));
    }
    ours.extend(
        spec.consumers
            .iter()
            .map(|consumer| ("basic.consume", consume_json(consumer, &consumer.tag))),
    );
    for (event, (method, args)) in server.iter().zip(&ours) {
        assert_eq!((text(&event["method"]), &event["args"]), (*method, args));
    }
    assert_eq!(ours.len(), 12);
    assert_eq!(spec.prefetch, None);
    assert!(spec.consumers[2].delete_on_close && !spec.consumers[0].delete_on_close);
}

#[test]
fn publishes_of_every_recorded_rpc_peer_go_where_our_addresses_say() {
    let mut checked = 0;
    for vector in vectors() {
        let control = vector.value["config"]["default"]["control_exchange"]
            .as_str()
            .unwrap_or("openstack")
            .to_owned();
        for event in methods(&vector.value).filter(|event| event["method"] == "basic.publish") {
            let (exchange, key) = (text(&event["exchange"]), text(&event["routing_key"]));
            let topic = exchange.strip_suffix("_fanout");
            let destination = match (exchange, topic, key.split_once('.')) {
                ("", ..) => Destination::Reply { queue: key },
                (_, Some(topic), _) => Destination::Fanout { topic },
                (_, None, Some((topic, server))) => Destination::Server {
                    exchange: Some(exchange),
                    topic,
                    server,
                },
                (_, None, None) if exchange == control => Destination::Topic {
                    exchange: None,
                    topic: key,
                },
                (_, None, None) => Destination::Topic {
                    exchange: Some(exchange),
                    topic: key,
                },
            };
            let Address {
                exchange: ours,
                routing_key,
            } = address(&control, destination).unwrap();
            assert_eq!(
                (ours.name(), &*routing_key),
                (exchange, key),
                "{}",
                vector.name
            );
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked}");
}

#[test]
fn arguments_are_written_in_the_order_of_the_reference() {
    let mut config = RabbitConfig {
        rabbit_quorum_queue: true,
        rabbit_transient_quorum_queue: true,
        rabbit_quorum_delivery_limit: 1,
        rabbit_quorum_max_memory_length: 2,
        rabbit_quorum_max_memory_bytes: 3,
        ..RabbitConfig::default()
    };
    let names = |arguments: Arguments| {
        arguments
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    let quorum = [
        "x-queue-type",
        "x-delivery-limit",
        "x-max-in-memory-length",
        "x-max-in-memory-bytes",
    ];
    assert_eq!(names(topic_arguments(Layout::of(&config))), quorum);
    assert_eq!(
        names(transient_arguments(&config)),
        [&quorum[..], &["x-expires"]].concat()
    );
    config.rabbit_ha_queues = true;
    assert_eq!(names(transient_arguments(&config))[0], "x-ha-policy");
    assert_eq!(
        names(stream_arguments(&config)),
        ["x-queue-type", "x-max-age"]
    );
}

#[test]
fn prefetch_of_the_option_wins_over_the_servers() {
    let rpc = |prefetch| Subscription::Rpc {
        exchange: None,
        topic: "t".into(),
        server: "s".into(),
        prefetch,
    };
    let of = |count, what: &Subscription| {
        let config = RabbitConfig {
            rabbit_qos_prefetch_count: count,
            ..RabbitConfig::default()
        };
        subscription(Layout::of(&config), "openstack", what, "x")
            .unwrap()
            .prefetch
    };
    let limited = Prefetch::Limited(NonZeroU16::new(9).unwrap());
    assert_eq!(of(0, &rpc(Prefetch::Unlimited)), None);
    assert_eq!(of(0, &rpc(limited)), Some(9));
    assert_eq!(of(5, &rpc(limited)), Some(5));
    assert_eq!(of(0, &Subscription::Replies), None);
    assert_eq!(of(5, &Subscription::Replies), Some(5));
}

#[test]
fn a_queue_name_beyond_255_bytes_is_refused_before_the_broker_sees_it() {
    let what = Subscription::Rpc {
        exchange: None,
        topic: "t".repeat(230),
        server: "s".into(),
        prefetch: Prefetch::Unlimited,
    };
    let error = subscription(
        Layout::of(&RabbitConfig::default()),
        "openstack",
        &what,
        &"0".repeat(32),
    )
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidTarget);
}

fn rpc(topic: &str) -> Subscription {
    Subscription::Rpc {
        exchange: None,
        topic: topic.into(),
        server: "s".into(),
        prefetch: Prefetch::Unlimited,
    }
}

fn spec_of(layout: Layout<'_>, what: &Subscription) -> SubscriptionSpec {
    subscription(layout, "openstack", what, "x").unwrap()
}

#[test]
fn private_queues_are_durable_classic_ones_that_expire_and_shared_things_stay_as_peers_declare_them()
 {
    let ours = RabbitConfig::default();
    let reference = RabbitConfig {
        private_queues: PrivateQueues::Reference,
        ..RabbitConfig::default()
    };
    let expires = vec![("x-expires", Argument::Number(1_800_000))];
    let reply = spec_of(Layout::of(&ours), &Subscription::Replies);
    assert!(reply.consumers[0].queue.durable && reply.consumers[0].private);
    assert_eq!(reply.consumers[0].queue.arguments, expires);
    let server = spec_of(Layout::of(&ours), &rpc("t"));
    let theirs = spec_of(Layout::of(&reference), &rpc("t"));
    assert_eq!(server.consumers[..2], theirs.consumers[..2]);
    let (fanout, theirs) = (&server.consumers[2], &theirs.consumers[2]);
    assert!(fanout.queue.durable && !theirs.queue.durable);
    assert_eq!(fanout.queue.arguments, expires);
    assert_eq!(fanout.bindings, theirs.bindings);
    assert!(!fanout.bindings[0].0.durable);
}

#[test]
fn a_private_queue_without_a_ttl_has_no_arguments_and_quorum_wins_over_the_form_chosen() {
    let config = RabbitConfig {
        rabbit_transient_queues_ttl: 0,
        ..RabbitConfig::default()
    };
    let reply = spec_of(Layout::of(&config), &Subscription::Replies);
    assert!(reply.consumers[0].queue.durable && reply.consumers[0].queue.arguments.is_empty());
    for private_queues in [PrivateQueues::Classic, PrivateQueues::Reference] {
        let config = RabbitConfig {
            rabbit_transient_quorum_queue: true,
            private_queues,
            ..RabbitConfig::default()
        };
        let reply = spec_of(Layout::of(&config), &Subscription::Replies);
        assert!(reply.consumers[0].queue.is_quorum() && reply.consumers[0].queue.durable);
    }
}

#[test]
fn where_transient_queues_are_refused_shared_ones_are_adopted_or_quorum_and_exchanges_durable() {
    let config = RabbitConfig {
        amqp_auto_delete: true,
        rabbit_ha_queues: true,
        ..RabbitConfig::default()
    };
    let refused = Layout {
        config: &config,
        transient_refused: true,
    };
    let spec = spec_of(refused, &rpc("t"));
    for shared in &spec.consumers[..2] {
        let queue = &shared.queue;
        assert!(queue.adopt_first && queue.is_quorum() && queue.durable && !queue.auto_delete);
        assert!(shared.bindings[0].0.durable);
    }
    assert!(spec.consumers[2].bindings[0].0.durable);
    assert!(!spec.consumers[2].queue.is_quorum() && !spec.consumers[2].queue.adopt_first);

    // Durable classic queues are allowed there: nothing changes for those who have them.
    let config = RabbitConfig {
        amqp_durable_queues: true,
        ..RabbitConfig::default()
    };
    let refused = Layout {
        config: &config,
        transient_refused: true,
    };
    let (on_old, on_new) = (
        spec_of(Layout::of(&config), &rpc("t")),
        spec_of(refused, &rpc("t")),
    );
    assert_eq!(on_old.consumers[..2], on_new.consumers[..2]);
}

#[test]
fn a_stream_is_consumed_from_the_next_message_and_belongs_to_all_servers() {
    let config = RabbitConfig {
        rabbit_stream_fanout: true,
        rabbit_transient_quorum_queue: true,
        rabbit_qos_prefetch_count: 5,
        ..RabbitConfig::default()
    };
    let fanout = &spec_of(Layout::of(&config), &rpc("t")).consumers[2];
    assert_eq!(fanout.queue.name, "t_fanout");
    assert!(fanout.queue.is_stream() && !fanout.private && !fanout.delete_on_close);
    assert_eq!(
        fanout.arguments,
        [("x-stream-offset", Argument::Text("next".into()))]
    );
}

fn notes(pool: Option<Pool>) -> Subscription {
    let mut what = Notifications::new([
        (None, "notifications.info".to_owned()),
        (None, "notifications.error".to_owned()),
        (Some("nova".to_owned()), "versioned.info".to_owned()),
    ]);
    what.pool = pool;
    Subscription::Notifications(what)
}

#[test]
fn a_listener_has_a_queue_for_each_topic_and_priority_which_notifiers_declare_alike() {
    let config = RabbitConfig::from_query(&[("rabbit_quorum_queue".into(), "1".into())]).unwrap();
    let layout = Layout::of(&config);
    let spec = spec_of(layout, &notes(None));
    let names = spec.consumers.iter().map(|consumer| &*consumer.queue.name);
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "notifications.info",
            "notifications.error",
            "versioned.info"
        ]
    );
    let tags = spec.consumers.iter().map(|consumer| &*consumer.tag);
    assert_eq!(tags.collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(spec.consumers[2].bindings[0].0.name, "nova");
    let published = published_queue(layout, "nova", "versioned.info");
    let consumer = &spec.consumers[2];
    assert_eq!(published.consumers[0].queue, consumer.queue);
    assert_eq!(published.consumers[0].bindings, consumer.bindings);
    assert!(consumer.queue.is_quorum() && !consumer.private && !consumer.delete_on_close);
}

#[test]
fn a_pool_has_one_queue_of_its_name_with_a_binding_for_each_topic_and_priority() {
    let config = RabbitConfig::default();
    let spec = spec_of(Layout::of(&config), &notes(Some(Pool::shared("audit"))));
    let [consumer] = &spec.consumers[..] else {
        panic!("{:?}", spec.consumers)
    };
    assert_eq!((&*consumer.queue.name, &*consumer.tag), ("audit", "1"));
    let keys = consumer.bindings.iter();
    assert_eq!(
        keys.map(|(exchange, key)| (&*exchange.name, &**key))
            .collect::<Vec<_>>(),
        [
            ("openstack", "notifications.info"),
            ("openstack", "notifications.error"),
            ("nova", "versioned.info")
        ]
    );
    assert!(!consumer.queue.durable && !consumer.delete_on_close);
}

#[test]
fn a_temporary_pool_ends_with_its_listener_or_soon_after() {
    let config = RabbitConfig::default();
    let spec = spec_of(Layout::of(&config), &notes(Some(Pool::temporary("look"))));
    let consumer = &spec.consumers[0];
    assert!(consumer.delete_on_close && consumer.alone && consumer.queue.durable);
    assert_eq!(
        consumer.queue.arguments,
        [("x-expires", Argument::Number(1_800_000))]
    );
    assert!(
        !consumer.bindings[0].0.durable,
        "the exchange is everybody's"
    );
}

#[test]
fn a_listener_that_wants_history_is_refused() {
    let mut what = Notifications::new([(None, "notifications.info".to_owned())]);
    what.since = Some(std::time::SystemTime::UNIX_EPOCH);
    let config = RabbitConfig::default();
    let what = Subscription::Notifications(what);
    let refused = subscription(Layout::of(&config), "openstack", &what, "");
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_server_of_the_plain_rpc_has_one_queue_called_like_its_topic_and_nothing_durable() {
    let mut config = RabbitConfig {
        wire: Wire::Plain,
        amqp_durable_queues: true,
        amqp_auto_delete: true,
        ..RabbitConfig::default()
    };
    let spec = spec_of(Layout::of(&config), &rpc("sendout_request"));
    let [consumer] = &spec.consumers[..] else {
        panic!("{spec:?}")
    };
    let [(exchange, key)] = &consumer.bindings[..] else {
        panic!("{consumer:?}")
    };
    assert_eq!(
        (exchange.name.as_str(), key.as_str()),
        ("sendout_request", "sendout_request")
    );
    assert_eq!(exchange.kind, ExchangeType::Topic);
    assert!(!exchange.durable && !exchange.auto_delete);
    let queue = &consumer.queue;
    assert_eq!(queue.name, "sendout_request");
    assert!(!queue.durable && !queue.auto_delete && queue.arguments.is_empty());
    assert!(!consumer.private && !consumer.delete_on_close);

    // A broker that refuses transient queues is given what it takes, unless something is there.
    config.amqp_durable_queues = false;
    let layout = Layout {
        config: &config,
        transient_refused: true,
    };
    let queue = &spec_of(layout, &rpc("t")).consumers[0].queue;
    assert!(queue.durable && queue.adopt_first && queue.arguments.is_empty());
}

#[test]
fn a_reply_queue_has_an_exchange_of_its_name_where_old_servers_publish_if_asked_for() {
    let mut config = RabbitConfig::default();
    let replies = |config: &RabbitConfig| spec_of(Layout::of(config), &Subscription::Replies);
    assert!(replies(&config).consumers[0].bindings.is_empty());
    config.reply_exchange = true;
    let spec = replies(&config);
    let name = spec.address.clone().unwrap();
    let [(exchange, key)] = &spec.consumers[0].bindings[..] else {
        panic!("{spec:?}")
    };
    assert_eq!((&exchange.name, key), (&name, &name));
    assert_eq!(exchange.kind, ExchangeType::Direct);
    assert!(exchange.auto_delete && !exchange.durable);
}
