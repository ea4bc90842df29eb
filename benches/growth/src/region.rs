//! An OpenStack region on paper: from the costs of one agent to what a cluster of brokers has to carry.
//!
//! Nothing is measured here. What is assumed of a region stands in the constants, which the document shows; every other number
//! comes from `growth.json`.

use std::fmt::Write as _;

use crate::crossing::{FAR, NEAR};
use crate::objects::{Driver, Kind, SHAPES};
use crate::plot::quantity;
use crate::record::Record;

/// Sizes of a region, in agents.
const SIZES: [f64; 3] = [1e3, 1e4, 1e5];
/// Brokers of a cluster.
const NODES: f64 = 3.0;

/// A sort of process of the region.
struct Sort {
    name: &'static str,
    /// Of a thousand agents.
    share: f64,
    /// Topics it serves.
    topics: f64,
    /// Calls it makes, a second.
    calls: f64,
    why: &'static str,
}

/// The agents, of which there are so many of a thousand.
const SORTS: [Sort; 5] = [
    Sort {
        name: "nova-compute",
        share: 485.0,
        topics: 1.0,
        calls: 0.1 + 6.0 / 60.0,
        why: "`report_interval` 10 s, a call to the conductor each; `update_resources_interval` 0, which is every 60 s, six calls assumed",
    },
    Sort {
        name: "neutron-openvswitch-agent",
        share: 485.0,
        topics: 8.0,
        calls: 1.0 / 30.0,
        why: "`[agent] report_interval` 30 s, a call each; it serves three topics of its own and five of resources (port, security group, rule, network, subnet)",
    },
    Sort {
        name: "neutron-dhcp-agent",
        share: 10.0,
        topics: 1.0,
        calls: 1.0 / 30.0,
        why: "`[agent] report_interval` 30 s",
    },
    Sort {
        name: "neutron-l3-agent",
        share: 10.0,
        topics: 2.0,
        calls: 1.0 / 30.0,
        why: "`[agent] report_interval` 30 s",
    },
    Sort {
        name: "cinder-volume",
        share: 10.0,
        topics: 1.0,
        calls: 1.0 / 60.0,
        why: "its capabilities to the schedulers every 60 s; its own reports go to the database",
    },
];

/// The processes of the control plane, so many more for each thousand agents.
const CONTROL: Sort = Sort {
    name: "control plane: workers of nova-conductor, nova-scheduler, nova-api, neutron-server, cinder-scheduler",
    share: 60.0,
    topics: 2.0,
    calls: 0.2,
    why: "assumed: a worker for some 16 agents, a call to an agent every five seconds each; those that they answer are the agents'",
};
/// Connections of such a process of the reference beyond those of an agent: threads that send at once have one each, up to
/// `rpc_conn_pool_size`, 30. Assumed.
const SENDERS: f64 = 10.0;

/// Messages whose client is at another node than the queue, of those of a cluster whose clients are spread evenly.
const ELSEWHERE: f64 = 1.0 - 1.0 / NODES;
/// KiB of a message, assumed: what an agent reports of itself.
const MESSAGE: f64 = 2.0;

/// Changes of ports an hour and hypervisor, each of which is told to every L2 agent.
const CHANGES: f64 = 5.0;

/// What one broker can give.
struct Limit {
    name: &'static str,
    unit: &'static str,
    amount: f64,
    why: &'static str,
    /// What the region wants of it, of all brokers together.
    wanted: fn(&Load) -> f64,
}

impl Limit {
    /// The part of what a cluster gives that is wanted of it.
    fn share(&self, load: &Load) -> f64 {
        (self.wanted)(load) / (self.amount * NODES)
    }
}

