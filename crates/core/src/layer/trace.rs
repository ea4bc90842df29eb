//! A trace as it travels: the W3C trace context in a request's own context, `traceparent` and `tracestate` (parity TC1, TC2).
//!
//! Written and read as OpenTelemetry's default propagator does it for the reference. Draws ids of spans; makes no spans and
//! exports none: that is the business of `tracing` and of whoever subscribes to it.

use std::fmt;
use std::future::Future;

use oslo_messaging_proto::wire::context::Context;

/// Keys of the context.
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// More of a state is not carried on (W3C asks for 512 at least).
const LONGEST_STATE: usize = 8192;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// One span of a trace, as far as others need to know it.
///
/// ```
/// use oslo_messaging_core::layer::trace::TraceContext;
///
/// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let parent = TraceContext::parse(text).unwrap();
/// assert_eq!(parent.to_string(), text);
/// let child = parent.child();
/// assert_eq!(child.trace_id(), parent.trace_id());
/// assert_ne!(child.span_id(), parent.span_id());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    span_id: u64,
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// A new trace, to be recorded.
    ///
    /// ```
    /// use oslo_messaging_core::layer::trace::TraceContext;
    ///
    /// assert!(TraceContext::root().is_sampled());
    /// ```
    pub fn root() -> Self {
        Self {
            trace_id: fastrand::u128(1..),
            span_id: fastrand::u64(1..),
            flags: 1,
            state: None,
        }
    }

    /// Another span of the same trace.
    ///
    /// ```
    /// use oslo_messaging_core::layer::trace::TraceContext;
    ///
    /// let root = TraceContext::root();
    /// assert_eq!(root.child().trace_id(), root.trace_id());
    /// ```
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: fastrand::u64(1..),
            ..self.clone()
        }
    }

    /// Reads a `traceparent`; `None` for one that W3C calls invalid.
    ///
    /// ```
    /// use oslo_messaging_core::layer::trace::TraceContext;
    ///
    /// assert!(TraceContext::parse("00-00000000000000000000000000000000-b7ad6b7169203331-01").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('-');
        let version = hex(parts.next()?, 2)?;
        let trace_id = hex(parts.next()?, 32)?;
        let span_id = u64::try_from(hex(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hex(parts.next()?, 2)?).ok()?;
        // Later versions may say more; the first does not, and 255 is none.
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self {
            trace_id,
            span_id,
            flags,
            state: None,
        })
    }

    /// The trace of a request's context, if it has one.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::layer::trace::TraceContext;
    ///
    /// let mut context = Context::new();
    /// let trace = TraceContext::root();
    /// trace.inject(&mut context);
    /// assert_eq!(TraceContext::extract(&context), Some(trace));
    /// ```
    pub fn extract(context: &Context) -> Option<Self> {
        let parent: String = context.get(PARENT)?.ok()?;
        let mut this = Self::parse(&parent)?;
        let state: Option<String> = context.get(STATE).and_then(Result::ok);
        this.state = state.filter(|state| !state.is_empty() && state.len() <= LONGEST_STATE);
        Some(this)
    }

    /// Writes it into a request's context.
    ///
    /// ```
    /// use oslo_messaging_core::context::Context;
    /// use oslo_messaging_core::layer::trace::TraceContext;
    ///
    /// let mut context = Context::new();
    /// TraceContext::root().inject(&mut context);
    /// assert!(context.raw("traceparent").is_some());
    /// ```
    pub fn inject(&self, context: &mut Context) {
        // Text can always be written.
        let _ = context.insert(PARENT, &self.to_string());
        if let Some(state) = &self.state {
            let _ = context.insert(STATE, state);
        }
    }

    /// The id of the trace, 32 hexadecimal digits when written.
    ///
    /// ```
    /// # use oslo_messaging_core::layer::trace::TraceContext;
    /// assert_ne!(TraceContext::root().trace_id(), 0);
    /// ```
    pub fn trace_id(&self) -> u128 {
        self.trace_id
    }

    /// The id of the span, 16 hexadecimal digits when written.
    ///
    /// ```
    /// # use oslo_messaging_core::layer::trace::TraceContext;
    /// assert_ne!(TraceContext::root().span_id(), 0);
    /// ```
    pub fn span_id(&self) -> u64 {
        self.span_id
    }

    /// Whether whoever began the trace records it.
    ///
    /// ```
    /// # use oslo_messaging_core::layer::trace::TraceContext;
    /// let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    /// assert!(!TraceContext::parse(text).unwrap().is_sampled());
    /// ```
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

/// As `traceparent` has it.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
            ..
        } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

/// The trace of this task: inside of a handler the span of its request. What is sent from here becomes a child of it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use oslo_messaging_core::layer::trace::{TraceContext, current, in_trace};
///
/// assert_eq!(current(), None);
/// let trace = TraceContext::root();
/// assert_eq!(in_trace(trace.clone(), async { current() }).await, Some(trace));
/// # }
/// ```
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs a future within a trace: for services that have one from elsewhere, such as the headers of an HTTP request.
///
/// # Cancellation
/// As the future itself.
///
/// ```
/// # async fn doc(client: oslo_messaging_core::rpc::RpcClient) {
/// use oslo_messaging_core::context::Context;
/// use oslo_messaging_core::layer::trace::{TraceContext, in_trace};
///
/// let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// if let Some(trace) = TraceContext::parse(header) {
///     let _ = in_trace(trace, client.cast(&Context::new(), "forget", ())).await;
/// }
/// # }
/// ```
pub fn in_trace<F: Future>(trace: TraceContext, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(trace, future)
}

/// So many lower-case hexadecimal digits as a number.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != digits || !text.bytes().all(is_digit) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_w3c_calls_valid_is_read() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(TraceContext::parse(good).is_some());
        assert!(TraceContext::parse(&good.replacen("00", "cc", 1)).is_some());
        assert!(TraceContext::parse(&format!("{}-more", good.replacen("00", "01", 1))).is_some());
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_state_travels_along() {
        let mut context = Context::new();
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        context.insert(PARENT, text).expect("text");
        context.insert(STATE, "vendor=1").expect("text");
        let child = TraceContext::extract(&context).expect("a trace").child();
        let mut further = Context::new();
        child.inject(&mut further);
        let state: String = further.get(STATE).expect("a state").expect("text");
        assert_eq!(state, "vendor=1");
        context.insert(PARENT, &7).expect("a number");
        assert_eq!(TraceContext::extract(&context), None);
    }
}
