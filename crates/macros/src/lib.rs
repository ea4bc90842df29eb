#![doc = include_str!("../README.md")]

mod endpoint;

use proc_macro::TokenStream;

/// Prints an `impl Endpoint` for the methods of an `impl` block; see the [crate](crate) page for what
/// it understands.
///
/// The block itself is kept, without the attributes meant for this macro.
#[proc_macro_attribute]
pub fn endpoint(attribute: TokenStream, block: TokenStream) -> TokenStream {
    endpoint::expand(attribute.into(), block.into()).into()
}