const LIMITS: [Limit; 4] = [
    Limit {
        name: "connections",
        unit: "sockets",
        amount: 58_890.0,
        why: "`LimitNOFILE` 65,536 of the packages: RabbitMQ keeps 100 and a tenth for files, 58,890 are left for sockets",
        wanted: |load| load.connections,
    },
    Limit {
        name: "processes",
        unit: "processes of Erlang",
        amount: 1_048_576.0,
        why: "`+P`, RabbitMQ's default",
        wanted: |load| load.processes,
    },
    Limit {
        name: "memory",
        unit: "GiB",
        amount: 64.0 * 0.4 / 2.0,
        why: "64 GiB, of which `vm_memory_high_watermark` 0.4 may be used, half of it for garbage and what is under way",
        wanted: |load| load.memory_gib,
    },
    Limit {
        name: "CPU",
        unit: "cores",
        amount: 16.0 * 0.5,
        why: "16 cores as those measured on, half of them busy at most",
        wanted: |load| load.idle_cores + load.call_cores + load.fanout_cores + load.crossing_cores,
    },
];

/// What a region wants of its brokers.
#[derive(Default, Clone)]
struct Load {
    connections: f64,
    channels: f64,
    queues: f64,
    consumers: f64,
    bindings: f64,
    processes: f64,
    memory_gib: f64,
    calls: f64,
    fanouts: f64,
    deliveries: f64,
    idle_cores: f64,
    call_cores: f64,
    fanout_cores: f64,
    /// What comes on top where messages go from node to node.
    crossing_cores: f64,
    /// CPU time of the brokers until all agents are connected.
    start_seconds: f64,
}

impl Load {
    /// The same, were there no fanouts.
    fn without_fanouts(&self) -> Self {
        Self {
            fanouts: 0.0,
            deliveries: 0.0,
            fanout_cores: 0.0,
            ..self.clone()
        }
    }
}

/// A cost of an agent that serves so many topics: the line through the shapes that were measured.
fn cost(record: &Record, driver: Driver, topics: f64, what: &str) -> Option<f64> {
    let [few, many] = SHAPES;
    let at = |shape: u64| {
        record
            .objects
            .get(&format!("{}.{shape}.{what}", driver.key()))
            .copied()
    };
    let (low, high) = (at(few)?, at(many)?);
    Some(low + (high - low) * (topics - few as f64) / (many - few) as f64)
}

/// What a region of so many agents wants with this driver; `None` if something was not measured.
fn load(record: &Record, driver: Driver, agents: f64) -> Option<Load> {
    let mut load = Load::default();
    for sort in SORTS.iter().chain([&CONTROL]) {
        let count = agents * sort.share / 1000.0;
        let all = |what: &str| cost(record, driver, sort.topics, what).map(|one| one * count);
        load.connections += all("connections")?;
        load.channels += all("channels")?;
        load.queues += all("queues")?;
        load.consumers += all("consumers")?;
        load.bindings += all("bindings")?;
        load.processes += all("processes")?;
        load.memory_gib += all("memory_kib")? / 1024.0 / 1024.0;
        load.idle_cores += all("idle_us")? / 1e6;
        load.start_seconds += all("start_ms")? / 1e3;
        load.calls += sort.calls * count;
    }
    if driver == Driver::Reference {
        let senders = agents * CONTROL.share / 1000.0 * SENDERS;
        let one = |what: &str| {
            let of = |kind: Kind| record.objects.get(&format!("{}.{what}", kind.key()));
            Some(of(Kind::Connection)? + of(Kind::Channel)?)
        };
        load.connections += senders;
        load.channels += senders;
        load.processes += senders * one("processes")?;
        load.memory_gib += senders * one("memory_kib")? / 1024.0 / 1024.0;
        load.start_seconds += senders * one("cpu_us")? / 1e6;
    }
    // Of no shape in particular.
    let mean = |what: &str| {
        let shapes = SHAPES.map(|topics| cost(record, driver, topics as f64, what));
        Some((shapes[0]? + shapes[1]?) / 2.0)
    };
    let call = mean("call_us")?;
    load.call_cores = load.calls * call / 1e6;
    let listening = agents * SORTS[1].share / 1000.0;
    load.fanouts = listening * CHANGES / 3600.0;
    load.deliveries = load.fanouts * listening;
    load.fanout_cores = load.deliveries * mean("fanout_us")? / 1e6;
    let further = record.objects.get(FAR)? / record.objects.get(NEAR)? - 1.0;
    load.crossing_cores = load.call_cores * ELSEWHERE * further.max(0.0);
    Some(load)
}

