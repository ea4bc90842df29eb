//! Test helpers of oslo-messaging: vectors, real brokers, Python peers, conformance
