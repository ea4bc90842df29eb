//! oslo.messaging without a broker: RPC client and server, dispatch, and the in-memory driver.

pub mod driver;
pub mod error;
