//! Macros of oslo-messaging, which re-exports them: see [`macro@endpoint`], [`macro@listener`], [`macro@client`] and
//! [`macro@RemoteError`].

mod client;
mod endpoint;
mod faults;
mod listener;
mod remote;
mod types;

use proc_macro::TokenStream;

#[doc = include_str!("../README.md")]
#[proc_macro_attribute]
pub fn endpoint(attribute: TokenStream, block: TokenStream) -> TokenStream {
    endpoint::expand(attribute.into(), block.into()).into()
}

#[doc = include_str!("../LISTENER.md")]
#[proc_macro_attribute]
pub fn listener(attribute: TokenStream, block: TokenStream) -> TokenStream {
    listener::expand(attribute.into(), block.into()).into()
}

#[doc = include_str!("../REMOTE_ERROR.md")]
#[proc_macro_derive(RemoteError, attributes(remote))]
pub fn remote_error(input: TokenStream) -> TokenStream {
    remote::expand(input.into()).into()
}

#[doc = include_str!("../CLIENT.md")]
#[proc_macro_attribute]
pub fn client(attribute: TokenStream, description: TokenStream) -> TokenStream {
    client::expand(attribute.into(), description.into()).into()
}
