//! Macros of oslo-messaging, which re-exports them: see [`macro@endpoint`].

mod endpoint;

use proc_macro::TokenStream;

#[doc = include_str!("../README.md")]
#[proc_macro_attribute]
pub fn endpoint(attribute: TokenStream, block: TokenStream) -> TokenStream {
    endpoint::expand(attribute.into(), block.into()).into()
}