fn name(driver: Driver) -> &'static str {
    match driver {
        Driver::Ours => "this library",
        Driver::Reference => "Python's",
    }
}

/// The parts of `scale.md` that are computed: the name of the markers and the text between them.
pub(crate) fn sections(record: &Record) -> Vec<(&'static str, String)> {
    let rows: Option<Vec<(f64, Driver, Load)>> = SIZES
        .into_iter()
        .flat_map(|agents| Driver::ALL.map(|driver| (agents, driver)))
        .map(|(agents, driver)| Some((agents, driver, load(record, driver, agents)?)))
        .collect();
    let Some(rows) = rows else {
        return Vec::new();
    };
    vec![
        ("objects", objects(record)),
        ("crossing", crossing(record)),
        ("agents", agents(record)),
        ("sorts", sorts()),
        ("region", region(&rows)),
        ("limits", limits(&rows)),
    ]
}

fn objects(record: &Record) -> String {
    let mut text = String::from(
        "| object | memory, KiB | processes | CPU to make it, µs |\n|---|--:|--:|--:|\n",
    );
    for kind in Kind::ALL.map(Kind::key) {
        let at = |what: &str| {
            record
                .objects
                .get(&format!("{kind}.{what}"))
                .copied()
                .unwrap_or_default()
        };
        let numbers =
            [at("memory_kib"), at("processes"), at("cpu_us")].map(|number| quantity(number, false));
        let _ = writeln!(text, "| {kind} | {} |", numbers.join(" | "));
    }
    text
}

fn crossing(record: &Record) -> String {
    let [near, far] = [NEAR, FAR].map(|key| record.objects.get(key).copied().unwrap_or_default());
    format!(
        "| a call under load, three nodes together | CPU, µs |\n|---|--:|\n\
         | client, server and their queues at one node | {} |\n\
         | client and its reply queue at another node than the server and its queues | {} |\n\
         | more, with all clients spread over three nodes | {} % |\n",
        quantity(near, false),
        quantity(far, false),
        quantity((far / near - 1.0) * ELSEWHERE * 100.0, false)
    )
}

fn agents(record: &Record) -> String {
    const WHAT: [(&str, &str); 13] = [
        ("connections", "connections"),
        ("channels", "channels"),
        ("queues", "queues"),
        ("consumers", "consumers"),
        (
            "bindings",
            "bindings, those to the default exchange included",
        ),
        ("processes", "processes of Erlang"),
        ("memory_kib", "memory of the broker, KiB"),
        ("start_ms", "CPU of the broker to start it, ms"),
        (
            "idle_us",
            "CPU of the broker while nothing is asked, µs a second",
        ),
        ("call_us", "CPU of the broker for a call, µs"),
        (
            "fanout_us",
            "CPU of the broker for a fanout, µs for each that hears it",
        ),
        ("heard_us", "CPU of its own process for a fanout heard, µs"),
        (
            "own_kib",
            "memory of its own process, KiB (many share one here)",
        ),
    ];
    let mut text = String::from("| an agent |");
    for topics in SHAPES {
        for driver in Driver::ALL {
            let plural = if topics == 1 { "" } else { "s" };
            let _ = write!(text, " {}, {topics} topic{plural} |", name(driver));
        }
    }
    text.push_str("\n|---|--:|--:|--:|--:|\n");
    for (key, label) in WHAT {
        let _ = write!(text, "| {label} |");
        for topics in SHAPES {
            for driver in Driver::ALL {
                let number = cost(record, driver, topics as f64, key).unwrap_or_default();
                let _ = write!(text, " {} |", quantity(number, false));
            }
        }
        text.push('\n');
    }
    text
}

