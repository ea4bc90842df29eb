//! `#[listener]`: from attribute and block to the block and its `impl NotificationEndpoint`.

mod attribute;
mod parse;
mod render;

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemImpl;

use self::attribute::Header;
use self::parse::Block;

/// Expands the macro; errors stand beside the block, so that the rest of the crate still compiles.
pub(crate) fn expand(attribute: TokenStream, block: TokenStream) -> TokenStream {
    let mut block: ItemImpl = match syn::parse2(block.clone()) {
        Ok(block) => block,
        Err(_) => {
            let text = "#[listener] goes on an `impl` block of a type";
            let error = syn::Error::new_spanned(&block, text).into_compile_error();
            return quote!(#error #block);
        }
    };
    let header = syn::parse2::<Header>(attribute);
    let parsed = Block::take(&mut block);
    let implementation = match (header, parsed) {
        (Ok(header), Ok(parsed)) => render::listener(&header, &parsed),
        (Err(mut one), Err(two)) => {
            one.combine(two);
            one.into_compile_error()
        }
        (Err(error), _) | (_, Err(error)) => error.into_compile_error(),
    };
    quote!(#block #implementation)
}
