//! `#[derive(RemoteError)]`: from an error type to the code that reads it from a remote exception and sends it as one.

mod attribute;
mod parse;
mod render;

use proc_macro2::TokenStream;
use syn::DeriveInput;

use self::parse::Subject;

/// Expands the derive; all faults of a type are reported together.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let subject = syn::parse2::<DeriveInput>(input).and_then(|input| Subject::read(&input));
    match subject {
        Ok(subject) => render::implementations(&subject),
        Err(error) => error.into_compile_error(),
    }
}
