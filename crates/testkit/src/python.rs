//! Servers and clients of Python's oslo.messaging, driven from a test.

/// The Python interpreter whose environment holds oslo.messaging.
pub const PYTHON_VARIABLE: &str = "OSLO_TEST_PYTHON";
