//! The wire of oslo.messaging: messages, URLs and pure state, without I/O
