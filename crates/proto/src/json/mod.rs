//! JSON as oslo.messaging writes and reads it (wire spec 6.2 and 6.3).
//!
//! Python's JSON is wider than the standard: `NaN`, infinities, integers of any size, lone surrogates. It also has one
//! exact written form. No general JSON library reads the first and writes the second straight into an escaped
//! envelope, hence this one. It is a `serde` format like any other.

pub mod de;
pub mod error;
pub mod kind;
pub(crate) mod members;
mod nesting;
pub mod number;
pub mod raw;
mod runs;
pub(crate) mod scan;
pub mod ser;
pub(crate) mod text;
mod unescape;
pub mod value;
pub(crate) mod write;
