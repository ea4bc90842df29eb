//! `#[client]`: from a trait that describes a remote interface to a struct that calls it.

mod parse;
mod render;

use proc_macro2::TokenStream;
use syn::ItemTrait;

use self::parse::{Api, Header};

/// Expands the macro. The trait itself is not printed: it describes, and nobody implements it.
pub(crate) fn expand(attribute: TokenStream, description: TokenStream) -> TokenStream {
    let description: ItemTrait = match syn::parse2(description.clone()) {
        Ok(description) => description,
        Err(_) => {
            let text = "#[client] goes on a trait whose methods are those of the remote interface";
            return syn::Error::new_spanned(&description, text).into_compile_error();
        }
    };
    let header = syn::parse2::<Header>(attribute);
    let api = Api::read(description);
    match (header, api) {
        (Ok(header), Ok(api)) => render::client(&header, &api),
        (Err(mut one), Err(two)) => {
            one.combine(two);
            one.into_compile_error()
        }
        (Err(error), _) | (_, Err(error)) => error.into_compile_error(),
    }
}

#[cfg(test)]
mod tests;