fn sorts() -> String {
    let mut text = String::from(
        "| of 1,000 agents | are | topics each | calls a second each | because |\n|--:|---|--:|--:|---|\n",
    );
    for (sort, more) in SORTS
        .iter()
        .map(|sort| (sort, ""))
        .chain([(&CONTROL, " more")])
    {
        let _ = writeln!(
            text,
            "| {}{more} | {} | {} | {} | {} |",
            sort.share,
            sort.name,
            sort.topics,
            quantity(sort.calls, false),
            sort.why
        );
    }
    text
}

fn region(rows: &[(f64, Driver, Load)]) -> String {
    type Column = fn(&Load) -> f64;
    const WHAT: [(&str, Column); 15] = [
        ("connections", |load| load.connections),
        ("channels", |load| load.channels),
        ("queues", |load| load.queues),
        ("consumers", |load| load.consumers),
        ("bindings", |load| load.bindings),
        ("processes of Erlang", |load| load.processes),
        ("memory, GiB", |load| load.memory_gib),
        ("calls a second", |load| load.calls),
        ("deliveries of fanouts a second", |load| load.deliveries),
        ("messages a second, published and delivered", |load| {
            load.calls * 4.0 + load.deliveries
        }),
        ("MiB a second between the brokers", |load| {
            // A fanout goes once to each other broker, whatever number hears it there.
            let crossing = load.calls * 2.0 * ELSEWHERE + load.fanouts * (NODES - 1.0);
            crossing * MESSAGE / 1024.0
        }),
        ("cores for processes that are idle", |load| load.idle_cores),
        ("cores for calls", |load| load.call_cores),
        ("cores for fanouts", |load| load.fanout_cores),
        ("cores for calls that go from broker to broker", |load| {
            load.crossing_cores
        }),
    ];
    let mut text = String::from("| all brokers together |");
    for (agents, driver, _) in rows {
        let _ = write!(
            text,
            " {} agents, {} |",
            quantity(*agents, false),
            name(*driver)
        );
    }
    let _ = writeln!(text, "\n|---|{}", "--:|".repeat(rows.len()));
    let columns = WHAT.iter().map(|(label, pick)| (*label, *pick));
    let start: Column = |load| load.start_seconds;
    for (label, pick) in columns.chain([("CPU to connect all of them, s", start)]) {
        let _ = write!(text, "| {label} |");
        for (_, _, load) in rows {
            let _ = write!(text, " {} |", quantity(pick(load), false));
        }
        text.push('\n');
    }
    text
}

fn limits(rows: &[(f64, Driver, Load)]) -> String {
    let mut text = String::from("| a broker gives | |\n|---|---|\n");
    for limit in &LIMITS {
        let _ = writeln!(
            text,
            "| {} {} | {} |",
            quantity(limit.amount, false),
            limit.unit,
            limit.why
        );
    }
    text.push_str("\n| of a cluster of three |");
    for limit in &LIMITS {
        let _ = write!(text, " {} |", limit.name);
    }
    let _ = writeln!(
        text,
        " breaks first | brokers it takes | without fanouts |\n|---|{}---|--:|--:|",
        "--:|".repeat(LIMITS.len())
    );
    for (agents, driver, load) in rows {
        let _ = write!(
            text,
            "| {} agents, {} |",
            quantity(*agents, false),
            name(*driver)
        );
        for limit in &LIMITS {
            let share = limit.share(load);
            let _ = write!(text, " {} % |", quantity(share * 100.0, false));
        }
        let (first, all) = brokers(load);
        let (_, rest) = brokers(&load.without_fanouts());
        let [all, rest] = [all, rest].map(|count| quantity(count, false));
        let _ = writeln!(text, " {first} | {all} | {rest} |");
    }
    text
}

