//! State without a task: calls in flight, ids seen, queues gone, delays. Time is passed in as `now`.

pub mod backoff;
pub mod calls;
pub mod dedup;
mod hash;
pub mod obsolete;
