//! What grows, at which points it is measured, and what each cost is expected to do.

/// Something that grows, and what is measured while it does.
pub(crate) struct Axis {
    /// As it is named on the command line.
    pub(crate) name: &'static str,
    /// What grows, with its unit.
    pub(crate) what: &'static str,
    /// Where it is measured.
    pub(crate) points: &'static [u64],
    /// Where it is measured in a short run.
    pub(crate) short: &'static [u64],
    /// How often each point is measured.
    pub(crate) rounds: usize,
    /// What is drawn.
    pub(crate) plots: &'static [Plot],
}

/// One drawing.
pub(crate) struct Plot {
    /// Name of the file without `.svg`.
    pub(crate) file: &'static str,
    /// What is drawn.
    pub(crate) title: &'static str,
    /// Unit of what is drawn.
    pub(crate) unit: &'static str,
    /// The lines.
    pub(crate) series: &'static [Series],
}

/// One cost.
pub(crate) struct Series {
    /// Its name in `growth.json`.
    pub(crate) key: &'static str,
    /// Whose cost.
    pub(crate) label: &'static str,
    /// The power of x with which it should grow: 0 stays, 1 grows with x.
    pub(crate) expected: f64,
    /// From here on; what is below is drawn and not judged.
    pub(crate) from: u64,
}

const fn stays(key: &'static str, label: &'static str, from: u64) -> Series {
    Series {
        key,
        label,
        expected: 0.0,
        from,
    }
}

const fn grows(key: &'static str, label: &'static str, from: u64) -> Series {
    Series {
        key,
        label,
        expected: 1.0,
        from,
    }
}

/// Of a call that should cost the same whatever grows.
const CALL: &[Series] = &[
    stays("client", "client", 1),
    stays("server", "server", 1),
    stays("broker", "broker", 1),
];

const COUNTS: &[u64] = &[1, 3, 10, 30, 100, 250, 500];
const FEW_COUNTS: &[u64] = &[1, 10, 100, 500];

/// Everything that is measured.
pub(crate) const AXES: &[Axis] = &[
    Axis {
        name: "calls",
        what: "calls in flight",
        points: &[1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000],
        short: &[1, 10, 100, 1_000, 10_000],
        rounds: 3,
        plots: &[
            Plot {
                file: "calls",
                title: "A call of 100 B",
                unit: "CPU time of a call, µs",
                series: CALL,
            },
            Plot {
                file: "calls-memory",
                title: "Calls that wait for their answer",
                unit: "memory of all, KiB",
                series: &[grows("held", "client", 1_000)],
            },
        ],
    },
    Axis {
        name: "servers",
        what: "servers on one topic",
        points: COUNTS,
        short: FEW_COUNTS,
        rounds: 3,
        plots: &[
            Plot {
                file: "servers",
                title: "A call of 100 B, 64 callers, to any server",
                unit: "CPU time of a call, µs",
                series: &[
                    stays("client", "client", 1),
                    stays("server", "servers", 1),
                    stays("broker", "broker", 1),
                ],
            },
            Plot {
                file: "servers-direct",
                title: "A call of 100 B, 64 callers, to each server in turn",
                unit: "CPU time of a call, µs",
                series: &[
                    stays("direct_client", "client", 1),
                    stays("direct_server", "servers", 1),
                    stays("direct_broker", "broker", 1),
                ],
            },
            Plot {
                file: "servers-start",
                title: "Starting servers",
                unit: "CPU time of all starts, ms",
                series: &[
                    grows("start", "servers", 5),
                    grows("start_broker", "broker", 5),
                ],
            },
            Plot {
                file: "servers-memory",
                title: "Servers that wait",
                unit: "memory of all, KiB",
                series: &[
                    grows("memory", "servers", 20),
                    grows("memory_broker", "broker", 20),
                ],
            },
        ],
    },
    Axis {
        name: "fanout",
        what: "queues of one fanout",
        points: COUNTS,
        short: FEW_COUNTS,
        rounds: 3,
        plots: &[
            Plot {
                file: "fanout",
                title: "A fanout of 100 B",
                unit: "CPU time of a fanout, µs",
                series: &[
                    stays("client", "caster", 1),
                    grows("server", "servers", 10),
                    grows("broker", "broker", 10),
                ],
            },
            Plot {
                file: "fanout-paced",
                title: "A fanout to one queue, at the pace of those",
                unit: "CPU time of a fanout, µs",
                series: &[
                    stays("paced_client", "caster", 1),
                    stays("paced_server", "server", 1),
                ],
            },
        ],
    },
    Axis {
        name: "payload",
        what: "bytes of payload, there and back",
        points: &[
            100,
            1 << 10,
            1 << 12,
            1 << 14,
            1 << 16,
            1 << 18,
            1 << 20,
            1 << 22,
            1 << 24,
        ],
        short: &[100, 1 << 12, 1 << 16, 1 << 20, 1 << 24],
        rounds: 3,
        plots: &[
            Plot {
                file: "payload",
                title: "A call, 4 callers",
                unit: "CPU time of a call, µs",
                series: &[
                    grows("client", "client", 1 << 16),
                    grows("server", "server", 1 << 16),
                    grows("broker", "broker", 1 << 18),
                ],
            },
            Plot {
                file: "payload-kept",
                title: "A call, 4 callers, freed memory kept",
                unit: "CPU time of a call, µs",
                series: &[
                    grows("kept_client", "client", 1 << 18),
                    grows("kept_server", "server", 1 << 18),
                ],
            },
        ],
    },
    Axis {
        name: "transports",
        what: "transports in one process",
        points: &[1, 3, 10, 30, 100, 300, 1_000],
        short: &[1, 10, 100, 1_000],
        rounds: 3,
        plots: &[
            Plot {
                file: "transports",
                title: "A call, 64 callers in turn, less what idles",
                unit: "CPU time of a call, µs",
                series: CALL,
            },
            Plot {
                file: "transports-start",
                title: "Connecting transports, with their reply queues",
                unit: "CPU time of all, ms",
                series: &[
                    grows("start", "client", 10),
                    grows("start_broker", "broker", 10),
                ],
            },
            Plot {
                file: "transports-memory",
                title: "Transports that wait",
                unit: "memory of all, KiB",
                series: &[
                    grows("memory", "client", 10),
                    grows("memory_broker", "broker", 10),
                ],
            },
            Plot {
                file: "transports-idle",
                title: "Transports that wait",
                unit: "CPU time of all, µs a second",
                series: &[
                    grows("idle", "client", 10),
                    grows("idle_broker", "broker", 100),
                ],
            },
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::AXES;

    #[test]
    fn no_two_plots_have_one_file() {
        let files: Vec<&str> = AXES
            .iter()
            .flat_map(|axis| axis.plots)
            .map(|plot| plot.file)
            .collect();
        assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), files.len());
    }

    #[test]
    fn every_line_has_two_points_to_be_judged_by_even_in_a_short_run() {
        for axis in AXES {
            for series in axis.plots.iter().flat_map(|plot| plot.series) {
                let judged = axis.short.iter().filter(|x| **x >= series.from).count();
                assert!(judged >= 2, "{} {}", axis.name, series.key);
            }
        }
    }
}