/// What breaks first, and how many brokers it takes not to.
fn brokers(load: &Load) -> (&'static str, f64) {
    let shares = LIMITS.iter().map(|limit| (limit.name, limit.share(load)));
    let (first, share) = shares
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .unwrap_or_default();
    (first, (share * NODES).ceil().max(NODES))
}

#[cfg(test)]
mod tests {
    use super::{CONTROL, Driver, ELSEWHERE, FAR, Kind, NEAR, SENDERS, SORTS, cost, load};
    use crate::record::Record;

    fn record() -> Record {
        let mut record = Record::default();
        for driver in Driver::ALL {
            for what in [
                "connections",
                "channels",
                "queues",
                "consumers",
                "bindings",
                "processes",
                "memory_kib",
                "idle_us",
                "start_ms",
                "call_us",
                "fanout_us",
            ] {
                record
                    .objects
                    .insert(format!("{}.1.{what}", driver.key()), 2.0);
                record
                    .objects
                    .insert(format!("{}.5.{what}", driver.key()), 10.0);
            }
        }
        for kind in [Kind::Connection, Kind::Channel] {
            for what in ["processes", "memory_kib", "cpu_us"] {
                record.objects.insert(format!("{}.{what}", kind.key()), 1.0);
            }
        }
        record.objects.insert(NEAR.to_owned(), 100.0);
        record.objects.insert(FAR.to_owned(), 150.0);
        record
    }

    #[test]
    fn costs_lie_on_the_line_through_what_was_measured() {
        let record = record();
        assert_eq!(cost(&record, Driver::Ours, 1.0, "queues"), Some(2.0));
        assert_eq!(cost(&record, Driver::Ours, 8.0, "queues"), Some(16.0));
        assert_eq!(cost(&record, Driver::Ours, 8.0, "nothing"), None);
    }

    #[test]
    fn a_region_is_the_sum_of_its_agents_and_its_fanouts_grow_with_the_square() {
        let record = record();
        let (small, large) = (
            load(&record, Driver::Ours, 1e3),
            load(&record, Driver::Ours, 1e4),
        );
        let (small, large) = (small.expect("all is there"), large.expect("all is there"));
        // Two for each topic of each agent.
        let sorts = SORTS.iter().chain([&CONTROL]);
        let topics: f64 = sorts.map(|sort| sort.share * sort.topics).sum();
        assert!((small.queues - 2.0 * topics).abs() < 1e-6);
        assert!((large.queues / small.queues - 10.0).abs() < 1e-9);
        assert!((large.deliveries / small.deliveries - 100.0).abs() < 1e-9);
        // Two for one topic, ten for five.
        assert!((small.fanout_cores - small.deliveries * 6.0 / 1e6).abs() < 1e-12);
        assert!((small.crossing_cores - small.call_cores * ELSEWHERE * 0.5).abs() < 1e-12);
        assert!(load(&Record::default(), Driver::Ours, 1e3).is_none());
    }

    #[test]
    fn a_process_of_the_reference_has_a_connection_for_each_thread_that_sends() {
        let record = record();
        let of = |driver| load(&record, driver, 1e3).expect("all is there");
        let (ours, theirs) = (of(Driver::Ours), of(Driver::Reference));
        let more = CONTROL.share * SENDERS;
        assert!((theirs.connections - ours.connections - more).abs() < 1e-6);
        assert!((theirs.processes - ours.processes - 2.0 * more).abs() < 1e-6);
    }

    #[test]
    fn without_fanouts_all_else_stays() {
        let with = load(&record(), Driver::Ours, 1e4).expect("all is there");
        let without = with.without_fanouts();
        assert!(without.fanout_cores == 0.0 && without.deliveries == 0.0);
        assert!((without.crossing_cores - with.crossing_cores).abs() < 1e-12);
        assert!((without.idle_cores - with.idle_cores).abs() < 1e-12);
    }

    #[test]
    fn the_sorts_are_all_agents() {
        assert!((SORTS.iter().map(|sort| sort.share).sum::<f64>() - 1000.0).abs() < 1e-9);
    }
}
